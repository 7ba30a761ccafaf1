"""Trackers are told of every step, each number with its unit, and of samples at chosen steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transfuse.registry.plugins import Plugins
from transfuse.training.tracker import Drawn, Measured, Tracker
from transfuse_lab.datasets import data_section, open_section
from transfuse_lab.runs.sampling import sample
from transfuse_lab.runs.tracking import Tracking
from transfuse_lab.runs.training import train


class Heard(Tracker):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, Measured]] = {}
        self.shown: dict[int, list[Drawn]] = {}
        self.recipe: dict[str, Any] = {}
        self.closed = False

    def describe(self, recipe: Any) -> None:
        self.recipe = dict(recipe)

    def log(self, step: int, measured: Any) -> None:
        self.steps[step] = dict(measured)

    def show(self, step: int, samples: Any) -> None:
        self.shown[step] = list(samples)

    def close(self) -> None:
        self.closed = True


def test_a_run_is_told(
    tmp_path: Path,
    installed: Plugins,
    data_argument: str,
    small_recipe: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transfuse_lab.runs.tracking.EVERY", 0.0)
    section = data_section(data_argument, installed)
    data, recipe, heard = (
        open_section(section, installed),
        small_recipe("transfusion", "train.steps=6"),
        Heard(),
    )
    tracking = Tracking(tmp_path, [heard], 3, lambda trainer: sample(trainer, data))
    train(recipe, data, section, tmp_path, installed, report=lambda line: None, tracking=tracking)
    assert sorted(heard.steps) == [1, 2, 3, 4, 5, 6]
    assert {name: one.unit for name, one in heard.steps[1].items()} == {
        "loss_text": "nats a token",
        "loss_image": "mean a span",
        "lr": "1",
        "grad_norm": "1",
        "speed": "positions a second",
        "compute": "FLOP/s",
        "model_flops_utilisation": "share of a measured product's FLOP/s",
        "memory": "bytes at most",
    }
    assert all(one.value > 0 for one in heard.steps[3].values())
    assert sorted(heard.shown) == [3, 6]
    assert {one.task for one in heard.shown[6]} <= {"text->image", "image->text"}
    assert heard.recipe["name"] == recipe.name
    assert heard.closed
