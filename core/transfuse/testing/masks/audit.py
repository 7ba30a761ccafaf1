"""An audit of a mask over given positions: leaks, crossings of documents, padding that is seen, likenesses."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.masks import NONE, Columns
from transfuse.masks.columns import as_array
from transfuse.testing.masks.published import PUBLISHED

PADDING = ("pad", "padding", "filler")
"""Flags of positions that hold nothing."""
SHOWN = 12
"""So many places of a fault are named, then their number."""


@dataclass(frozen=True)
class Audit:
    """What was found.

    leaks: (i, j, direct): position i sees j, whose token it is to predict, itself or through others.
    crossings: (document of the query, of the key, pairs, first query, first key).
    padding: (query, key) of positions that see filler. agrees: names of published masks that are equal here.
    """

    leaks: tuple[tuple[int, int, bool], ...]
    crossings: tuple[tuple[int, int, int, int, int], ...]
    padding: tuple[tuple[int, int], ...]
    agrees: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return not (self.leaks or self.crossings or self.padding)

    def lines(self) -> list[str]:
        """What was found, a line each."""
        leaks = [
            f"leak: position {i} sees {'' if direct else 'through others '}position {j}, whose token it is to predict"
            for i, j, direct in self.leaks
        ]
        crossings = [
            f"crossing: document {a} sees document {b} in {pairs} pairs, first position {i} position {j}"
            for a, b, pairs, i, j in self.crossings
        ]
        padding = [f"padding: position {i} sees position {j}, which holds nothing" for i, j in self.padding]
        found = [line for lines in (leaks, crossings, padding) for line in _short(lines)]
        equal = "; ".join(f"{name} ({PUBLISHED[name].title})" for name in self.agrees)
        return [
            *(found or ["no leak, no crossing of documents"]),
            f"published masks that agree here: {equal or 'none'}",
        ]


def audit(allowed: np.ndarray, columns: Columns, predicted: np.ndarray) -> Audit:
    """What is wrong with a mask bool [T, T] over these columns.

    predicted: bool [T], the positions that predict the token behind them.
    """
    doc = as_array(columns["doc"])
    if allowed.shape != (len(doc), len(doc)):
        raise TransfuseError(f"a mask of shape {list(allowed.shape)} for {len(doc)} positions")
    return Audit(
        tuple(_leaks(allowed, np.flatnonzero(predicted))),
        tuple(_crossings(allowed, doc)),
        tuple(_padding(allowed, columns)),
        tuple(_agreeing(allowed, columns)),
    )


def next_tokens(columns: Columns, tokens: str = "text") -> np.ndarray:
    """bool [T]: the positions behind which, in their own document, stands one of the flag ``tokens``."""
    doc, text = as_array(columns["doc"]), as_array(columns.get(tokens, np.zeros(len(columns["doc"]))))
    behind = np.zeros(len(doc), bool)
    behind[:-1] = (doc[1:] == doc[:-1]) & (doc[1:] != NONE) & (text[1:] != 0)
    return behind


def _leaks(allowed: np.ndarray, predicted: np.ndarray) -> Iterator[tuple[int, int, bool]]:
    seen = allowed.astype(np.float32)
    while True:  # over layers: the closure
        further = np.minimum(seen + seen @ seen, 1)
        if (further == seen).all():
            break
        seen = further
    for i in predicted.tolist():
        if seen[i, i + 1]:
            yield i, i + 1, bool(allowed[i, i + 1])


def _crossings(allowed: np.ndarray, doc: np.ndarray) -> Iterator[tuple[int, int, int, int, int]]:
    for a in np.unique(doc[doc != NONE]).tolist():
        for b in np.unique(doc[doc != NONE]).tolist():
            if a != b and len(pairs := np.argwhere(allowed & (doc == a)[:, None] & (doc == b)[None])):
                yield a, b, len(pairs), int(pairs[0][0]), int(pairs[0][1])


def _padding(allowed: np.ndarray, columns: Columns) -> Iterator[tuple[int, int]]:
    filler = as_array(columns["doc"]) == NONE
    for name in PADDING:
        filler |= as_array(columns.get(name, np.zeros(len(filler)))) != 0
    yield from ((int(i), int(j)) for i, j in np.argwhere(allowed & ~filler[:, None] & filler[None]))


def _agreeing(allowed: np.ndarray, columns: Columns) -> Iterator[str]:
    for name, published in PUBLISHED.items():
        if published.mask.columns <= columns.keys() and (published.mask.allowed(columns) == allowed).all():
            yield name


def _short(lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"  and {len(lines) - SHOWN} more of these"]
