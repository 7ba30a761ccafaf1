"""A mask is a rule, not a tensor: which keys a query may see, said about integer columns.

Atoms compare a column of the query with a column of the key; `&`, `|` and `~` combine them. Masks are frozen
values: they hash, pickle, compare (`==` is structural), print as text that parses back, and hold no tensor.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transfuse.errors import TransfuseError

if TYPE_CHECKING:
    import torch

    from transfuse.masks.slices import Intervals, Slices

Columns = Mapping[str, Any]
"""Column names to integer or boolean sequences, numpy arrays or torch tensors, all of one length."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def column_name(name: object) -> str:
    """`name` itself if it can name a column in a mask's text; else TransfuseError."""
    if isinstance(name, str) and NAME.match(name):
        return name
    raise TransfuseError(f"a column is named by letters, digits and '_', not starting with a digit: {name!r}")


@dataclass(frozen=True, repr=False)
class Mask:
    """A rule over columns. Build one with the constructors of `transfuse.masks`, or `masks.parse(text)`.

    Every method takes columns of the queries and, for a rectangular mask, of the keys; without `keys` the
    queries' columns serve as both.
    """

    def __and__(self, other: "Mask") -> "Mask":
        return And(_flat(And, (self, other))) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: "Mask") -> "Mask":
        return Or(_flat(Or, (self, other))) if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> "Mask":
        return Not(self)

    def __bool__(self) -> bool:
        raise TransfuseError("a mask is neither true nor false: combine masks with & | ~, not and, or, not")

    def __str__(self) -> str:
        from transfuse.masks.text import show

        return show(self)

    def __repr__(self) -> str:
        return f"masks.parse({str(self)!r})"

    @property
    def query_columns(self) -> frozenset[str]:
        """The columns this mask reads from queries."""
        return frozenset(name for atom in atoms(self) for name in atom.reads()[0])

    @property
    def key_columns(self) -> frozenset[str]:
        """The columns this mask reads from keys."""
        return frozenset(name for atom in atoms(self) for name in atom.reads()[1])

    @property
    def columns(self) -> frozenset[str]:
        """The names of all columns this mask reads."""
        return self.query_columns | self.key_columns

    def allowed(self, queries: Columns, keys: Columns | None = None) -> np.ndarray:
        """The mask as numpy booleans [Tq, Tk], by testing every pair: the oracle of all other forms."""
        from transfuse.masks.predicate import allowed

        return allowed(self, queries, keys)

    def dense(self, queries: Columns, keys: Columns | None = None) -> "torch.Tensor":
        """The mask as a torch boolean tensor [Tq, Tk] on the CPU, by testing every pair."""
        import torch

        return torch.from_numpy(self.allowed(queries, keys))

    def slices(self, queries: Columns, keys: Columns | None = None, by: str = "query") -> "Slices":
        """The normal form: ranges of queries with key intervals whose bounds are level or step by one.

        It is worked out along the queries, or `by="key"` along the keys, which is shorter for some masks.
        """
        from transfuse.masks.normal import slices
        from transfuse.masks.orientation import transposed

        if by == "query":
            return slices(self, queries, keys)
        if by != "key":
            raise TransfuseError(f"slices go by='query' or by='key', not {by!r}")
        return slices(transposed(self), queries if keys is None else keys, queries).transposed()

    def key_intervals(self, queries: Columns, keys: Columns | None = None) -> "Intervals":
        """Per key its sorted, disjoint, half-open query intervals: the transpose of `intervals`."""
        return self.slices(queries, keys).transposed().intervals()

    def intervals(self, queries: Columns, keys: Columns | None = None) -> "Intervals":
        """Per query its sorted, disjoint, half-open key intervals: `[i]` lists `(start, end)` of query i."""
        return self.slices(queries, keys).intervals()

    def pairs(self, queries: Columns, keys: Columns | None = None) -> int:
        """How many (query, key) pairs are allowed; counted from the structure, not from all pairs."""
        return self.slices(queries, keys).pairs()

    def draw(self, queries: Columns, keys: Columns | None = None) -> list[str]:
        """One string a query, '#' where it sees the key and '.' where not.

        >>> from transfuse import masks
        >>> masks.parse("le(idx)").draw({"idx": [0, 1, 2]})
        ['#..', '##.', '###']
        """
        return ["".join(".#"[int(seen)] for seen in row) for row in self.allowed(queries, keys)]


def _flat(kind: type, parts: Iterable[Mask]) -> tuple[Mask, ...]:
    """The parts with nested nodes of the same kind opened: `&` and `|` are associative by construction."""
    return tuple(term for part in parts for term in (part.terms if isinstance(part, kind) else (part,)))  # type: ignore[attr-defined]


