"""Which plugin an object came from, and what its code raises as one line that says so."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from traceback import walk_tb
from typing import Any

from transfuse.errors import TransfuseError

MARK = "_transfuse_origin"
LIBRARIES = frozenset({"transfuse", "torch", "numpy", *sys.stdlib_module_names})
"""Whose code is not named as the place of a fault: that which called it is."""


@dataclass(frozen=True)
class Origin:
    """The part that built an object, as messages call it: ``modality 'series' (tf-series 0.1)``.

    name: the object's own, a modality's role, or the part's. plugin: distribution and version, "" if not known.
    """

    kind: str
    part: str
    name: str
    plugin: str

    def __str__(self) -> str:
        source = " of ".join(filter(None, (self.part if self.part != self.name else "", self.plugin)))
        return f"{self.kind} {self.name!r}" + (f" ({source})" if source else "")

    def mark(self, built: object) -> None:
        """Have the object remember it; one that takes no attributes does not."""
        with suppress(AttributeError, TypeError):
            object.__setattr__(built, MARK, self)


def origin_of(built: object) -> Origin | None:
    """Where an object was built from; None where it was made by hand."""
    return getattr(built, MARK, None)


def told(title: object, method: str, error: Exception) -> TransfuseError:
    """What somebody's code raised, in one line: ``TITLE: METHOD raised KeyError: 'a' (tf/series.py, line 4)``."""
    what = " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())
    what = what if len(what) <= 300 else f"{what[:297]}..."
    return TransfuseError(f"{title}: {method} raised {what}{_place(error)}")


def _place(error: Exception) -> str:
    """Where the innermost code stands that is no library's; "" where all of it is."""
    place = ""
    for frame, line in walk_tb(error.__traceback__):
        module: Any = frame.f_globals.get("__name__") or ""
        file = PurePath(frame.f_code.co_filename)
        if module.partition(".")[0] not in LIBRARIES:
            depth = 1 + module.count(".") + (file.stem == "__init__")
            place = f" ({'/'.join(file.parts[-depth:])}, line {line})"
    return place
