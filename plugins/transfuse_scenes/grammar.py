"""The language of scenes: descriptions and their captions, one to one; how likely each is, and their entropy in nats.

A description is drawn first, then a scene evenly among those it fits (`transfuse_scenes.scenes`).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import combinations

import numpy as np

from transfuse_scenes.world import COLOURS, PAIRS, SHAPES, SIZES, Pair

NUMBERS = {"two": 2, "three": 3, "four": 4}
PLACES = (
    "at the top left", "at the top", "at the top right", "at the left", "in the middle", "at the right",
    "at the bottom left", "at the bottom", "at the bottom right",
)  # fmt: skip
RELATIONS = ("left of", "right of", "above", "below")
TOLD = 0.5
"""How likely a listing tells a thing's size, and how likely its place."""
KINDS = {"count": 0.25, "relation": 0.25, "listing": 0.5}
UNSEEN: frozenset[Pair] = frozenset(
    (colour, SHAPES[number % 4]) for number, colour in enumerate(COLOURS) if number % 2 == 0
)
"""Colours and shapes that are never shown together in training."""
APART = 0.1
"""Share of the couples of pairs that never stand together in a training document."""


@dataclass(frozen=True)
class Count:
    """``three black circles``"""

    number: int
    pair: Pair

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return (self.pair,)


@dataclass(frozen=True)
class Relation:
    """``a red circle left of a blue cross``"""

    first: Pair
    relation: str
    second: Pair

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return self.first, self.second


@dataclass(frozen=True)
class Mention:
    """``a large red circle at the top``; size and cell where they are told."""

    pair: Pair
    size: str | None = None
    cell: int | None = None


@dataclass(frozen=True)
class Listing:
    """Mentions joined by ``and``."""

    mentions: tuple[Mention, ...]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(mention.pair for mention in self.mentions)


Description = Count | Relation | Listing


# -- captions


def caption(description: Description) -> str:
    """The words of a description; `read` is the inverse."""
    if isinstance(description, Count):
        (word,) = (word for word, number in NUMBERS.items() if number == description.number)
        return f"{word} {_plural(description.pair)}"
    if isinstance(description, Relation):
        return f"a {' '.join(description.first)} {description.relation} a {' '.join(description.second)}"
    return " and ".join(_mention(mention) for mention in description.mentions)


def _mention(mention: Mention) -> str:
    size = f"{mention.size} " if mention.size else ""
    place = "" if mention.cell is None else f" {PLACES[mention.cell]}"
    return f"a {size}{' '.join(mention.pair)}{place}"


def _plural(pair: Pair) -> str:
    colour, shape = pair
    return f"{colour} {shape}{'es' if shape.endswith('s') else 's'}"


_PAIR = rf"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
_COUNT = re.compile(rf"({'|'.join(NUMBERS)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?:e?s)")
_RELATION = re.compile(rf"a {_PAIR} ({'|'.join(RELATIONS)}) a {_PAIR}")
_MENTION = re.compile(
    rf"a (?:({'|'.join(SIZES)}) )?{_PAIR}(?: ({'|'.join(sorted(PLACES, key=len, reverse=True))}))?"
)


def read(text: str) -> Description | None:
    """The description that these words are the caption of; None: they are no caption."""
    if match := _COUNT.fullmatch(text):
        found: Description = Count(NUMBERS[match[1]], (match[2], match[3]))
    elif match := _RELATION.fullmatch(text):
        found = Relation((match[1], match[2]), match[3], (match[4], match[5]))
    else:
        parts = [_MENTION.fullmatch(part) for part in text.split(" and ")]
        found = Listing(
            tuple(
                Mention((part[2], part[3]), part[1], PLACES.index(part[4]) if part[4] else None)
                for part in parts
                if part
            )
        )
    return found if text and caption(found) == text else None


# -- how likely each is


def couples_apart() -> frozenset[frozenset[Pair]]:
    """The couples of trained pairs that never stand together in training: `APART` of them, chosen by a hash."""
    trained = [pair for pair in PAIRS if pair not in UNSEEN]
    couples = [frozenset(couple) for couple in combinations(trained, 2)]

    def order(couple: frozenset[Pair]) -> bytes:
        return sha256(repr(sorted(couple)).encode()).digest()

    return frozenset(sorted(couples, key=order)[: round(APART * len(couples))])


