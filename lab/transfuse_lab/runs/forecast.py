"""How long training will take on this machine, and how much room on the disk: told by a trial of a few steps."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from transfuse.checkpoints.weights import module_tensors
from transfuse.modalities import seam
from transfuse.modalities.codec import GridModality
from transfuse.modalities.fit_context import FitContext
from transfuse.modalities.modality import Modality
from transfuse.model.build import build_modalities, build_model
from transfuse.registry.plugins import Plugins
from transfuse.training import Inherited, Trainer
from transfuse.training.optimizer import optimizer_tensors

from transfuse_lab.runs.survey import Surveyed

SAMPLE = 64  # of a role's raw data, that its codec is tried on
TRIED = (3, 10)  # steps; the more, the surer
ENOUGH = 0.5  # seconds of steps, after which no more are tried
ESTIMATE = "an estimate, from a trial of a few steps"
CHECKPOINTS = 3
"""A run keeps two checkpoints, and has a third while that is written."""


@dataclass(frozen=True)
class Forecast:
    """Seconds that something takes on this machine, and bytes that it leaves on the disk, at most.

    core_seconds: of process CPU time, which does not depend on what else is at it; of training alone.
    """

    seconds: float = 0.0
    size: int = 0
    core_seconds: float = 0.0

    def __add__(self, other: "Forecast") -> "Forecast":
        return Forecast(
            self.seconds + other.seconds, self.size + other.size, self.core_seconds + other.core_seconds
        )


def of_codecs(surveyed: Surveyed, device: torch.device | str = "cpu") -> Forecast:
    """Of all codecs' training; tokenizers take seconds and are not counted."""
    found = Forecast()
    for role, modality in _grids(surveyed).items():
        raws = _sample(surveyed, role)
        steps = getattr(getattr(modality.codec, "settings", None), "steps", TRIED[-1])
        made, first = (_seconds_of(modality, raws, tried / steps, device) for tried in (0, 1))
        each = first - made
        for tried in (tried for tried in TRIED if tried <= steps):
            longer = (
                _seconds_of(modality, raws, tried / steps, device) - first
            )  # what comes with the first step is no step's
            each = longer / (tried - 1)
            if longer > ENOUGH:
                break
        count = sum(
            surveyed.data.document_roles("train", i).count(role)
            for i in range(surveyed.data.excerpt("train"))
        )
        seconds = made * count / len(raws) + max(0.0, first - made - each) + each * steps
        found += Forecast(seconds, _bytes(modality.state_dict().values()))
    return found


def of_training(
    surveyed: Surveyed,
    plugins: Plugins,
    device: torch.device | str = "cpu",
    inherited: Inherited | None = None,
) -> Forecast:
    """Of the model's training, its codecs apart; and of its checkpoints. inherited: from a run that it begins from.

    Raises TransfuseError where the model cannot be built, or its mask shows what it may not (`Trainer.check_mask`).
    """
    known = () if inherited is None else inherited.roles
    grids = {} if surveyed.fitted else {r: m for r, m in _grids(surveyed).items() if r not in known}
    for role, modality in grids.items():
        _seconds_of(modality, _sample(surveyed, role), 0.0)
    recipe = surveyed.recipe
    model = build_model(recipe, {**surveyed.modalities, **grids}, plugins, start=False).to(device)
    trainer = Trainer(recipe, model, surveyed.data, inherited)
    trainer.check_mask()
    trainer.silence = None  # a few steps say nothing of which weights are idle
    trainer.step()  # makes much that is made once
    began, of_first = time.monotonic(), trainer.progress.seconds
    while (spent := time.monotonic() - began) < ENOUGH and trainer.progress.step <= TRIED[-1]:
        trainer.step()
    progress = trainer.progress
    each = spent / (progress.step - 1)
    steps = recipe.train.steps or (recipe.train.flops or 0) * progress.step / progress.flops
    tensors = {**module_tensors(model), **optimizer_tensors(model, trainer.optimizer)}
    average = {} if trainer.ema is None else trainer.ema.tensors()
    size = _bytes(tensors.values()) + _bytes(average.values())
    core = (progress.seconds - of_first) / (progress.step - 1)
    return Forecast(each * max(1.0, steps), CHECKPOINTS * size, core * max(1.0, steps))


def in_time(seconds: float) -> str:
    """``about 12 minutes``"""
    if seconds < 60:
        return "less than a minute"
    return f"about {seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"about {seconds / 3600:.1f} hours"


def _grids(surveyed: Surveyed) -> dict[str, GridModality]:
    """The modalities with a codec, made anew."""
    built: Mapping[str, Modality] = build_modalities(surveyed.recipe)
    return {role: modality for role, modality in built.items() if isinstance(modality, GridModality)}


def _sample(surveyed: Surveyed, role: str) -> list[Any]:
    """Some of a role's raw data, and of each of its shapes one."""
    return [*islice(surveyed.data.raw("train", role), SAMPLE), *surveyed.shapes.get(role, ())]


def _seconds_of(
    modality: Modality, raws: list[Any], effort: float, device: torch.device | str = "cpu"
) -> float:
    began = time.monotonic()
    seam.fit(modality, raws, 0, lambda line: None, effort, FitContext(device))
    return time.monotonic() - began


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
