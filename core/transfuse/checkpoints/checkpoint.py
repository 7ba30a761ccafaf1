"""A checkpoint: a moment of training in a folder, from which training goes on bit for bit.

``model.safetensors``, ``optimizer.safetensors``, ``ema.safetensors`` where weights are averaged, and
``state.json``. What only looks at a model needs no optimiser, and reads none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transfuse.checkpoints.weights import check_file, load_average, load_weights, read_tensors
from transfuse.errors import TransfuseError
from transfuse.files import CURE, read_checked
from transfuse.model.model import Model

MODEL, OPTIMIZER, EMA_FILE = "model.safetensors", "optimizer.safetensors", "ema.safetensors"
STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint. All that reads raises TransfuseError naming the file that is not as it should be.

    state: what ``state.json`` holds: the ``step``, where the trainer was, and the SHA-256 of each file.
    """

    folder: Path
    state: dict[str, Any]

    @staticmethod
    def read(folder: Path) -> "Checkpoint":
        """The checkpoint in a folder; tensors are read, and checked, when they are asked for."""
        state = read_checked(folder / STATE, "state", "step", "files")
        if str(state["step"]) != folder.name:
            raise TransfuseError(f"{folder / STATE} is of step {state['step']!r}: {CURE}")
        return Checkpoint(folder, state)

    def check(self, *names: str) -> None:
        """Raises TransfuseError where one of these files, or any that it has if none is named, is damaged."""
        for name in names or self.state["files"]:
            if name in self.state["files"]:
                check_file(self.folder / name, self.state["files"][name])

    def _tensors(self, name: str) -> dict[str, Tensor]:
        return read_tensors(self.folder / name, self._sum(name))

    def _sum(self, name: str) -> str:
        if name not in self.state["files"]:
            raise TransfuseError(f"{self.folder / name} is missing: the checkpoint was written without it")
        return self.state["files"][name]

    def load_weights(self, model: Model) -> None:
        """The weights as they were trained."""
        load_weights(model, self.folder / MODEL, self._sum(MODEL))

    def load_average(self, model: Model) -> None:
        """Their moving average, in their place."""
        load_average(model, self.folder / EMA_FILE, self._sum(EMA_FILE))

    def average(self) -> dict[str, Tensor]:
        """The same by parameter name, to go on averaging from."""
        return self._tensors(EMA_FILE)

    def restore_optimizer(self, model: Model, optimizer: torch.optim.Optimizer) -> None:
        """The optimiser's moments, parameter by parameter."""
        restore_optimizer(model, optimizer, self._tensors(OPTIMIZER))


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter name, flat: ``NAME/exp_avg`` and so on."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]
) -> None:
    """The inverse, parameter by parameter. Raises TransfuseError where the state is another model's."""
    parameters = dict(model.named_parameters())
    for path, value in saved.items():
        name, _, key = path.rpartition("/")
        if name not in parameters:
            raise TransfuseError(f"the optimiser's state is of a parameter {name!r}, which the model has not")
        if value.dim() and value.shape != parameters[name].shape:
            raise TransfuseError(
                f"the optimiser's state {path!r} is {tuple(value.shape)}, and the parameter "
                f"{tuple(parameters[name].shape)}"
            )
        # Moments go where the weights are; AdamW counts its steps on the CPU.
        optimizer.state[parameters[name]][key] = value.to(parameters[name].device) if value.dim() else value
