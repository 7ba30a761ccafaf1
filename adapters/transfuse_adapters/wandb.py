"""A run's measurements and samples for Weights & Biases: ``transfuse train --track 'wandb;project=mine'``."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfuse.plugin import Drawn, Measured, Tracker

from transfuse_adapters.references import imported


class Wandb(Tracker):
    """Units are told once, in the run's configuration."""

    def __init__(self, run: Path, project: str, mode: str) -> None:
        self.wandb = imported("wandb", "tracker 'wandb'", "trackers")
        self.run: Any = self.wandb.init(
            project=project, name=run.name, id=run.name, dir=str(run), mode=mode, resume="allow"
        )
        self.units: dict[str, str] = {}

    def describe(self, recipe: Mapping[str, Any]) -> None:
        self.run.config.update({"recipe": dict(recipe)}, allow_val_change=True)

    def log(self, step: int, measured: Mapping[str, Measured]) -> None:
        units = {name: one.unit for name, one in measured.items()}
        if new := {name: unit for name, unit in units.items() if self.units.get(name) != unit}:
            self.units |= new
            self.run.config.update({"units": dict(self.units)}, allow_val_change=True)
        self.run.log({name: one.value for name, one in measured.items()}, step=step)

    def show(self, step: int, samples: Sequence[Drawn]) -> None:
        table = self.wandb.Table(columns=["task", "given", "made"])
        for sample in samples:
            table.add_data(sample.task, *map(self._cell, (" + ".join(map(str, _texts(sample))), sample.made)))
        self.run.log({"samples": table}, step=step)

    def _cell(self, made: str | bytes) -> Any:
        if isinstance(made, str):
            return made
        from PIL import Image

        return self.wandb.Image(Image.open(io.BytesIO(made)))

    def close(self) -> None:
        self.run.finish()


def _texts(sample: Drawn) -> list[str]:
    return [part if isinstance(part, str) else "(picture)" for part in sample.given]
