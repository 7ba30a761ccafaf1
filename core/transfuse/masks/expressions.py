"""The syntax of masks: an expression is a tree of frozen nodes, whose leaves compare columns of integers."""

import re
from dataclasses import dataclass

from transfuse.errors import TransfuseError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def column_name(name: object) -> str:
    """`name` itself if it can name a column in a mask's text; else TransfuseError."""
    if isinstance(name, str) and NAME.match(name):
        return name
    raise TransfuseError(f"a column is named by letters, digits and '_', not starting with a digit: {name!r}")


@dataclass(frozen=True)
class Constant:
    """Everything (`full`) or nothing (`none`)."""

    value: bool


@dataclass(frozen=True)
class Same:
    """The column is equal on both sides, and not −1 ("none")."""

    column: str

    def __post_init__(self) -> None:
        column_name(self.column)


@dataclass(frozen=True)
class Delta:
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


@dataclass(frozen=True)
class Flag:
    """The column is not 0 at the query (side "q") or at the key (side "k")."""

    side: str
    column: str

    def __post_init__(self) -> None:
        column_name(self.column)
        if self.side not in ("q", "k"):
            raise TransfuseError(f"a flag's side is 'q' or 'k', not {self.side!r}")


@dataclass(frozen=True)
class Table:
    """``rows[query's value][key's value]``; −1 on either side is false, any other value outside is an error."""

    column: str
    rows: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        column_name(self.column)
        if not self.rows or not self.rows[0] or len({len(row) for row in self.rows}) != 1:
            raise TransfuseError(f"table({self.column}): rows are non-empty and of one length")
        if any(cell not in (0, 1) for row in self.rows for cell in row):
            raise TransfuseError(f"table({self.column}): cells are 0 or 1")


@dataclass(frozen=True)
class Not:
    """What the term forbids."""

    term: "Expression"


@dataclass(frozen=True)
class And:
    """What all terms allow."""

    terms: "tuple[Expression, ...]"


@dataclass(frozen=True)
class Or:
    """What any term allows."""

    terms: "tuple[Expression, ...]"


Atom = Constant | Same | Delta | Flag | Table
Expression = Atom | Not | And | Or


def joined(kind: type[And] | type[Or], *parts: Expression) -> Expression:
    """The parts under `&` or `|`, with nested nodes of that kind opened, since both are associative."""
    terms = tuple(term for part in parts for term in (part.terms if isinstance(part, kind) else (part,)))
    return terms[0] if len(terms) == 1 else kind(terms)


def atoms(expression: Expression) -> list[Atom]:
    """The atoms in the order of the text, repetitions included."""
    if isinstance(expression, Not):
        return atoms(expression.term)
    if isinstance(expression, And | Or):
        return [atom for term in expression.terms for atom in atoms(term)]
    return [expression]


def reads(expression: Expression) -> tuple[frozenset[str], frozenset[str]]:
    """The columns read from queries, and those read from keys."""
    queries, keys = set[str](), set[str]()
    for atom in atoms(expression):
        match atom:
            case Delta(column, _, _, key):
                queries.add(column)
                keys.add(key)
            case Flag(side, column):
                (queries if side == "q" else keys).add(column)
            case Same(column) | Table(column):
                queries.add(column)
                keys.add(column)
    return frozenset(queries), frozenset(keys)
