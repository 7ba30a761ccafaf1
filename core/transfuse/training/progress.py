"""How far a run has come, and the rows of one step."""

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from transfuse.config.recipe import Recipe
from transfuse.sequences.batch import Batch
from transfuse.sequences.rows import Row

PLACES = 2**62
"""No run counts further."""


@dataclass
class Progress:
    """How far training has come; all of it is saved and resumed.

    flops: by formula, forward and backward, codec training excluded. output_flops: of them the output layer's.
    positions: without filler.
    seconds: process CPU time of the steps. peak_memory: bytes that the process held at most: on a GPU what torch
    allocated there, else resident memory.
    """

    step: int = 0
    flops: float = 0.0
    output_flops: float = 0.0
    documents: int = 0
    positions: int = 0
    seconds: float = 0.0
    peak_memory: int = 0

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "Progress":
        """What ``asdict`` gave. Raises ValueError where it is no such."""
        return cls(**{name: number(saved[name], type(own)) for name, own in asdict(cls()).items()})

    def share(self, recipe: Recipe) -> float:
        """The share of the recipe's budget that is spent."""
        train = recipe.train
        return self.step / train.steps if train.steps else self.flops / (train.flops or math.inf)


def number(saved: Any, kind: type[int] | type[float], least: float = 0) -> Any:
    """A number as it was saved as JSON. Raises ValueError where it is another thing."""
    if isinstance(saved, bool) or not isinstance(saved, int if kind is int else int | float):
        raise ValueError(f"{saved!r:.40} is no {kind.__name__}")
    if not least <= saved < (PLACES if kind is int else math.inf):
        raise ValueError(f"{saved!r:.40} is out of range")
    return kind(saved)


@dataclass(frozen=True, eq=False)
class StepRows:
    """The rows of a step, and what of them this rank computes.

    rows, counts: of the whole step, on every rank; ids: its targets. own: which rows are this rank's. batches: of
    these, each with the weight 1, or 0 where it is computed again only because another rank has a row more: all run
    as many, for they gather weights together. costs: FLOPs of each row, where ranks were dealt rows by them.
    """

    rows: list[Row]
    counts: dict[str, float]
    ids: Tensor
    own: list[int]
    batches: list[tuple[Batch, int]]
    costs: list[float] | None


def peak_memory(device: torch.device) -> int:
    """Bytes held at most so far: on a GPU what torch allocated there, else resident memory; 0 where nobody says."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows has none
        return 0
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024