@dataclass(frozen=True)
class Grammar:
    """A distribution over descriptions.

    pairs: that occur. numbers: of counts, evenly. lengths: how likely a listing has 1, 2, … mentions.
    apart: couples of pairs that do not occur together.
    """

    pairs: tuple[Pair, ...] = tuple(pair for pair in PAIRS if pair not in UNSEEN)
    numbers: tuple[int, ...] = (2, 3, 4)
    lengths: tuple[float, ...] = (0.3, 0.3, 0.2, 0.2)
    apart: frozenset[frozenset[Pair]] = frozenset()

    def draw(self, rng: np.random.Generator) -> Description:
        kind = rng.choice(list(KINDS), p=list(KINDS.values()))
        if kind == "count":
            return Count(int(rng.choice(self.numbers)), self.pairs[rng.integers(len(self.pairs))])
        if kind == "relation":
            first, second = self._distinct(rng, 2)
            return Relation(first, RELATIONS[rng.integers(4)], second)
        n = 1 + int(rng.choice(len(self.lengths), p=self.lengths))
        cells = rng.permutation(9)
        told = rng.random((2, n)) < TOLD
        sizes = rng.integers(2, size=n)
        return Listing(
            tuple(
                Mention(
                    pair,
                    tuple(SIZES)[sizes[i]] if told[0, i] else None,
                    int(cells[i]) if told[1, i] else None,
                )
                for i, pair in enumerate(self._distinct(rng, n))
            )
        )

    def _distinct(self, rng: np.random.Generator, n: int) -> list[Pair]:
        """Evenly among the ordered choices of n pairs that may stand together."""
        while True:
            chosen = [self.pairs[i] for i in rng.choice(len(self.pairs), n, replace=False)]
            if self.together(chosen):
                return chosen

    def together(self, pairs: list[Pair]) -> bool:
        """Whether these pairs may stand in one document."""
        return not any(frozenset(couple) in self.apart for couple in combinations(pairs, 2))

    def log_probability(self, description: Description) -> float:
        """Of `draw` giving it, in nats; -inf where it cannot."""
        pairs = list(description.pairs)
        lawful = len({*pairs}) == len(pairs) and {*pairs} <= {*self.pairs} and self.together(pairs)
        if not lawful:
            return -math.inf
        if isinstance(description, Count):
            if description.number not in self.numbers:
                return -math.inf
            return math.log(KINDS["count"]) - math.log(len(self.numbers)) - self.choices[0]
        if isinstance(description, Relation):
            return math.log(KINDS["relation"]) - self.choices[1] - math.log(len(RELATIONS))
        n = len(pairs)
        if not 1 <= n <= len(self.lengths):
            return -math.inf
        placed = [mention.cell for mention in description.mentions if mention.cell is not None]
        if len(set(placed)) < len(placed):
            return -math.inf
        sizes = sum(mention.size is not None for mention in description.mentions)
        chosen = math.log(KINDS["listing"]) + math.log(self.lengths[n - 1]) - self.choices[n - 1]
        return chosen + 2 * n * math.log(TOLD) - sizes * math.log(2) - _placings(len(placed))

    def entropy(self) -> float:
        """H of a description, in nats, by formula: kinds and all that is chosen within one are told apart by words."""
        h = -sum(p * math.log(p) for p in KINDS.values())
        h += KINDS["count"] * (math.log(len(self.numbers)) + self.choices[0])
        h += KINDS["relation"] * (self.choices[1] + math.log(len(RELATIONS)))
        for n, p in enumerate(self.lengths, 1):
            told = n * math.log(2) / 2 + 2 * n * math.log(
                2
            )  # sizes' values; whether each size and place is told
            placed = sum(math.comb(n, m) / 2**n * _placings(m) for m in range(n + 1))
            h += KINDS["listing"] * p * (self.choices[n - 1] - math.log(p) + told + placed)
        return h

    @cached_property
    def choices(self) -> tuple[float, ...]:
        """The logarithm of how many ordered choices there are of 1, 2, … pairs that may stand together."""
        most = max(2, len(self.lengths))
        if not self.apart:
            return tuple(math.log(math.perm(len(self.pairs), n)) for n in range(1, most + 1))
        beside = {
            pair: frozenset(p for p in self.pairs if p != pair and frozenset((p, pair)) not in self.apart)
            for pair in self.pairs
        }
        return tuple(math.log(math.factorial(n) * _cliques(beside, n)) for n in range(1, most + 1))


def _cliques(beside: dict[Pair, frozenset[Pair]], n: int) -> int:
    """How many sets of n pairs may stand together, each couple of them."""
    order = {pair: number for number, pair in enumerate(beside)}

    def grown(allowed: frozenset[Pair], left: int) -> Iterator[int]:
        for pair in allowed:
            later = frozenset(p for p in allowed & beside[pair] if order[p] > order[pair])
            yield 1 if left == 1 else sum(grown(later, left - 1))

    return sum(grown(frozenset(beside), n))


def _placings(n: int) -> float:
    """The logarithm of how many ways n things have cells of their own."""
    return math.log(math.perm(9, n))


PRESETS = {
    "full": Grammar(apart=couples_apart()),
    "easy": Grammar(numbers=(2, 3), lengths=(0.6, 0.4), apart=couples_apart()),
}
"""What a training document may say: ``easy`` has at most three things."""
