"""A run of a comparison: what is trained, where it is kept, and which place it has among the others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from transfuse.checkpoints import RunFolder, provenance
from transfuse.config.recipe import Recipe

LONGEST = 80
"""Letters of a run's name as a file's, its seed apart."""


@dataclass(frozen=True)
class Branch:
    """How a run of a smaller budget branches off a longer one: the longer one, and the share of its budget at which."""

    trunk: "Run"
    at: float


@dataclass(frozen=True)
class Run:
    """One cell of a comparison: an entry (a recipe, with axes), and a seed.

    codecs: the folder of its codecs. data: the section that opens the data set. place: where a plan has it, see
    `transfuse_lab.comparison.planned`. kept: the file that keeps its record for good, if any does. also: further splits
    that it is measured on. branch: of another run, if it is one. drawn: of how samples are drawn, where no run is
    trained but the one in the folder is measured anew. shown: whether the kept record has samples.
    """

    entry: str
    recipe: Recipe
    folder: RunFolder
    codecs: Path
    data: Mapping[str, Any] = field(default_factory=dict)
    place: Mapping[str, Any] = field(default_factory=dict)
    kept: Path | None = None
    also: tuple[str, ...] = ()
    branch: Branch | None = None
    drawn: tuple[str, ...] | None = None
    shown: bool = False

    @property
    def name(self) -> str:
        return f"{self.entry}, seed {self.recipe.train.seed}"

    @property
    def trunk(self) -> "Run":
        """The run that is trained on the way: itself, unless it branches off."""
        return self.branch.trunk if self.branch else self

    @property
    def record_file(self) -> Path:
        """Where the process that makes its record leaves it."""
        if self.drawn is None:
            return self.folder.record_file
        return self.folder.path / "drawn" / f"{short_hash(self.drawn)}.json"


def mask_file(folder: RunFolder) -> Path:
    """Where a run of a comparison keeps its mask, drawn over an example."""
    return folder.path / "mask.json"


def codecs_folder(out: Path, recipe: Recipe, identity: Mapping[str, Any]) -> Path:
    """Where the codecs of all runs are that need the same."""
    return out / "codecs" / short_hash(provenance(recipe, identity))


def slug(entry: str, seed: int) -> str:
    """A run's name as a file's: of entries that are unlike, unlike ones, however long."""
    name = "".join(c if c.isalnum() or c in "-_.=" else "-" for c in entry)
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 11]}-{short_hash(entry)}"
    return f"{name}-seed{seed}"


def short_hash(value: Any) -> str:
    """Of anything that is JSON."""
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=5).hexdigest()
