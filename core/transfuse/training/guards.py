"""What is watched while a run trains: losses and gradients that are not finite, and losses that jump.

What happened is kept as events, JSON each, for the caller to write down (`Trainer.events`): what, at which step, and
the documents of the step.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from transfuse.errors import TransfuseError
from transfuse.training.progress import number

NAMED = 3
"""So many documents a row are named in a message."""
LISTED = 64
"""So many of a step in an event."""
CALM = 50
"""So many steps are looked at before any is called a jump."""
NO_ROOM = ("OutOfMemory", "out of memory", "not enough memory", "MemoryError", "can't allocate memory")
"""What torch and Python say where memory is short."""
MEMORY = 0.98
"""Of the running mean of the loss and of how far it strays."""
JUMP = 8
"""So many mean strayings over the mean is a jump."""


class Diverged(TransfuseError):
    """Too many steps in a row were skipped. The trainer's state is that after the last of them."""


@dataclass
class Guard:
    """What one run's steps were like so far.

    limit: so many steps in a row are skipped, one more ends the run. skipped: steps in all; in_a_row: of them the last
    ones. seen, usual, strays: finite steps, and the running mean of their losses and of its absolute deviation.
    """

    limit: int
    skipped: int = 0
    in_a_row: int = 0
    seen: int = 0
    usual: float = 0.0
    strays: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)

    def finite(self, step: int, means: Mapping[str, float], norm: float) -> bool:
        """Whether a step's losses and its gradient's norm are finite; where not, it is counted."""
        if math.isfinite(norm) and all(map(math.isfinite, means.values())):
            self.in_a_row = 0
            return True
        self.skipped += 1
        self.in_a_row += 1
        return False

    def skip(self, step: int, means: Mapping[str, float], documents: Sequence[str]) -> None:
        """Says so of a step that was skipped. Raises TransfuseError where these are too many in a row."""
        wrong = [name for name, mean in means.items() if not math.isfinite(mean)]
        what = f"the loss of {', '.join(wrong)}" if wrong else "the gradient"
        self.events.append(
            {
                "step": step,
                "event": "skipped",
                "of": wrong or ["gradient"],
                "documents": [*documents[:LISTED]],
            }
        )
        told = (
            f"step {step}: {what} is not finite, and no weight was changed; the step holds "
            f"{', '.join(documents[:NAMED])} …; lower train.lr or train.clip"
        )
        if self.in_a_row > self.limit:
            raise Diverged(told if not self.limit else f"{told} ({self.in_a_row} such steps in a row)")
        warnings.warn(f"{told} where it happens again (skipped: {self.skipped} so far)", stacklevel=3)

    def look(self, step: int, loss: float, documents: Sequence[str]) -> None:
        """Notes a finite step, and whether its loss jumps."""
        away = loss - self.usual
        if self.seen >= CALM and away > JUMP * self.strays:
            self.events.append(
                {
                    "step": step,
                    "event": "jump",
                    "loss": loss,
                    "usual": self.usual,
                    "documents": [*documents[:LISTED]],
                }
            )
        keep = MEMORY if self.seen >= CALM else self.seen / (self.seen + 1)
        self.strays = keep * self.strays + (1 - keep) * abs(away if self.seen else 0.0)
        self.usual = keep * self.usual + (1 - keep) * loss
        self.seen += 1

    def state(self) -> dict[str, Any]:
        """What a run goes on with, as JSON; its events are not among it."""
        return {key: value for key, value in asdict(self).items() if key not in ("limit", "events")}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse. Raises ValueError where it is no such."""
        for key, own in self.state().items():
            setattr(
                self, key, number(state[key], type(own), least=-math.inf if isinstance(own, float) else 0)
            )


def out_of_memory(error: BaseException, positions: int, budget: int) -> TransfuseError | None:
    """What to lower, where an error says that there was no room; else None."""
    text = f"{type(error).__name__}: {error}"
    if not any(sign in text for sign in NO_ROOM):
        return None
    return TransfuseError(
        f"there was not enough memory for a row of {positions} positions: lower train.budget, which is {budget} "
        f"(train.rows needs no more memory), say train.recompute=true or train.dtype=bfloat16, or train on more ranks, "
        f"which divide the weights"
    )
