"""Codecs' training that is kept in a folder while it goes, and goes on there when it was stopped.

``fitting/ROLE/STEP`` is a `Checkpoint` of a codec whose ``fit`` takes part (`transfuse.plugin.FitContext`): its
tensors, and what it is of. The last two are kept. All of ``fitting`` goes when what it is for has been written.
"""

import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from transfuse.checkpoints import Checkpoint, provenance
from transfuse.config.merge import differing
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.modalities.fit_context import FitContext, State
from transfuse.modalities.modality import Report

from transfuse_lab.runs.interrupts import Interrupts, interrupts

FITTING, TENSORS, KEPT = "fitting", "fit.safetensors", 2


class KeptFit(FitContext):
    """The training of one role's codec. Between its first step and its last, a signal is heard after a step.

    folder: where it is kept. fit_from: the provenance that what lies there must have. save_every: seconds.
    step: of what is kept there. before: process CPU seconds that it took until it was stopped.
    """

    def __init__(
        self,
        folder: Path,
        fit_from: Mapping[str, Any],
        report: Report,
        device: torch.device | str,
        save_every: float,
    ) -> None:
        super().__init__(device)
        self.folder, self.fit_from, self.save_every = folder, dict(fit_from), save_every
        self._report = report
        self.step, self.before = 0, 0.0
        self._saved, self._began = time.monotonic(), time.process_time()
        self._while_it_trains, self._interrupted = ExitStack(), Interrupts()

    def resume(self) -> State | None:
        self._saved, self._began = time.monotonic(), time.process_time()
        self._interrupted = self._while_it_trains.enter_context(interrupts())
        if not (folders := _steps(self.folder)):
            return None
        try:
            checkpoint = Checkpoint.newest(folders, TENSORS)
            state = checkpoint.state
            tensors = checkpoint.tensors(TENSORS)
        except TransfuseError as error:
            warnings.warn(
                f"{error}: nothing there is whole, so the codec's training begins anew", stacklevel=2
            )
            return None
        if unlike := differing(state["fit_from"], self.fit_from):
            raise TransfuseError(
                f"{self.folder} holds another codec's training: {unlike}; repeat the settings and data of that, "
                f"or delete {self.folder.parent} to begin anew"
            )
        self.step, self.before = state["step"], state["seconds"]
        self._report(f"{self.folder}: going on after step {self.step}")
        return tensors, state["codec"]

    def after_step(self, step: int, steps: int, state: Callable[[], State]) -> None:
        stopped = self._interrupted.heard
        due = self._interrupted.asked or time.monotonic() - self._saved > self.save_every
        if stopped or step == steps or due:
            self._interrupted.asked = False
            tensors, facts = state()
            seconds = self.before + time.process_time() - self._began
            kept = {"fit_from": self.fit_from, "seconds": seconds, "codec": facts}
            Checkpoint.write(self.folder / str(step), {TENSORS: tensors}, kept)
            for old in _steps(self.folder)[KEPT:]:
                shutil.rmtree(old, ignore_errors=True)
            self.step, self._saved = step, time.monotonic()
        if stopped:
            raise KeyboardInterrupt
        if step == steps:
            self.close()

    def close(self) -> None:
        """Signals are obeyed again."""
        self._while_it_trains.close()


def _steps(folder: Path) -> list[Path]:
    """The newest first."""
    found = [path for path in folder.glob("[0-9]*") if path.name.isdecimal() and path.is_dir()]
    return sorted(found, key=lambda path: -int(path.name))


@contextmanager
def kept_fits(
    recipe: Recipe, data: DataSet, folder: Path, report: Report, device: torch.device | str = "cpu"
) -> Iterator[Mapping[str, KeptFit]]:
    """By role, where its codec's training is kept under ``folder`` until what it is for is written there.

    Stopped, KeyboardInterrupt says from where the same command goes on.
    """
    fit_from = provenance(recipe, data.identity())
    home, rest = folder / FITTING, {key: value for key, value in fit_from.items() if key != "modalities"}
    fits = {
        role: KeptFit(
            home / role, {**rest, "modality": learnt}, report, device, recipe.train.save_every
        )
        for role, learnt in fit_from["modalities"].items()
    }  # fmt: skip
    try:
        yield fits
    except KeyboardInterrupt:
        kept = [f"{role} at step {fit.step:,}" for role, fit in fits.items() if fit.step]
        raise KeyboardInterrupt(
            f"{folder}: codec training is kept ({', '.join(kept)}). The same command goes on there."
            if kept
            else ""
        ) from None
    finally:
        for fit in fits.values():
            fit.close()
    forget_fits(folder)


def forget_fits(folder: Path) -> None:
    """What they are for has been written."""
    shutil.rmtree(folder / FITTING, ignore_errors=True)
