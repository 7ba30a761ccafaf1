"""Parts that are frozen do not move by a bit, those with a factor learn at it, and a run of them resumes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transfuse.checkpoints import RunFolder
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins
from transfuse.training.parameter_groups import parameter_groups
from transfuse.training.trainer import Trainer
from transfuse_lab.runs.training import train

OWN = ("model.block=per-modality", "train.weight_decay=1")


def weights(trainer: Trainer, group: str) -> list[Tensor]:
    return [p.detach().clone() for p in parameter_groups(trainer.model)[group]]


def moved(trainer: Trainer, group: str, before: list[Tensor]) -> list[bool]:
    return [not torch.equal(a, b) for a, b in zip(before, weights(trainer, group), strict=True)]


@pytest.fixture
def trainer(small_recipe: Callable, fitted: Callable, shapes: Callable) -> Callable[..., Trainer]:
    data = shapes()

    def make(*overrides: str) -> Trainer:
        recipe = small_recipe("transfusion", "train.steps=4", *overrides)
        return Trainer(recipe, fitted(recipe, data), data)

    return make


@pytest.mark.parametrize(
    ("frozen", "parts"),
    [
        (("train.lr_scale.backbone=0",), {"backbone", "backbone.text", "backbone.image"}),
        (("train.lr_scale.backbone.text=0", "train.lr_scale.vocabulary=0"), {"backbone.text", "vocabulary"}),
        (("train.lr_scale.image=0",), {"image"}),
    ],
)
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_moves(
    trainer: Callable[..., Trainer], frozen: tuple[str, ...], parts: set[str]
) -> None:
    made = trainer(*OWN, *frozen)
    names = ("backbone.text", "backbone.image", "vocabulary", "image")
    before = {name: weights(made, name) for name in names}
    for _ in range(3):
        made.step()
    for name in names:
        assert any(moved(made, name, before[name])) == (name not in parts), name
        assert all(moved(made, name, before[name])) or name in (*parts, "image")  # its codec is frozen
    held = {id(p) for name in parts for p in parameter_groups(made.model)[name]}
    assert not held & {id(p) for p in made.optimizer.state}


def test_a_factor_on_the_rate_is_one_on_the_first_step(trainer: Callable[..., Trainer]) -> None:
    """Without weight decay AdamW's first step is the rate along each gradient's sign."""
    plain, slow = (
        trainer("train.weight_decay=0"),
        trainer("train.weight_decay=0", "train.lr_scale.backbone=0.1"),
    )
    before = weights(plain, "backbone")
    for made in (plain, slow):
        made.step()
    for old, one, two in zip(before, weights(plain, "backbone"), weights(slow, "backbone"), strict=True):
        assert torch.allclose(two - old, 0.1 * (one - old), atol=1e-6)
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights(plain, "vocabulary"), weights(slow, "vocabulary"), strict=True)
    )


def test_a_factor_on_the_gradient_acts_before_clipping(trainer: Callable[..., Trainer]) -> None:
    free = trainer("train.clip=1000000")
    scaled = trainer(
        "train.clip=1000000",
        *(f"train.grad_scale.{part}=0.5" for part in ("backbone", "vocabulary", "image")),
    )
    one, two = free.step(), scaled.step()
    assert two["grad_norm"] == pytest.approx(0.5 * one["grad_norm"], rel=1e-5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr_scale.backbon=0", r"train\.lr_scale\.backbon: .*no such weights; did you mean 'backbone'"),
        ("train.lr_scale.backbone.text=0", r"share the backbone's: model\.block=per-modality"),
        ("train.lr_scale.text=0", r"train\.lr_scale\.text: it has no weights of its own to train"),
        ("train.grad_scale.imag=2", r"train\.grad_scale\.imag: .*did you mean 'image'"),
        ("train.grad_scale.image=0", r"train\.grad_scale"),
        ("train.lr_scale.image=-1", r"train\.lr_scale"),
    ],
)
def test_an_unknown_part_or_factor_is_named(
    trainer: Callable[..., Trainer], override: str, message: str
) -> None:
    with pytest.raises(TransfuseError, match=message):
        trainer(override)


def test_a_run_with_frozen_parts_and_an_average_resumes_bit_for_bit(
    small_recipe: Callable,
    shapes: Callable,
    installed: Plugins,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = small_recipe(
        "transfusion", "train.steps=4", *OWN, "train.lr_scale.backbone.text=0", "train.lr_scale.image=0.5",
        "train.ema=0.9",
    )  # fmt: skip

    def begin(folder: Path) -> None:
        train(recipe, shapes(), {"name": "shapes"}, folder, installed, report=lambda line: None)

    begin(tmp_path / "whole")
    step = Trainer.step

    def dying(self: Trainer) -> dict[str, float]:
        if self.progress.step == 2:
            run = RunFolder(tmp_path / "cut")
            self.save(run)
            assert run.latest == run.path / "checkpoints/2"
            raise RuntimeError("power cut")
        return step(self)

    monkeypatch.setattr(Trainer, "step", dying)
    with pytest.raises(RuntimeError, match="power cut"):
        begin(tmp_path / "cut")
    monkeypatch.setattr(Trainer, "step", step)
    begin(tmp_path / "cut")
    for file in ("model", "optimizer", "ema"):
        one, two = (
            load_file(tmp_path / run / f"checkpoints/4/{file}.safetensors") for run in ("whole", "cut")
        )
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
        if file != "model":
            assert not any("experts.text" in key for key in one)
