"""A run grows: begun from one with fewer roles, it forgets nothing, renumbers nothing, and may train what is new alone.

The run has text and pictures; series, a role of the package tests/packages/tf_series, join it.
"""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.datasets import restrict
from transfuse.errors import TransfuseError
from transfuse.generation import generate
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.training import Inherited, Trainer
from transfuse.training.growing import HeldRows
from transfuse_lab.datasets import open_section
from transfuse_lab.evaluation.losses import losses
from transfuse_lab.runs.training import open_run, train

from tests.tiny.packages import install

TINY = (
    "model.dim=32",
    "model.layers=2",
    "model.heads=2",
    "train.steps=3",
    "train.budget=160",
    "train.lr=0.01",
)
SECTION = {"name": "series-pictures", "train": 40, "heldout": 8}
OWN = ("model.block.name=per-modality", "model.block.own=[series]")
BLOCKS = {
    "shared": (),
    "series' own, drawn": OWN,
    "series' own, copied": (*OWN, "model.block.start=copied"),
    "each its own": ("model.block=per-modality",),
}
FROZEN = "train.lr_scale.inherited=0"


class Lab:
    """Recipes, data and runs of the package, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.registry = folder, Registry.open()
        self.data = open_section(SECTION, self.registry.plugins)
        self.said: list[str] = []
        self.first = cache(self._first)

    def recipe(self, *overrides: str) -> Recipe:
        return self.registry.recipe("series-pictures", [*TINY, *overrides], self.data.name)

    def train(self, folder: Path, *overrides: str, start: Path | None = None, **more: Any) -> Trainer:
        recipe = self.recipe(*overrides)
        plugins = self.registry.plugins
        return train(
            recipe, self.data, SECTION, folder, plugins, report=self.said.append, start=start, **more
        )

    def _first(self, *overrides: str) -> Path:
        """A run of text and pictures."""
        out = self.folder / f"first {len(list(self.folder.iterdir()))}"
        self.train(out, "series=null", *overrides)
        return out

    def begun(self, folder: Path, *overrides: str, start: Path | None = None) -> Model:
        """The model of a run that begins from the first, before its first step."""
        recipe, run = self.recipe(*overrides), RunFolder(folder)
        plugins, start = self.registry.plugins, start or self.first()
        return open_run(recipe, self.data, SECTION, run, plugins, self.said.append, start=start).model

    def old_losses(self, model: Model) -> dict[str, float]:
        """What the model says of held-out documents of text and pictures."""
        data = restrict(self.data, ("text", "image"))
        found = losses(model.eval(), [data.document("test", i) for i in range(data.size("test"))])
        return {role: found[role].total for role in ("text", "image")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        install("tf_series", tmp_path_factory.mktemp("site"), patch)
        yield Lab(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("block", BLOCKS)
def test_losses_of_its_roles_are_the_same_bits(lab: Lab, block: str, tmp_path: Path) -> None:
    _, old = RunFolder(lab.first()).load(lab.registry.plugins)
    new = lab.begun(tmp_path / "run", *BLOCKS[block])
    before, after = lab.old_losses(old), lab.old_losses(new)
    if block == "each its own":  # pictures' positions are multiplied apart from text's
        assert after == pytest.approx(before, rel=1e-5)
    else:
        assert after == before


def test_ids_keep_their_numbers_and_new_ones_follow(lab: Lab, tmp_path: Path) -> None:
    before = RunFolder(lab.first()).description["vocabulary"]
    lab.begun(tmp_path / "run")
    after = RunFolder(tmp_path / "run").description["vocabulary"]
    assert after[: len(before)] == before
    assert [one["name"] for one in after[len(before) :]] == ["series_markers"]
    assert "text, image go on; new are series, and 3 ids" in lab.said[-1]


def test_a_new_begin_marker_cannot_be_predicted_before_it_was_a_target(lab: Lab, tmp_path: Path) -> None:
    new = lab.begun(tmp_path / "run")
    ids = Inherited.of(RunFolder(tmp_path / "run").description["inherited"]).ids
    assert not new.predictable[ids:].any()
    prompts = [lab.data.document("heldout", i) for i in range(8)]
    prompts = [type(one)(one.items[:1]) for one in prompts]
    made = generate(new.eval(), prompts, tokens=4, items=3)
    assert all(item.modality != "series" for document in made for item in document.items)
    trained = lab.train(tmp_path / "run").model
    markers = [trained.vocabulary.marker(f"<series {length}>") for length in (16, 24)]
    assert trained.predictable[markers].all()


@pytest.mark.parametrize("block", ["shared", "series' own, drawn"])
def test_what_is_inherited_stays_bit_for_bit_and_what_is_new_moves(
    lab: Lab, block: str, tmp_path: Path
) -> None:
    model = lab.begun(tmp_path / "run", *BLOCKS[block], FROZEN, "train.weight_decay=1")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = lab.train(tmp_path / "run", *BLOCKS[block], FROZEN, "train.weight_decay=1")
    assert trainer.progress.step == 3
    ids = trainer.inherited.ids
    for name, now in trainer.model.named_parameters():
        table, new = name.startswith(("tokens", "unembed")), "series" in name
        if table:
            assert torch.equal(now[:ids], before[name][:ids])
        assert torch.equal(now, before[name]) == (not (table or new)), name
    assert {
        p for name, p in trainer.model.named_parameters() if "series" not in name and "tokens" not in name
    } & set(trainer.optimizer.state) <= {trainer.model.unembed.weight}


@pytest.mark.parametrize("block", ["shared", "series' own, drawn"])
def test_frozen_it_loses_the_chance_that_it_gives_to_new_ids_and_nothing_else(
    lab: Lab, block: str, tmp_path: Path
) -> None:
    begun = lab.old_losses(lab.begun(tmp_path / "run", *BLOCKS[block], FROZEN))
    trainer = lab.train(tmp_path / "run", *BLOCKS[block], FROZEN)
    after = lab.old_losses(trainer.model)
    assert after["image"] == begun["image"]
    assert after["text"] > begun["text"]
    trainer.model.predictable[trainer.inherited.ids :] = False
    assert lab.old_losses(trainer.model) == begun


def test_a_run_that_froze_goes_on_as_if_it_had_not_stopped(lab: Lab, tmp_path: Path) -> None:
    sets = (*OWN, FROZEN, "train.ema=0.9")
    whole = lab.train(tmp_path / "whole", *sets, "train.steps=6", start=lab.first())
    lab.begun(tmp_path / "parts", *sets, "train.steps=6")
    recipe, run = lab.recipe(*sets, "train.steps=6"), RunFolder(tmp_path / "parts")
    some = open_run(recipe, lab.data, SECTION, run, lab.registry.plugins, lab.said.append)
    for _ in range(3):
        some.step()
    some.save(run)
    rest = lab.train(tmp_path / "parts", *sets, "train.steps=6")
    for (name, one), (_, other) in zip(
        whole.model.named_parameters(), rest.model.named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name
    _, loaded = RunFolder(tmp_path / "parts").load(lab.registry.plugins)
    assert lab.old_losses(loaded).keys() == {"text", "image"}


def test_rows_take_a_share_of_each_step() -> None:
    table = torch.nn.Parameter(torch.zeros(3, 2))
    table.grad = torch.ones(3, 2)
    held = HeldRows([table], 2, 0.25)
    held.before_step()
    with torch.no_grad():
        table -= table.grad
    held.after_step()
    assert table.tolist() == [[-0.25, -0.25], [-0.25, -0.25], [-1, -1]]


def test_a_role_may_begin_with_what_the_language_model_has_learnt(lab: Lab, tmp_path: Path) -> None:
    for start, same in (("copied", True), ("fresh", False)):
        model = lab.begun(tmp_path / start, *OWN, f"model.block.start={start}")
        text = dict(model.backbone.weights("text"))
        own = dict(model.backbone.weights("series"))
        assert not {id(p) for p in text.values()} & {id(p) for p in own.values()}
        assert all(torch.equal(p, text[name]) for name, p in own.items() if p.dim() == 2) == same
        assert dict(model.backbone.weights("image")).keys() == text.keys()
        assert all(p is text[name] for name, p in model.backbone.weights("image"))


def test_the_data_need_hold_nothing_of_what_is_inherited(lab: Lab, tmp_path: Path, cli: Callable) -> None:
    section = {"name": "series", "train": 40, "heldout": 8}
    data = open_section(section, lab.registry.plugins)
    trainer = open_run(
        lab.recipe(FROZEN), data, section, RunFolder(tmp_path / "run"), lab.registry.plugins, lab.said.append,
        start=lab.first(),
    )  # fmt: skip
    assert set(trainer.model.modalities) == {"text", "image", "series"}
    assert "loss_series" in trainer.step()
    sets = [word for one in (*TINY, FROZEN) for word in ("--set", one)]
    told = cli(
        "train",
        "series-pictures",
        "--data",
        "series;train=40;heldout=8",
        "--from",
        lab.first(),
        "--dry-run",
        *sets,
    )
    assert told.exit_code == 0, told.stderr
    assert "image 0," in told.stdout  # none of its layers is trained


def test_averaged_weights_are_what_it_begins_with(lab: Lab, tmp_path: Path) -> None:
    first = lab.first("train.ema=0.5")
    _, averaged = RunFolder(first).load(lab.registry.plugins)
    assert lab.old_losses(lab.begun(tmp_path / "run", start=first)) == lab.old_losses(averaged)


def test_a_role_that_the_recipe_lacks_is_said_to_be_left_out(lab: Lab, tmp_path: Path) -> None:
    model = lab.begun(tmp_path / "run", "image=null")
    assert set(model.modalities) == {"text", "series"}
    assert any(line.endswith("image is left out: not in the recipe") for line in lab.said)


def test_each_its_own_does_not_become_shared(lab: Lab, tmp_path: Path) -> None:
    first = lab.first("model.block=per-modality")
    with pytest.raises(
        TransfuseError, match=r"model.block.* there 'image' has weights of its own, and here it shares"
    ):
        lab.begun(tmp_path / "run", start=first)
    lab.begun(tmp_path / "again", "model.block=per-modality", start=first)


@pytest.mark.parametrize(
    ("sets", "fault"),
    [
        (
            ("model.dim=64",),
            r"--from .*: model.dim is 32 there and 64 here: say --set model.dim=32, or begin without",
        ),
        (
            ("text=null", "image=null"),
            r"its roles are text, image, and the recipe has none of them: name one",
        ),
        (("series=null", FROZEN), r"train.lr_scale.inherited=0 leaves nothing to train"),
        (
            ("image.patcher.patch=2",),
            r"records 2 ids of 'image_markers'.*: image.patcher.patch \(there 4, here 2\); set these as that run",
        ),
        (
            ("image.patcher.name=unet", "image.patcher.width=8", "image.patcher.patch=4"),
            r"role 'image': the weights .* are missing there .*patcher.name \(there 'linear', here 'unet'\)",
        ),
        ((*OWN[:1], "model.block.own=[seriess]"), r"model.block.own names 'seriess'.* did you mean 'series'"),
    ],
)
def test_what_does_not_go_together_is_named_with_a_cure(
    lab: Lab, sets: tuple[str, ...], fault: str, tmp_path: Path
) -> None:
    with pytest.raises(TransfuseError, match=fault):
        lab.begun(tmp_path / "run", *sets)


def test_nothing_is_inherited_without_a_run_to_begin_from(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(
        TransfuseError, match=r"train.lr_scale.inherited: this model has no such weights; .*--from RUN"
    ):
        lab.train(tmp_path / "run", FROZEN)


def test_the_command_says_what_it_would_do(lab: Lab, cli: Callable) -> None:
    sets = [word for one in (*TINY, FROZEN, *OWN) for word in ("--set", one)]
    done = cli(
        "train", "series-pictures", "--data", "series-pictures;train=40;heldout=8", "--from", lab.first(),
        "--dry-run", *sets,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "frozen" in done.stdout
