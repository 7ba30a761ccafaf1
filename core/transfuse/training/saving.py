"""Checkpoints are written: by one process whole, by ranks that train together in pieces, meanwhile training goes on.

Pieces are written by torch.distributed.checkpoint, as safetensors and no pickle, each rank its own into
``shard-RANK-…``. A checkpoint counts once ``latest`` names it, and that is moved when every file is on the disk and its
checksum written down.
"""

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transfuse.checkpoints import Checkpoint, RunFolder
from transfuse.checkpoints.checkpoint import EMA_FILE, MODEL, OPTIMIZER, STATE
from transfuse.checkpoints.weights import check_file, module_tensors
from transfuse.config.recipe import Recipe
from transfuse.errors import TransfuseError
from transfuse.files import (
    checksum,
    digest,
    replace,
    write_bytes,
    write_checked,
    write_json,
    write_text,
    writing,
)
from transfuse.model.model import Model
from transfuse.training.optimizer import optimizer_tensors
from transfuse.training.ranks import Ranks

KINDS = (MODEL, OPTIMIZER, EMA_FILE)
KEPT = 2
"""So many of the newest checkpoints are kept, unless a recipe says otherwise."""


def write_checkpoint(
    run: RunFolder,
    step: int,
    model: Model,
    optimizer: torch.optim.Optimizer | Mapping[str, Tensor] | None = None,
    state: Mapping[str, Any] | None = None,
    average: Mapping[str, Tensor] | None = None,
    kept: int = KEPT,
    every: int | None = None,
) -> None:
    """A new checkpoint of one process; once it is complete ``latest`` moves to it, and old ones go as `settle` says.

    optimizer: or its state by name. Training goes on only from one with its optimiser and state; a model can be used
    without.
    """
    final = run.path / "checkpoints" / str(step)
    if final.is_dir() and run.latest == final:
        return  # saved already: a step has one state
    tensors: dict[str, Mapping[str, Tensor]] = {MODEL: module_tensors(model)}
    if optimizer is not None:
        named = optimizer if isinstance(optimizer, Mapping) else optimizer_tensors(model, optimizer)
        tensors[OPTIMIZER] = named
    if average is not None:
        tensors[EMA_FILE] = dict(average)
    Checkpoint.write(final, tensors, state or {})
    settle(run, step, kept, every)


def settle(run: RunFolder, step: int, kept: int = KEPT, every: int | None = None) -> None:
    """``latest`` names the step, in one move; of the older ones the newest are kept, and each ``every``-th step."""
    home, before = run.path / "checkpoints", run.latest
    write_text(home / "latest", str(step))
    run.read_anew("latest", "checkpoint")
    newest = sorted((int(path.name) for path in run.steps() if int(path.name) <= step), reverse=True)
    stay = {step, *newest[:kept], *(each for each in newest if every and each and each % every == 0)}
    for old in home.iterdir():
        if old.is_dir() and old != before and not (old.name.isdecimal() and int(old.name) in stay):
            shutil.rmtree(old, ignore_errors=True)


def change_recipe(run: RunFolder, recipe: Recipe, **facts: Any) -> None:
    """Another recipe of the same weights from now on, and what is to be kept of the change."""
    sums = [*run.description["recipes"], checksum(recipe.dump())]
    # The sums first: a kill between the two writes harms nothing.
    write_checked(run.description_file, {**run.description, **facts, "recipes": sums})
    write_json(run.recipe_file, recipe.dump())
    run.read_anew("description")


def export(run: RunFolder, out: Path) -> None:
    """The run as it would be if one process had trained it: its newest checkpoint in whole files, and what lies beside.

    Raises TransfuseError where something lies there already, or nothing of the run is whole.
    """
    check_vacant(out)
    checkpoint = run.sound_checkpoint()
    there = {*checkpoint.state["files"], *checkpoint.state.get("parts", {})}
    tensors = {kind: checkpoint.tensors(kind) for kind in KINDS if kind in there}
    kept = {key: value for key, value in checkpoint.state.items() if key not in ("step", "files", "parts")}
    for file in (run.recipe_file, run.description_file, run.metrics_file):
        if file.is_file():
            write_bytes(out / file.name, file.read_bytes())
    Checkpoint.write(out / "checkpoints" / checkpoint.folder.name, tensors, kept)
    write_text(out / "checkpoints" / "latest", checkpoint.folder.name)


def check_vacant(out: Path) -> None:
    """Raises TransfuseError where something lies there already."""
    if out.exists() and any(out.iterdir()):
        raise TransfuseError(f"{out} holds something already: name a folder that is empty or not there")


