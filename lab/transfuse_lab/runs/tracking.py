"""A run's measurements with their units, for its trackers and ``speed.jsonl``: losses each step, now and then speed."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from transfuse.errors import TransfuseError
from transfuse.files import writing
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins
from transfuse.training import Trainer
from transfuse.training.progress import peak_memory
from transfuse.training.tracker import Drawn, Measured, Tracker

SPEED = "speed.jsonl"
"""In a run's folder: how fast it went, which is no part of what it would do again."""
EVERY = 10.0
"""Seconds over which speed is taken."""

Sampling = Callable[[Trainer], Sequence[Drawn]]


def open_trackers(texts: Sequence[str], run: Path, plugins: Plugins) -> list[Tracker]:
    """The trackers of ``--track NAME;setting=value``. Raises TransfuseError for one that is not there."""
    return [_open(text, run, plugins) for text in texts]


def _open(text: str, run: Path, plugins: Plugins) -> Tracker:
    name, *pairs = text.split(";")
    if wrong := next((pair for pair in pairs if "=" not in pair), None):
        raise TransfuseError(f"--track {text!r:.80}: {wrong!r:.40} is no setting: write NAME;setting=value")
    section = {"name": name, **dict(pair.split("=", 1) for pair in pairs)}
    return plugins.choose("tracker", section, "--track", Tracker).build(run=run)


class Tracking:
    """Told of each step by `train`. Entered while a run trains; trackers are closed when it is left.

    sampling: what is drawn for `Tracker.show` each so many steps (``show_every``); None: nothing.
    """

    def __init__(
        self, folder: Path, trackers: Sequence[Tracker], show_every: int = 0, sampling: Sampling | None = None
    ) -> None:
        self.folder, self.trackers = folder, list(trackers)
        self.show_every, self.sampling = show_every, sampling
        self._since: tuple[float, int, float] | None = None
        self._peak: float | None = None
        self._opened = ExitStack()

    def __enter__(self) -> "Tracking":
        for tracker in self.trackers:
            self._opened.callback(tracker.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def begin(self, trainer: Trainer) -> None:
        """Before the first step."""
        self._since = self._now(trainer)
        for tracker in self.trackers:
            tracker.describe(trainer.recipe.dump())

    def step(self, trainer: Trainer, measured: Mapping[str, float]) -> None:
        """After each step."""
        step, units = trainer.progress.step, units_of(trainer.model)
        told = {name: Measured(value, units.get(name, "1")) for name, value in measured.items()}
        told |= self._speed(trainer)
        for tracker in self.trackers:
            tracker.log(step, told)
        if self.sampling is not None and self.show_every and step % self.show_every == 0:
            samples = self.sampling(trainer)
            for tracker in self.trackers:
                tracker.show(step, samples)

    def _now(self, trainer: Trainer) -> tuple[float, int, float]:
        return time.monotonic(), trainer.progress.positions, trainer.progress.flops

    def _speed(self, trainer: Trainer) -> dict[str, Measured]:
        """Over the last seconds, where there were enough."""
        now = self._now(trainer)
        if self._since is None or now[0] - self._since[0] < EVERY:
            return {}
        seconds, positions, flops = (b - a for a, b in zip(self._since, now, strict=True))
        if self._peak is None:
            self._peak = peak_flops(trainer.device, trainer.recipe.train.dtype)
        self._since = self._now(trainer)
        found = {
            "speed": Measured(positions / seconds, "positions a second"),
            "compute": Measured(flops / seconds, "FLOP/s"),
            "model_flops_utilisation": Measured(
                flops / seconds / self._peak / trainer.ranks.size, "share of a measured product's FLOP/s"
            ),
            "memory": Measured(float(peak_memory(trainer.device)), "bytes at most"),
        }
        line: dict[str, Any] = {"step": trainer.progress.step}
        line |= {name: {"value": one.value, "unit": one.unit} for name, one in found.items()}
        path = self.folder / SPEED
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return found


def units_of(model: Model) -> dict[str, str]:
    """The units of what a step measures."""
    tokens = {f"loss_{role}": "nats a token" for role in model.token_modalities}
    return {**{f"loss_{role}": "mean a span" for role in model.span_modalities}, **tokens}


def peak_flops(device: torch.device, dtype: str) -> float:
    """FLOP/s of a large matrix product in this dtype, the best of a few: what a training step could reach."""
    size = 4096 if device.type == "cuda" else 512
    a = torch.linspace(-1, 1, size * size, device=device).view(size, size).to(getattr(torch, dtype))
    b = a.T.contiguous()
    best = 0.0
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        a = a @ b
        a /= a.norm()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best