@dataclass(frozen=True, repr=False)
class Constant(Mask):
    """Everything (`full`) or nothing (`none`)."""

    value: bool

    def reads(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (), ()


@dataclass(frozen=True, repr=False)
class Same(Mask):
    """The column is equal on both sides, and not −1 ("none")."""

    column: str

    def __post_init__(self) -> None:
        column_name(self.column)

    def reads(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (self.column,), (self.column,)


@dataclass(frozen=True, repr=False)
class Delta(Mask):
    """lo ≤ query's `column` − key's `key` ≤ hi; one bound may be None, absent. −1 is a number here."""

    column: str
    lo: int | None
    hi: int | None
    key: str

    def __post_init__(self) -> None:
        column_name(self.column)
        column_name(self.key)
        for bound in (self.lo, self.hi):
            if bound is not None and (type(bound) is not int or abs(bound) >= 2**40):
                raise TransfuseError(f"delta({self.column}): a bound is an integer below 2^40, not {bound!r}")
        if self.lo is None and self.hi is None:
            raise TransfuseError(f"delta({self.column}) needs lo=, hi= or both; for no condition write full")

    def reads(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (self.column,), (self.key,)


@dataclass(frozen=True, repr=False)
class Flag(Mask):
    """The column is not 0 at the query (side "q") or at the key (side "k")."""

    side: str
    column: str

    def __post_init__(self) -> None:
        column_name(self.column)
        if self.side not in ("q", "k"):
            raise TransfuseError(f"a flag's side is 'q' or 'k', not {self.side!r}")

    def reads(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return ((self.column,), ()) if self.side == "q" else ((), (self.column,))


@dataclass(frozen=True, repr=False)
class Table(Mask):
    """rows[query's value][key's value]; −1 on either side is false, any other value outside is an error."""

    column: str
    rows: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        column_name(self.column)
        if not self.rows or not self.rows[0] or len({len(row) for row in self.rows}) != 1:
            raise TransfuseError(f"table({self.column}): rows are non-empty and of one length")
        if any(cell not in (0, 1) for row in self.rows for cell in row):
            raise TransfuseError(f"table({self.column}): cells are 0 or 1")

    def reads(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (self.column,), (self.column,)


@dataclass(frozen=True, repr=False)
class Not(Mask):
    """What the term forbids."""

    term: Mask


@dataclass(frozen=True, repr=False)
class And(Mask):
    """What all terms allow; terms are never And themselves."""

    terms: tuple[Mask, ...]


@dataclass(frozen=True, repr=False)
class Or(Mask):
    """What any term allows; terms are never Or themselves."""

    terms: tuple[Mask, ...]


Atom = Constant | Same | Delta | Flag | Table


def atoms(mask: Mask) -> list[Atom]:
    """The atoms of a mask in the order of its text, repetitions included."""
    if isinstance(mask, Not):
        return atoms(mask.term)
    if isinstance(mask, And | Or):
        return [atom for term in mask.terms for atom in atoms(term)]
    assert isinstance(mask, Constant | Same | Delta | Flag | Table)
    return [mask]


def same(column: str) -> Mask:
    """The column is equal and not −1: one document, one span, one block."""
    return Same(column)


def le(column: str) -> Mask:
    """Key ≤ query: causal in that column, itself included. It is `delta(column, lo=0)`."""
    return Delta(column, 0, None, column)


def lt(column: str) -> Mask:
    """Key < query: strictly earlier in that column. It is `delta(column, lo=1)`."""
    return Delta(column, 1, None, column)


def delta(column: str, lo: int | None = None, hi: int | None = None, key: str | None = None) -> Mask:
    """lo ≤ query's column − key's `key` (by default the same column) ≤ hi; at least one bound is given."""
    return Delta(column, lo, hi, column if key is None else key)


def table(column: str, rows: Sequence[Sequence[int]]) -> Mask:
    """Adjacency of the column's values: `rows[query's][key's]`; −1 sees and is seen by nothing."""
    try:
        return Table(column, tuple(tuple(int(cell) for cell in row) for row in rows))
    except (TypeError, ValueError) as fault:
        if isinstance(fault, TransfuseError):
            raise
        raise TransfuseError(f"table({column}): rows are lists of 0 and 1, not {rows!r}") from None


def where(flag: Mask, a: Mask, b: Mask) -> Mask:
    """`a` where `flag` holds, `b` elsewhere: `(flag & a) | (~flag & b)`."""
    return (flag & a) | (~flag & b)


class Flags:
    """`masks.q.NAME` and `masks.k.NAME`: the 0/1 column NAME of the query or of the key."""

    def __init__(self, side: str) -> None:
        self._side = side

    def __getattr__(self, name: str) -> Mask:
        if name.startswith("__"):
            raise AttributeError(name)
        return Flag(self._side, name)


q = Flags("q")
k = Flags("k")
full: Mask = Constant(True)
none: Mask = Constant(False)
