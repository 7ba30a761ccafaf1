"""What only a GPU can show: a model there has the losses it has on the CPU, samples, and goes on on the other.

Run by `make test-gpu`. Where torch sees no CUDA device they are skipped, and tests/devices has what can be proved
without one.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transfuse.checkpoints import RunFolder
from transfuse.documents import Document, Item
from transfuse.generation import generate
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins
from transfuse.training import Trainer
from transfuse_lab.runs.training import open_run, train

from tests.tiny.datasets import Shapes
from tests.tiny.recipes import sets

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

GPU = "cuda"
RECIPES = {
    "transfusion": ("transfusion", ()),
    "U-Net": ("transfusion", ("image.patcher=unet", "image.patcher.width=8")),
    "experts": ("transfusion", ("model.block=per-modality",)),
    "chameleon": ("chameleon", ()),
}


@pytest.fixture(autouse=True)
def _in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch lets cuDNN's convolutions round to TF32, with which losses agree to three digits alone."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def trainer(small_recipe: Callable, fitted: Callable) -> Callable[..., Trainer]:
    """A trainer of a recipe of `RECIPES`, its model on a device."""

    def make(name: str, device: str, *more: str) -> Trainer:
        recipe_name, own = RECIPES[name]
        recipe = small_recipe(recipe_name, *own, *more)
        return Trainer(recipe, fitted(recipe, Shapes()).to(device), Shapes())

    return make


def close(a: dict[str, float], b: dict[str, float], share: float = 1e-4) -> bool:
    return a.keys() == b.keys() and all(abs(a[key] - b[key]) <= share * max(1, abs(b[key])) for key in a)


@pytest.mark.parametrize("attention", ["dense", "auto"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_step_has_the_losses_and_the_gradient_it_has_on_the_cpu(
    trainer: Callable, name: str, attention: str
) -> None:
    there = trainer(name, GPU, f"attention={attention}")
    here = trainer(name, "cpu", "attention=dense")
    measured = there.step()
    assert close(measured, here.step())
    assert {p.device.type for p in there.model.parameters()} == {GPU}
    assert there.progress.peak_memory > 0


@pytest.mark.parametrize("name", RECIPES)
def test_the_noise_and_the_batch_are_those_of_the_cpu(trainer: Callable, name: str) -> None:
    there, here = trainer(name, GPU), trainer(name, "cpu")
    a, b = there.batch(next(there.rows)), here.batch(next(here.rows))
    assert a.tokens.device.type == GPU
    assert torch.equal(a.tokens.cpu(), b.tokens)
    for one, other in zip(a.groups, b.groups, strict=True):
        assert torch.equal(one.t.cpu(), other.t)
        assert torch.allclose(one.x_t.cpu(), other.x_t, atol=1e-4)


@pytest.mark.parametrize("name", ["transfusion", "U-Net", "experts"])
def test_samples_are_those_of_the_cpu(trainer: Callable, name: str) -> None:
    prompts = [Document((Item("text", text, droppable=True),)) for text in ("up", "down")]

    def made(device: str) -> list[np.ndarray]:
        trained = trainer(name, "cpu")
        trained.step()
        model: Model = trained.model.to(device)
        return [document.items[-1].data for document in generate(model, prompts, want="image", seed=1)]

    for there, here in zip(made(GPU), made("cpu"), strict=True):
        assert np.allclose(there, here, atol=1e-3)


def test_codes_are_drawn(trainer: Callable) -> None:
    trained = trainer("chameleon", GPU)
    trained.step()
    (document,) = generate(trained.model, [Document((Item("text", "up"),))], want="image")
    assert document.items[-1].data.shape == (1, 8, 8)


@pytest.mark.parametrize(("first", "then"), [(GPU, "cpu"), ("cpu", GPU)])
def test_a_run_goes_on_on_the_other_device(
    small_recipe: Callable, installed: Plugins, tmp_path: Path, first: str, then: str
) -> None:
    recipe, section = small_recipe("transfusion", "train.ema=0.9", "train.steps=3"), {"name": "shapes"}

    def opened(folder: Path, device: str) -> Trainer:
        run, quiet = RunFolder(folder), lambda line: None
        return open_run(recipe, Shapes(), section, run, installed, quiet, device=device)

    begun = opened(tmp_path, first)
    for _ in range(2):
        begun.step()
    begun.save(RunFolder(tmp_path))
    gone_on = opened(tmp_path, then)
    assert gone_on.progress.step == 2
    assert {p.device.type for p in gone_on.model.parameters()} == {then}
    assert {s["exp_avg"].device.type for s in gone_on.optimizer.state.values()} == {then}
    assert gone_on.ema is not None
    assert {t.device.type for t in gone_on.ema.tensors().values()} == {then}
    assert close(gone_on.step(), begun.step(), 1e-3)
    with gone_on.averaged_weights():
        assert all(p.isfinite().all() for p in gone_on.model.parameters())


def test_a_run_in_a_folder(small_recipe: Callable, installed: Plugins, tmp_path: Path) -> None:
    recipe = small_recipe("chameleon")
    done = train(
        recipe, Shapes(), {"name": "shapes"}, tmp_path, installed, report=lambda line: None, device=GPU
    )
    assert done.progress.step == recipe.train.steps
    assert RunFolder(tmp_path).load(installed)[1].tokens.weight.device.type == "cpu"


def test_the_commands(cli: Callable, tmp_path: Path) -> None:
    run = tmp_path / "run"
    told = cli("train", "transfusion", "--data", "digits", "--out", run, "--device", "auto", *sets())
    assert told.exit_code == 0, told.output
    assert "device: cuda:0 (" in told.output
    assert cli("sample", run, "--prompt", "seven", "--out", tmp_path / "seven.png").exit_code == 0
    told = cli("eval", run, "--prompts", "4", "--device", "cuda:0")
    assert told.exit_code == 0, told.output
    told = cli("compare", "transfusion", "--data", "digits", "--seeds", "0", "--out", tmp_path / "both",
               *sets("transfusion", "train.flops=1e8"))  # fmt: skip
    assert told.exit_code == 0, told.output
    assert "at once, on cuda:0" in told.output
