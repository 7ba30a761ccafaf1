"""Where a run's measurements go besides its own log: what a plugin implements for one system that shows them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measured:
    """A number with its unit, such as ``nats a token``; the unit of a bare ratio is ``1``."""

    value: float
    unit: str


@dataclass(frozen=True)
class Drawn:
    """A sample: what was asked for (``text->image``), what it was given, and what was made, each as a text, a PNG as
    bytes or an SVG."""

    task: str
    given: tuple[str | bytes, ...]
    made: str | bytes


class Tracker(ABC):
    """One run's measurements, in order of steps. Of ranks that train together the first alone has one.

    It is told of a step again where a run goes on from an earlier one. What it raises ends the run as any error does.
    """

    @abstractmethod
    def log(self, step: int, measured: Mapping[str, Measured]) -> None:
        """What was measured after so many steps: losses by role, rate, the gradient's norm; now and then speed too."""

    def show(self, step: int, samples: Sequence[Drawn]) -> None:
        """What the model made of some held-out prompts after so many steps."""
        return

    def describe(self, recipe: Mapping[str, Any]) -> None:
        """Once, before all: the run's recipe, as JSON."""
        return

    def close(self) -> None:
        """The run has ended."""
        return
