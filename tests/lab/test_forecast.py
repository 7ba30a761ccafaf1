"""Minutes and room are told before anything costs: by a trial that leaves nothing, and says that it is an estimate."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from transfuse.checkpoints import RunFolder
from transfuse.errors import TransfuseError
from transfuse.modalities.codec import GridModality
from transfuse.model.build import build_model
from transfuse.registry.plugins import Plugins
from transfuse.training import Trainer
from transfuse_lab.output_paths import check_room
from transfuse_lab.runs import forecast, survey
from transfuse_lab.runs.forecast import CHECKPOINTS, in_time, of_codecs, of_training
from transfuse_lab.runs.training import train

from tests.tiny.recipes import sets

LINE = "on this machine (an estimate, from a trial of a few steps)"


class Usage(NamedTuple):
    free: int


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with a thousand bytes left."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1000))


def surveyed(recipe: Any, data: Any) -> survey.Surveyed:
    return survey.survey(recipe, data, lambda line: None)


def test_the_seconds_of_a_codec_are_those_of_its_steps_and_of_all_raw_data(
    small_recipe: Callable, shapes: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that a step moves by 5, and each image by 2; and what comes once, before the first step, by 7."""
    now, steps, efforts = [0.0], 400, list[float]()

    def fit(self: GridModality, raws: Any, seed: int, report: Any, effort: float = 1.0) -> None:
        efforts.append(effort)
        now[0] += 5 * round(effort * steps) + 2 * len(raws) + 7 * (effort > 0)

    found = surveyed(
        small_recipe("transfusion", f"image.codec.steps={steps}", pixels=False), shapes(train=500)
    )
    monkeypatch.setattr(GridModality, "fit", fit)
    monkeypatch.setattr(forecast.time, "monotonic", lambda: now[0])
    assert of_codecs(found).seconds == pytest.approx(5 * steps + 2 * 500 + 7)
    assert max(efforts) * steps <= 10


@pytest.mark.parametrize("budget", ["train.steps=500", "train.flops=1e12"])
def test_the_seconds_of_training_are_its_steps_times_one(
    small_recipe: Callable, shapes: Callable, installed: Plugins, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    now, step = [0.0], Trainer.step

    def timed(self: Trainer) -> dict[str, float]:
        now[0] += 20.0 if not self.progress.step else 0.25
        return step(self)

    found = surveyed(small_recipe("transfusion", budget), shapes())
    monkeypatch.setattr(Trainer, "step", timed)
    monkeypatch.setattr(forecast.time, "monotonic", lambda: now[0])
    seconds = of_training(found, installed).seconds
    if budget == "train.steps=500":
        assert seconds == pytest.approx(0.25 * 500)
    else:
        trainer = Trainer(found.recipe, build_model(found.recipe, found.modalities, installed), found.data)
        for _ in range(3):
            step(trainer)
        assert seconds == pytest.approx(0.25 * 1e12 / (trainer.progress.flops / 3), rel=0.1)


@pytest.mark.parametrize("more", [(), ("train.ema=0.9",)])
def test_the_room_is_what_checkpoints_take(
    small_recipe: Callable, shapes: Callable, installed: Plugins, tmp_path: Path, more: tuple[str, ...]
) -> None:
    recipe, data = small_recipe("transfusion", *more), shapes()
    size = of_training(surveyed(recipe, data), installed).size
    train(recipe, data, {"name": "shapes"}, tmp_path, installed, report=lambda line: None)
    checkpoint = RunFolder(tmp_path).latest
    assert checkpoint is not None
    written = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    assert size <= CHECKPOINTS * written <= 1.2 * size


def test_a_trial_changes_nothing_of_the_run(
    small_recipe: Callable, shapes: Callable, installed: Plugins, tmp_path: Path
) -> None:
    recipe, data = small_recipe("transfusion", pixels=False), shapes()

    def ready(found: survey.Surveyed) -> None:
        of_codecs(found), of_training(found, installed)

    logs = []
    for name, tried in (("a", None), ("b", ready)):
        folder = tmp_path / name
        train(recipe, data, {"name": "shapes"}, folder, installed, report=lambda line: None, ready=tried)
        logs.append((folder / "metrics.jsonl").read_text())
    assert logs[0] == logs[1]


def test_time_as_people_say_it() -> None:
    assert [in_time(seconds) for seconds in (3, 95, 3700, 9000)] == [
        "less than a minute", "about 2 minutes", "about 62 minutes", "about 2.5 hours",
    ]  # fmt: skip


@pytest.mark.usefixtures("full")
def test_room_is_asked_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    check_room("--out", tmp_path / "a" / "b", 1000)
    with pytest.raises(
        TransfuseError, match=r"--out .*b: 1\.5 MB are needed .* 1 kB are free: make room, or give"
    ):
        check_room("--out", tmp_path / "a" / "b", 1_500_000)


def test_a_run_goes_on_only_where_another_checkpoint_has_room(
    cli: Callable, data_argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (
        "train",
        "transfusion",
        "--data",
        data_argument,
        "--out",
        tmp_path / "run",
        *sets("transfusion"),
    )
    assert cli(*command, "--set", "train.steps=1").exit_code == 0
    before = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda place: Usage(1000))
        told = cli(*command, "--set", "train.steps=2")
    assert told.exit_code == 2
    assert "1 kB are free: make room" in told.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert cli(*command, "--set", "train.steps=2").exit_code == 0


COMMANDS = {
    "train": ("train", "transfusion", *sets("transfusion", pixels=False)),
    "train-codec": ("train-codec", "transfusion", *sets("transfusion", pixels=False)),
    "compare": (
        "compare",
        "transfusion",
        "--seeds",
        "0",
        *sets("transfusion", "train.flops=1e8", pixels=False),
    ),
}


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_full_disk_is_told_before_anything_costs(
    cli: Callable,
    data_argument: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    fit, efforts = GridModality.fit, list[float]()

    def noted(self: GridModality, raws: Any, seed: int, report: Any, effort: float = 1.0) -> None:
        efforts.append(effort)
        fit(self, raws, seed, report, effort)

    monkeypatch.setattr(GridModality, "fit", noted)
    monkeypatch.setattr(subprocess, "Popen", None)
    done = cli(*command, "--set", "image.codec.steps=400", "--data", data_argument, "--out", tmp_path / "out")
    assert done.exit_code == 2, done.exception
    assert done.stderr.startswith(f"error: --out {tmp_path / 'out'}: ")
    assert "are needed there" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert max(efforts) <= 10 / 400


@pytest.mark.parametrize("command", ["train", "train-codec"])
def test_minutes_are_said_as_an_estimate(
    cli: Callable, data_argument: str, tmp_path: Path, command: str
) -> None:
    done = cli(*COMMANDS[command], "--data", data_argument, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if LINE in line and "less than a minute" in line]
