"""A mask is a rule, not a tensor: which keys a query may see, said about integer columns.

Atoms compare a column of the query with a column of the key; `&`, `|` and `~` combine them. Masks are frozen
values: they hash, pickle, compare (`==` is structural), print as text that parses back, and hold no tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.masks import dense, expressions, transforms
from transfuse.masks.columns import Columns
from transfuse.masks.expressions import And, Constant, Delta, Expression, Flag, Not, Or, Same, Table
from transfuse.masks.normal_form import lowering
from transfuse.masks.normal_form.slices import Intervals, Slices
from transfuse.masks.text import parse_expression, show

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, repr=False)
class Mask:
    """A rule over columns. Build one with the constructors of `transfuse.masks`, or `masks.parse(text)`.

    Every method takes columns of the queries and, for a rectangular mask, of the keys; without `keys` the
    queries' columns serve as both.
    """

    expression: Expression

    def __and__(self, other: "Mask") -> "Mask":
        return self._with(And, other)

    def __or__(self, other: "Mask") -> "Mask":
        return self._with(Or, other)

    def _with(self, kind: type[And] | type[Or], other: "Mask") -> "Mask":
        if not isinstance(other, Mask):
            return NotImplemented
        return Mask(expressions.joined(kind, self.expression, other.expression))

    def __invert__(self) -> "Mask":
        return Mask(Not(self.expression))

    def __bool__(self) -> bool:
        raise TransfuseError("a mask is neither true nor false: combine masks with & | ~, not and, or, not")

    def __str__(self) -> str:
        return show(self.expression)

    def __repr__(self) -> str:
        return f"masks.parse({str(self)!r})"

    @property
    def query_columns(self) -> frozenset[str]:
        """The columns this mask reads from queries."""
        return expressions.reads(self.expression)[0]

    @property
    def key_columns(self) -> frozenset[str]:
        """The columns this mask reads from keys."""
        return expressions.reads(self.expression)[1]

    @property
    def columns(self) -> frozenset[str]:
        """The names of all columns this mask reads."""
        return self.query_columns | self.key_columns

    def allowed(self, queries: Columns, keys: Columns | None = None) -> np.ndarray:
        """The mask as numpy booleans [Tq, Tk], by testing every pair: the oracle of all other forms."""
        return dense.allowed(self.expression, queries, keys)

    def dense(self, queries: Columns, keys: Columns | None = None) -> "torch.Tensor":
        """The mask as a torch boolean tensor [Tq, Tk] on the CPU, by testing every pair."""
        import torch

        return torch.from_numpy(self.allowed(queries, keys))

    def slices(self, queries: Columns, keys: Columns | None = None, by: str = "query") -> Slices:
        """The normal form: ranges of queries with key intervals whose bounds are level or step by one.

        It is worked out along the queries, or `by="key"` along the keys, which is shorter for some masks.
        """
        if by == "query":
            return lowering.slices(self.expression, queries, keys)
        if by != "key":
            raise TransfuseError(f"slices go by='query' or by='key', not {by!r}")
        return transposed(self).slices(queries if keys is None else keys, queries).transposed()

    def key_intervals(self, queries: Columns, keys: Columns | None = None) -> Intervals:
        """Per key its sorted, disjoint, half-open query intervals: the transpose of `intervals`."""
        return self.slices(queries, keys).transposed().intervals()

    def intervals(self, queries: Columns, keys: Columns | None = None) -> Intervals:
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


def parse(text: str) -> Mask:
    """The mask that `text` says. TransfuseError names the column of the fault (from 1) and the likely word.

    >>> parse("same(doc) & (le(idx) | same(span)) & ~k.noised")
    masks.parse('same(doc) & (le(idx) | same(span)) & ~k.noised')
    """
    return Mask(parse_expression(text))


def same(column: str) -> Mask:
    """The column is equal and not −1: one document, one span, one block."""
    return Mask(Same(column))


def le(column: str) -> Mask:
    """Key ≤ query: causal in that column, itself included. It is `delta(column, lo=0)`."""
    return delta(column, lo=0)


def lt(column: str) -> Mask:
    """Key < query: strictly earlier in that column. It is `delta(column, lo=1)`."""
    return delta(column, lo=1)


def delta(column: str, lo: int | None = None, hi: int | None = None, key: str | None = None) -> Mask:
    """lo ≤ query's column − key's `key` (by default the same column) ≤ hi; at least one bound is given."""
    return Mask(Delta(column, lo, hi, column if key is None else key))


def table(column: str, rows: Sequence[Sequence[int]]) -> Mask:
    """Adjacency of the column's values: `rows[query's][key's]`; −1 sees and is seen by nothing."""
    try:
        cells = tuple(tuple(int(cell) for cell in row) for row in rows)
    except (TypeError, ValueError):
        raise TransfuseError(f"table({column}): rows are lists of 0 and 1, not {rows!r}") from None
    return Mask(Table(column, cells))


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
        return Mask(Flag(self._side, name))


q = Flags("q")
k = Flags("k")
full = Mask(Constant(True))
none = Mask(Constant(False))


def simplify(mask: Mask) -> Mask:
    """An equal rule with no constant inside, no double negation, no repeated and no absorbed term.

    >>> from transfuse import masks
    >>> str(masks.simplify(masks.parse("same(doc) & (le(idx) | le(idx) | none) & ~~k.text")))
    'same(doc) & le(idx) & k.text'
    """
    return Mask(transforms.simplify(mask.expression))


def transposed(mask: Mask) -> Mask:
    """The rule with query and key exchanged: `transposed(m).allowed(k, q) == m.allowed(q, k).T`."""
    return Mask(transforms.transposed(mask.expression))


def key_order(mask: Mask, keys: Columns) -> np.ndarray:
    """A stable order of the keys by the key flags that `mask` names, within each group it is confined to.

    Returns positions: take every key column, K and V at them, and the mask of those is the same pairs with
    fewer slices. Groups are those of the first conjunct `same(column)`, in the order in which they begin.
    """
    return transforms.key_order(mask.expression, keys)
