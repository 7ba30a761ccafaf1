"""What a comparison is asked for. Light to import: the command line makes one before anything slow is loaded."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from transfuse.errors import TransfuseError

from transfuse_lab.device import AUTO


@dataclass(frozen=True)
class ComparisonSettings:
    """Recipes, seeds and values of settings, each with each, on one data set.

    recipes: by name; none: those that the registry has under ``compare``. data: what ``--data`` takes. seeds: a
    run each, paired over recipes. out: the folder of runs and report. overrides: ``key=value``, of every run.
    axes: settings with the values that are compared. registry: a file laid over all others.
    device: what ``--device`` takes; ``auto`` and ``cuda`` are all GPUs, a run each at a time.
    """

    recipes: tuple[str, ...]
    data: str
    seeds: tuple[int, ...]
    out: Path
    overrides: tuple[str, ...] = ()
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    registry: Path | None = None
    device: str = AUTO

    def __post_init__(self) -> None:
        """Raises TransfuseError where an option says what another says too, so that one of them would be ignored."""
        options = [("--seeds", "", {"train.seed"})]
        options += [("--set", text, places(*text.partition("=")[::2])) for text in self.overrides]
        for key, values in self.axes.items():
            options.append(("--axis", key, set().union(*(places(key, value) for value in values))))
        for i, (option, text, said) in enumerate(options):
            for other, _, before in options[:i]:
                if twice := sorted(said & before) if (option, other) != ("--set", "--set") else []:
                    cure = "give --seeds 0,1,2" if other == "--seeds" else "give one of the two"
                    raise TransfuseError(f"{option} {text}: {twice[0]} is what {other} says: {cure}")

    @property
    def command(self) -> str:
        """What does it again."""
        words = ["transfuse", "compare", *self.recipes, "--data", self.data]
        words += ["--seeds", ",".join(map(str, self.seeds)), "--out", str(self.out)]
        words += chain.from_iterable(("--set", override) for override in self.overrides)
        words += chain.from_iterable(
            ("--axis", f"{key}={','.join(values)}") for key, values in self.axes.items()
        )
        words += ["--device", self.device] if self.device != AUTO else []
        return shlex.join(words)


def places(key: str, value: str) -> set[str]:
    """The settings that ``key=value`` says, whichever way it is written.

    >>> sorted(places("train", "{seed: 3, lr_scale: {image: 2}}") | places("modalities.image.codec", "kl"))
    ['image.codec', 'train.lr_scale.image', 'train.seed']
    """
    key = key.strip().removeprefix("modalities.")
    if not value.strip().startswith("{"):
        return {key}
    from transfuse.config import yaml_text  # slow to import, and seldom needed

    return set(_leaves(yaml_text.read(value.strip(), key)[0], key))


def _leaves(value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield place
        return
    for key, inner in value.items():
        yield from _leaves(inner, key if place == "modalities" else f"{place}.{key}")
