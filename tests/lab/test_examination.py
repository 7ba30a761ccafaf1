"""`transfuse doctor RUN` names the fault that was planted in a run, and finds none in a run that is well."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transfuse.registry import Registry
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import Batch
from transfuse.training import Trainer
from transfuse.training import trainer as trainer_module
from transfuse.training.ema import EMA
from transfuse_diffusion.ddpm import DDPM
from transfuse_lab.datasets import data_section, open_section
from transfuse_lab.runs.examination import examine_run
from transfuse_lab.runs.training import train

from tests.tiny.recipes import RUNGS, rung_settings

STEPS = 60
Patch = pytest.MonkeyPatch


@pytest.fixture
def run_of(
    tmp_path: Path, installed: Plugins, data_argument: str, small_recipe: Callable
) -> Callable[..., Path]:
    def run(*settings: str, data: str = data_argument, recipe: str = "transfusion") -> Path:
        section = data_section(data, installed)
        made = small_recipe(recipe, f"train.steps={STEPS}", "train.ema=0.9", "train.look_ahead=4", *settings)
        folder = tmp_path / "run"
        train(made, open_section(section, installed), section, folder, installed, report=lambda line: None)
        return folder

    return run


def leaking(patch: Patch) -> list[str]:
    real = Trainer.check_mask
    patch.setattr(Trainer, "check_mask", lambda self: None if not self.progress.step else real(self))
    return ["mask=same(doc)"]


def shifted(patch: Patch) -> list[str]:
    real = Trainer.batch

    def batch(self: Trainer, row: Any) -> Batch:
        made = real(self, row)
        own = made.tokens[made.predicted]
        return replace(made, targets=torch.where(own >= 0, own, made.targets))

    patch.setattr(Trainer, "batch", batch)
    return []


def noise_only(patch: Patch) -> list[str]:
    real = DDPM.corrupt

    def corrupt(self: DDPM, clean: torch.Tensor, *rest: Any) -> Any:
        _, t, target = real(self, clean, *rest)
        return torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)), t, target

    patch.setattr(DDPM, "corrupt", corrupt)
    return []


def dead_average(patch: Patch) -> list[str]:
    patch.setattr(EMA, "update", lambda self: None)
    return []


def frozen(patch: Patch) -> list[str]:
    real = trainer_module.freeze

    def freeze(model: Any, *rest: Any) -> None:
        real(model, *rest)
        model.backbone.requires_grad_(False)

    patch.setattr(trainer_module, "freeze", freeze)
    return []


def exploding(patch: Patch) -> list[str]:
    real = Trainer.step

    def step(self: Trainer) -> dict[str, float]:
        measured = real(self)
        return {
            **measured,
            "grad_norm": measured["grad_norm"] * max(1.0, 2.0 ** (self.progress.step - STEPS // 2)),
        }

    patch.setattr(Trainer, "step", step)
    return []


def unweighed(patch: Patch) -> list[str]:
    return ["loss.image=0"]


def not_finite(patch: Patch) -> list[str]:
    real = Trainer.batch

    def batch(self: Trainer, row: Any) -> Batch:
        made = real(self, row)
        if self.progress.step != 7:
            return made
        groups = (replace(g, x_t=g.x_t * torch.inf) for g in made.groups)
        return replace(made, groups=tuple(groups))

    patch.setattr(Trainer, "batch", batch)
    return []


PLANTED = {
    "leaking mask": leaking,
    "shifted targets": shifted,
    "noise only": noise_only,
    "dead EMA": dead_average,
    "frozen": frozen,
    "exploding norm": exploding,
    "λ missing": unweighed,
    "steps skipped": not_finite,
}


def never_predicted(folder: Path) -> list[str]:
    documents = [
        {"items": [{"text": f"number {i}"}, {"image": f"train-{i}.png", "loss": False}]} for i in range(8)
    ]
    (folder / "documents.jsonl").write_text("\n".join(map(json.dumps, documents)))
    return []


def one_again_and_again(folder: Path) -> list[str]:
    lines = []
    for i in range(8):
        (folder / f"train-{i}.png").write_bytes((folder / "train-0.png").read_bytes())
        lines.append(json.dumps({"image": f"train-{i}.png", "caption": "up", "split": "train"}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return ["train.drop=0"]


IN_DATA = {"dead modality": never_predicted, "data repeated": one_again_and_again}
"""Faults of the data, a folder that they are planted in."""


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_planted(name: str, run_of: Callable[..., Path], installed: Plugins, monkeypatch: Patch) -> None:
    folder = run_of(*PLANTED[name](monkeypatch))
    if name != "noise only":  # which stands in what is used, not in what was left
        monkeypatch.undo()
    found = examine_run(folder, installed)
    assert name in {symptom.name for symptom in found}, found


@pytest.mark.parametrize("name", IN_DATA)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_planted_in_the_data(
    name: str, run_of: Callable[..., Path], installed: Plugins, tmp_path: Path, pictures: Path
) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(8):
        (folder / f"train-{i}.png").write_bytes((pictures / f"train-{i}.png").read_bytes())
    run = run_of(*IN_DATA[name](folder), data=f"{folder};channels=1")
    assert name in {symptom.name for symptom in examine_run(run, installed)}


def test_the_page_lists_what_is_planted() -> None:
    page = (Path(__file__).parents[2] / "docs/diagnosing.md").read_text(encoding="utf-8")
    rows = page.partition("| planted |")[2].partition("\n\n")[0].splitlines()[2:]
    assert [row.split("|")[2].strip().strip("`") for row in rows] == [*PLANTED, *IN_DATA]


def test_a_run_that_is_well(run_of: Callable[..., Path], installed: Plugins, cli: Callable) -> None:
    folder = run_of()
    assert examine_run(folder, installed) == []
    done = cli("doctor", folder)
    assert done.exit_code == 0
    assert "nothing is wrong" in done.stdout
    log = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines[-10:]:
        line["grad_norm"] *= 1000
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = cli("doctor", folder)
    assert done.exit_code == 1
    assert "exploding norm" in done.stdout
    assert np.isfinite(lines[-1]["grad_norm"])


@pytest.mark.parametrize("recipe", ["transfusion-unet", "chameleon"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_other_recipes_are_well_too(
    recipe: str, run_of: Callable[..., Path], installed: Plugins, tmp_path: Path
) -> None:
    assert examine_run(run_of(recipe=recipe), installed) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNGS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_ladders_recipes_are_well(name: str, tmp_path: Path) -> None:
    ladder = Registry.open("ladder")
    section = data_section("scenes", ladder.plugins)
    data = open_section(section, ladder.plugins)
    recipe = ladder.recipe(
        name, [*rung_settings(ladder, name), f"train.steps={STEPS}", "train.ema=0.9"], "scenes"
    )
    train(recipe, data, section, tmp_path / "run", ladder.plugins, report=lambda line: None)
    assert examine_run(tmp_path / "run", ladder.plugins) == []
