"""A checkpoint: a moment of training in a folder, from which training goes on bit for bit.

``model.safetensors``, ``optimizer.safetensors``, ``ema.safetensors`` where weights are averaged, and
``state.json``. What only looks at a model needs no optimiser, and reads none.
"""

import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transfuse.checkpoints.weights import check_file, load_average, load_weights, read_tensors, save_tensors
from transfuse.errors import TransfuseError
from transfuse.files import CURE, read_checked, replace, write_checked, writing
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
    _checked: set[str] = field(default_factory=set, repr=False, compare=False)

    @staticmethod
    def write(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        """A new one, named by its step: files of tensors and the state, there whole or not at all."""
        fresh = folder.with_name(f".{folder.name}.new")
        for leftover in (fresh, folder):  # of a process that died
            shutil.rmtree(leftover, ignore_errors=True)
        with writing(fresh):
            fresh.mkdir(parents=True)
        files = {name: save_tensors(fresh / name, each) for name, each in tensors.items()}
        write_checked(fresh / STATE, {"step": int(folder.name), **state, "files": files})
        with writing(folder):
            replace(fresh, folder)

    @staticmethod
    def newest(folders: Iterable[Path], *files: str) -> "Checkpoint":
        """The newest of which these files are whole; all, if none is named. An older one is warned about.

        Raises TransfuseError, the newest's, where none is.
        """
        faults: list[TransfuseError] = []
        for folder in sorted(folders, key=lambda path: -int(path.name)):
            try:
                checkpoint = Checkpoint.read(folder)
                checkpoint.check(*files)
            except TransfuseError as error:
                faults.append(error)
                continue
            if faults:
                warnings.warn(f"{faults[0]}; going on from step {folder.name}, which is whole", stacklevel=2)
            return checkpoint
        raise faults[0]

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
                self._checked.add(name)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Those of a file."""
        return read_tensors(self.folder / name, self._sum(name))

    def _sum(self, name: str) -> str | None:
        """The file's SHA-256, None where it was checked already."""
        if name not in self.state["files"]:
            raise TransfuseError(f"{self.folder / name} is missing: the checkpoint was written without it")
        return None if name in self._checked else self.state["files"][name]

    def load_weights(self, model: Model) -> None:
        """The weights as they were trained."""
        load_weights(model, self.folder / MODEL, self._sum(MODEL))

    def load_average(self, model: Model) -> None:
        """Their moving average, in their place."""
        load_average(model, self.folder / EMA_FILE, self._sum(EMA_FILE))

    def average(self) -> dict[str, Tensor]:
        """The same by parameter name, to go on averaging from."""
        return self.tensors(EMA_FILE)

    def restore_optimizer(self, model: Model, optimizer: torch.optim.Optimizer) -> None:
        """The optimiser's moments, parameter by parameter."""
        restore_optimizer(model, optimizer, self.tensors(OPTIMIZER))


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
        parameter = parameters[name]
        if value.dim():  # moments lie where and as the weights do
            value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        elif optimizer.defaults.get("fused"):  # else AdamW counts its steps on the CPU
            value = value.to(parameter.device)
        optimizer.state[parameter][key] = value