class Saver:
    """Checkpoints of ranks that train together, one at a time.

    ``begin`` takes a copy of what is to be written and returns; ``finish``, called by every rank between steps, makes
    the checkpoint count once all have written. Both are called by every rank at the same step.
    """

    def __init__(self, run: RunFolder, ranks: Ranks, kept: int = KEPT, every: int | None = None) -> None:
        self.run, self.ranks, self.kept, self.every = run, ranks, kept, every
        self._step, self._state = 0, {}
        self._kinds: set[str] = set()
        self._writing: threading.Thread | None = None
        self._sums: dict[str, str] = {}
        self._failed: Exception | None = None

    @property
    def busy(self) -> bool:
        """Whether one is being written."""
        return self._writing is not None

    def begin(self, step: int, kinds: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        """Copies the tensors, and has them written. kinds: by name (`KINDS`), each rank's pieces as DTensors."""
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
        from torch.distributed.checkpoint.state_dict_saver import async_save

        self.finish(wait=True)
        fresh, final = self._fresh(step), self.run.path / "checkpoints" / str(step)
        if self.ranks.from_first(final.is_dir() and self.run.latest == final):
            return  # saved already: a step has one state
        if self.ranks.first:
            shutil.rmtree(fresh, ignore_errors=True)
            with writing(fresh):
                fresh.mkdir(parents=True)
        self.ranks.wait()
        named = {
            f"{prefix(kind)}{name}": tensor.detach().clone()
            if tensor.device.type == "cpu"
            else tensor.detach()
            for kind, tensors in kinds.items()
            for name, tensor in tensors.items()
        }
        index = {
            name: KINDS.index(kind) + 1 for kind, tensors in kinds.items() for name in _names(kind, tensors)
        }
        self._step, self._state, self._sums, self._failed = step, dict(state), {}, None
        self._kinds = set(kinds)
        writer = HuggingFaceStorageWriter(str(fresh), fqn_to_index_mapping=index, save_distributed=True)
        future: Any = async_save(named, storage_writer=writer, process_group=self.ranks.saving)
        mine = f"shard-{self.ranks.rank + 1:05}-"

        def write() -> None:
            try:
                future.result()
                self._sums = {path.name: digest(path) for path in fresh.glob(f"{mine}*.safetensors")}
            except Exception as error:
                self._failed = error

        self._writing = threading.Thread(target=write)
        self._writing.start()

    def finish(self, wait: bool = False) -> None:
        """Where all have written: the state and ``latest``. wait: until they have."""
        if self._writing is None:
            return
        if wait:
            self._writing.join()
        if self.ranks.add(torch.tensor(float(self._writing.is_alive()))):
            return
        self._writing = None
        told = self.ranks.gathered([str(self._failed or ""), self._sums])
        fresh, final = self._fresh(self._step), self.run.path / "checkpoints" / str(self._step)
        if fault := next((fault for fault, _ in told if fault), ""):
            raise TransfuseError(
                f"{fresh} cannot be written ({fault.splitlines()[0]}); what was saved before is kept: make room there, "
                f"allow it, or name another place"
            )
        if self.ranks.first:
            files = {name: sum for _, sums in told for name, sum in sorted(sums.items())}
            parts = {  # an optimiser has nothing yet where a run begins
                kind: [name for name in files if f"-model-{i:05}-of-" in name]
                for i, kind in enumerate(KINDS, 1)
                if kind in self._kinds
            }
            write_checked(fresh / STATE, {"step": self._step, **self._state, "files": files, "parts": parts})
            shutil.rmtree(final, ignore_errors=True)
            with writing(final):
                replace(fresh, final)
            settle(self.run, self._step, self.kept, self.every)
        self.ranks.wait()
        self.run.read_anew("latest", "checkpoint")

    def _fresh(self, step: int) -> Path:
        return self.run.path / "checkpoints" / f".{step}.new"


def prefix(kind: str) -> str:
    """What stands before the names of a kind's tensors where all are written at once."""
    return f"{kind.removesuffix('.safetensors')}/"


def _names(kind: str, tensors: Mapping[str, Tensor]) -> list[str]:
    return [f"{prefix(kind)}{name}" for name in tensors]


def sound_checkpoint(run: RunFolder, ranks: Ranks, *kinds: str) -> Checkpoint:
    """The newest checkpoint of which these files are whole, all if none is named; on all ranks the same, each of which
    checks a share of the files.

    Raises TransfuseError as `RunFolder.sound_checkpoint`, which one process asks.
    """
    if ranks.size == 1:
        return run.sound_checkpoint(*kinds)
    for step in ranks.from_first(_steps(run)):
        folder, fault, checkpoint, files = run.path / "checkpoints" / str(step), "", None, []
        try:
            checkpoint = Checkpoint.read(folder)
            files = sorted(checkpoint.files(*kinds))
            for file in files[ranks.rank :: ranks.size]:
                check_file(folder / file, checkpoint.state["files"][file])
        except TransfuseError as error:
            fault = str(error)
        faults = [each for each in ranks.gathered(fault) if each]
        if not faults and checkpoint is not None:
            return Checkpoint(folder, checkpoint.state, set(files))
    return run.sound_checkpoint(*kinds)  # which says what is wrong


def _steps(run: RunFolder) -> list[int]:
    """The steps of the newest checkpoint and of those before it, where the run began apart, newest first."""
    if run.latest is None:
        return []
    newest = int(run.latest.name)
    older = (int(path.name) for path in run.steps())
    return sorted({newest, *(step for step in older if 0 < step < newest)}, reverse=True)
