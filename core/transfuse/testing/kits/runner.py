"""A kit is a list of named checks, each one law of a part; pytest and the command line run the same list."""

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import torch

from transfuse.config.origin import told
from transfuse.errors import TransfuseError, did_you_mean

Status = Literal["ok", "fails", "does not", "left out"]
CLOSE = 1e-4
"""So far, absolute and as a share, may numbers be apart that are equal but for rounding."""


class Case(Protocol):
    """What a kit's checks are handed: a part with what they need to try it."""

    @property
    def part(self) -> Any:
        """The part as it was given; its ``does_not`` names abilities that it declares to lack, with reasons."""
        ...


C = TypeVar("C", bound=Case)


class Failed(AssertionError):
    """A law does not hold; the text is what was seen."""


class LeftOut(Exception):
    """A check that says nothing here; the text is why."""


def expect(holds: Any, seen: str) -> None:
    """Raises `Failed` with what was seen, where a law does not hold."""
    if not holds:
        raise Failed(seen)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for rounding."""
    a, b = a.detach(), b.detach()
    return a.shape == b.shape and bool(((a - b).abs() <= CLOSE * (1 + b.abs())).all())


@contextmanager
def global_randomness_untouched() -> Iterator[None]:
    """Raises `Failed` where what is inside draws from the random state of torch, numpy or Python, or sets it."""
    for draw in (torch.rand, np.random.rand, lambda n: random.random()):
        draw(1)  # so that what sets a state anew does not set it to what it was
    before = _states()
    yield
    for name, state in _states().items():
        expect(state == before[name], f"it drew from the global random state of {name}, or set it")


def _states() -> dict[str, bytes]:
    _, keys, place, *_ = np.random.get_state()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": np.asarray(keys).tobytes() + bytes(str(place), "ascii"),
        "Python": repr(random.getstate()).encode(),
    }


@dataclass(frozen=True)
class Outcome:
    """How a check ended. text: of one that fails ``CHECK: what was seen; change METHOD so that …``, else why not."""

    check: str
    status: Status
    text: str = ""


@dataclass(frozen=True)
class Check(Generic[C]):
    """One law. name: as it is reported. law: a sentence. cure: what to change where it does not hold.

    ability: what a part may declare not to have (``does_not``), so that the check is not run. of: the kind of part
    that it is a law of.
    """

    name: str
    law: str
    cure: str
    run: Callable[[C], None] = field(repr=False)
    ability: str = ""
    of: type = object

    def __str__(self) -> str:
        return self.name

    def outcome(self, case: C) -> Outcome:
        """Runs it, under a random state of its own; nothing that a part raises comes out."""
        declared = getattr(case.part, "does_not", {})
        if self.ability in declared:
            return Outcome(self.name, "does not", f"{self.ability}: {declared[self.ability]}")
        try:
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.manual_seed(0)
                self.run(case)
        except LeftOut as reason:
            return Outcome(self.name, "left out", str(reason))
        except (Failed, TransfuseError) as error:
            return Outcome(self.name, "fails", f"{self.name}: {' '.join(str(error).split())}; {self.cure}")
        except Exception as error:
            return Outcome(self.name, "fails", f"{told(self.name, 'it', error)}; {self.cure}")
        return Outcome(self.name, "ok")


class Kit(Generic[C]):
    """The checks of one kind of part, in the order in which they are run: what others rest on comes first."""

    def __init__(self, part: str, *others: "Kit[Any]") -> None:
        self.part = part
        self.checks: list[Check[C]] = [check for kit in others for check in kit.checks]

    def check(
        self, cure: str, *, ability: str = "", of: type = object
    ) -> Callable[[Callable[[C], None]], Callable[[C], None]]:
        """Makes a function a check: its name is the check's, its docstring the law. cure: what to change."""

        def add(run: Callable[[C], None]) -> Callable[[C], None]:
            name, law = run.__name__.replace("_", "-"), " ".join((run.__doc__ or "").split())
            self.checks.append(Check(name, law, cure, run, ability, of))
            return run

        return add

    @property
    def abilities(self) -> set[str]:
        """What a part may declare not to have."""
        return {check.ability for check in self.checks if check.ability}

    def run(self, case: C) -> Iterator[Outcome]:
        """The outcome of each check that is a law of this part."""
        for check in self.of(case):
            yield check.outcome(case)

    def of(self, case: C) -> list[Check[C]]:
        """The checks that are laws of this part."""
        return [check for check in self.checks if isinstance(case.part, check.of)]

    def __getitem__(self, name: str) -> Check[C]:
        for check in self.checks:
            if check.name == name:
                return check
        raise TransfuseError(
            f"the kit for a {self.part} has no check {name!r}, {did_you_mean(name, map(str, self.checks))}"
        )

    def declared(self) -> "Kit[C]":
        """The kit, with one check before all others: what a part says it does not is an ability, with a reason."""

        def what_it_does_not_is_said_with_a_reason(case: C) -> None:
            """What it declares not to do is something that is checked, and has a reason."""
            for ability, reason in getattr(case.part, "does_not", {}).items():
                hint = did_you_mean(str(ability), self.abilities)
                expect(ability in self.abilities, f"does_not names {ability!r}, {hint}")
                expect(
                    isinstance(reason, str) and reason.strip(), f"does_not gives no reason for {ability!r}"
                )

        cure = "change does_not so that it maps names of abilities to the reason why each is missing"
        self.check(cure)(what_it_does_not_is_said_with_a_reason)
        self.checks.insert(0, self.checks.pop())
        return self
