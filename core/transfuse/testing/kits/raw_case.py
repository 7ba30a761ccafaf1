"""Raw data under test with the modality or codec that takes them, and how two of them are told apart."""

from collections.abc import Iterable
from copy import deepcopy
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.codec import Codec
from transfuse.modalities.modality import Modality
from transfuse.modalities.raw import as_numbers
from transfuse.testing.kits.runner import LeftOut

TRIED = 12
"""So many of the raw data are tried."""


class RawDataCase:
    """A modality or a codec with raw data that it takes.

    part: as it is built. fit: it is to be fit to ``raws``, without training (``effort=0``); False: it was, and is
        taken as it is. Then ``facts`` and ``restore`` are tried on a copy that knows what they are to say: hand over
        one that is not fit where there is a choice.
    """

    def __init__(self, part: Modality | Codec, raws: Iterable[Any], fit: bool = True) -> None:
        self.part, self.untouched, self.to_fit = part, deepcopy(part), fit
        self.raws = list(islice(raws, TRIED))

    def unfit(self) -> Any:
        """Another as it was handed over."""
        return deepcopy(self.untouched)

    def fit(self, part: Any, raws: Iterable[Any] | None = None) -> Any:
        raws = deepcopy(self.raws) if raws is None else raws
        seam.call(part, "fit", raws, 0, lambda line: None, 0.0)
        return part.eval()

    @cached_property
    def fitted(self) -> Any:
        """It, fit, and not connected to a model."""
        if not self.raws:
            raise TransfuseError("there are no raw data: hand over a few, of every shape that the data have")
        return self.fit(self.unfit()) if self.to_fit else self.part

    def arrays(self) -> list[np.ndarray]:
        """The first of the raw data that are arrays of floats. Raises LeftOut where none are."""
        found = [raw for raw in self.raws if isinstance(raw, np.ndarray) and raw.dtype.kind == "f"][:3]
        if not found:
            raise LeftOut("its raw data are no arrays of floats")
        return found

    def back(self, raw: Any) -> Any:
        """What comes back of other raw data through encode and decode; None where they are refused."""
        try:
            return seam.call(self.fitted, "decode", seam.payload(self.fitted, "encode", raw))
        except TransfuseError:
            return None

    @cached_property
    def payloads(self) -> list[np.ndarray]:
        return [seam.payload(self.fitted, "encode", raw) for raw in self.raws]


def off(found: Any, wanted: Any) -> float:
    """How far raw data are from others: root mean square, as a share of the others' spread; ∞ where unlike.
    Raises LeftOut where they are of one type that is neither text nor numbers, and look otherwise."""
    a, b = as_numbers(found), as_numbers(wanted)
    if a is None or b is None or isinstance(found, str) or isinstance(wanted, str):
        same = type(found) is type(wanted)
        if same and not is_raw(found) and repr(found) != repr(wanted):
            raise LeftOut(f"data of type {type(found).__name__} cannot be compared")
        return 0.0 if same and repr(found) == repr(wanted) else np.inf
    if a.shape != b.shape:
        return np.inf
    error = np.sqrt(np.mean(np.square(a.astype(float) - b.astype(float))))
    return float(error / max(float(np.std(b)), float(np.abs(b).max(initial=0)), 1e-9))


def shown(raw: Any) -> str:
    """Raw data in a few words."""
    if isinstance(raw, np.ndarray):
        return f"an array {list(raw.shape)} of {raw.dtype}"
    return f"{raw!r:.40}" + "…" * (len(repr(raw)) > 40)


def shown_apart(a: Any, b: Any) -> tuple[str, str]:
    """Two raw data in a few words each; texts that would be cut before they differ are shown from there on."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) or shown(a) != shown(b):
        return shown(a), shown(b)
    one, two = repr(a), repr(b)
    first = next(
        (i for i, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), min(len(one), len(two))
    )
    begin = max(0, first - 10)
    return tuple(f"…{text[begin : begin + 40]}" for text in (one, two))  # type: ignore[return-value]


def is_raw(raw: Any) -> bool:
    """Whether it is text or numbers, as raw data are."""
    return isinstance(raw, str) or as_numbers(raw) is not None
