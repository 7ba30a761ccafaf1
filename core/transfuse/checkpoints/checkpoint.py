"""A checkpoint: a moment of training in a folder, from which training goes on bit for bit.

``model.safetensors``, ``optimizer.safetensors``, ``ema.safetensors`` where weights are averaged, and ``state.json``,
whose ``parts`` name the files in which several ranks wrote their pieces. What only looks reads no optimiser's.
"""

import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from transfuse.checkpoints.weights import (
    Part,
    check_file,
    load_average,
    load_weights,
    read_tensors,
    save_tensors,
)
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
        """The newest whose files, or these of them, are whole, older ones with a warning; else raises its error."""
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
        try:
            sound = {*state["files"].keys()} >= {f for part in state.get("parts", {}).values() for f in part}
        except (AttributeError, TypeError):
            sound = False
        if not sound or str(state["step"]) != folder.name:
            raise TransfuseError(f"{folder / STATE} is of step {state['step']!r}, or names no files: {CURE}")
        return Checkpoint(folder, state)

    def check(self, *names: str) -> None:
        """Raises TransfuseError where one of these files, or any that it has if none is named, is damaged."""
        for file in self.files(*names):
            check_file(self.folder / file, self.state["files"][file])
            self._checked.add(file)

    def files(self, *names: str) -> list[str]:
        """The files of these names that there are, the pieces of those that ranks wrote; all if none is named."""
        there, parts = self.state["files"], self.state.get("parts", {})
        return [f for name in names or there for f in parts.get(name, [name]) if f in there]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Those of a file."""
        return read_tensors(self.part(name))

    def part(self, name: str) -> Part:
        """A file, or the files whose pieces stand for it; with the SHA-256 of each, None where it was checked."""
        if not (files := self.files(name)) and name not in self.state.get("parts", {}):
            raise TransfuseError(f"{self.folder / name} is missing: the checkpoint was written without it")
        sums = {self.folder / f: None if f in self._checked else self.state["files"][f] for f in files}
        return Part(sums, "" if name in files else f"{name.removesuffix('.safetensors')}/")

    def load_weights(self, model: Model, averaged: bool = False) -> None:
        """The weights as they were trained; ``averaged``: their moving average in the place of those that have one."""
        (load_average if averaged else load_weights)(model, self.part(EMA_FILE if averaged else MODEL))
