"""A checkpoint: a moment of training in a folder, from which training goes on bit for bit.

``model.safetensors``, ``optimizer.safetensors``, ``ema.safetensors`` where weights are averaged, and
``state.json``. What only looks at a model needs no optimiser, and reads none.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from transfuse.checkpoints import optimizer_state
from transfuse.checkpoints.weights import load_weights, module_tensors, read_tensors, save_tensors
from transfuse.errors import TransfuseError
from transfuse.files import read_mapping, write_json
from transfuse.model.ema import Average
from transfuse.model.model import Model

MODEL, OPTIMIZER, AVERAGE, STATE = (
    "model.safetensors",
    "optimizer.safetensors",
    "ema.safetensors",
    "state.json",
)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint. All that reads raises TransfuseError naming the file that is not as it should be.

    state: what ``state.json`` holds: the ``step``, and where the trainer was.
    """

    folder: Path
    state: dict[str, Any]

    @staticmethod
    def read(folder: Path) -> "Checkpoint":
        """The checkpoint in a folder; tensors are read when they are asked for."""
        return Checkpoint(folder, read_mapping(folder / STATE, "state", "step"))

    def damaged(self, error: Exception) -> TransfuseError:
        """What to raise where the state is not what a trainer left."""
        return TransfuseError(f"{self.folder / STATE} is damaged ({error!r}): restore it, or train again")

    def load_weights(self, model: Model) -> None:
        """The weights as they were trained."""
        load_weights(model, self.folder / MODEL)

    def restore_average(self, average: Average) -> None:
        """Their moving average."""
        path = self.folder / AVERAGE
        tensors = read_tensors(path)
        try:
            average.restore(tensors, self.state["step"])
        except TransfuseError as error:
            raise TransfuseError(f"{path}: {error}") from error

    def restore_optimizer(self, model: Model, optimizer: torch.optim.Optimizer) -> None:
        """The optimiser's moments, parameter by parameter."""
        optimizer_state.restore(model, optimizer, read_tensors(self.folder / OPTIMIZER))


def write_checkpoint(
    folder: Path,
    step: int,
    model: Model,
    optimizer: torch.optim.Optimizer | None = None,
    state: Mapping[str, Any] | None = None,
    average: Average | None = None,
) -> None:
    """A checkpoint in a new folder, on the disk before this returns. Training goes on only from all of it."""
    folder.mkdir(parents=True)
    save_tensors(folder / MODEL, module_tensors(model))
    if optimizer is not None:
        save_tensors(folder / OPTIMIZER, optimizer_state.tensors(model, optimizer))
    if average is not None:
        save_tensors(folder / AVERAGE, average.tensors())
    write_json(folder / STATE, {"step": step, **(state or {})})
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
