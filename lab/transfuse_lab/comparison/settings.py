"""What a comparison is asked for. Light to import: the command line makes one before anything slow is loaded."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path


@dataclass(frozen=True)
class ComparisonSettings:
    """Recipes, seeds and values of settings, each with each, on one data set.

    recipes: by name; none: all of the registry. data: what ``--data`` takes. seeds: a run each, paired over
    recipes. out: the folder of runs and report. overrides: ``key=value``, of every run. axes: settings with
    the values that are compared. registry: a file laid over all others.
    """

    recipes: tuple[str, ...]
    data: str
    seeds: tuple[int, ...]
    out: Path
    overrides: tuple[str, ...] = ()
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    registry: Path | None = None

    @property
    def command(self) -> str:
        """What does it again."""
        words = ["transfuse", "compare", *self.recipes, "--data", self.data]
        words += ["--seeds", ",".join(map(str, self.seeds)), "--out", str(self.out)]
        words += chain.from_iterable(("--set", override) for override in self.overrides)
        words += chain.from_iterable(
            ("--axis", f"{key}={','.join(values)}") for key, values in self.axes.items()
        )
        return shlex.join(words)
