"""Masks as text: `show` prints one, `parse_expression` reads it back through a whitelist. Nothing is evaluated."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from transfuse.errors import TransfuseError, did_you_mean
from transfuse.masks import expressions
from transfuse.masks.expressions import And, Constant, Delta, Expression, Flag, Not, Or, Same, Table

TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[+-]?\d+)|(?P<sign>[&|~().,=\[\]]))")
WORDS = ("same", "le", "lt", "delta", "table", "where", "full", "none", "q", "k")
LEAST = {"le": 0, "lt": 1}
"""The words for a delta of one column with no upper bound, and their lower bound."""

DEEPEST = 60
"""Nesting beyond this is refused: no mask a person writes has it, and Python's own stack would end first."""

LARGEST = 1000
"""Atoms that one where may hold: nested in its flag it would double without end."""


@singledispatch
def show(expression: Expression) -> str:
    """The text form: `parse_expression(show(x)) == x`, with no more brackets than needed."""
    raise TypeError(f"no expression of a mask: {expression!r}")


@show.register
def _(expression: Constant) -> str:
    return "full" if expression.value else "none"


@show.register
def _(expression: Same) -> str:
    return f"same({expression.column})"


@show.register
def _(expression: Delta) -> str:
    column, lo, hi, key = expression.column, expression.lo, expression.hi, expression.key
    if key == column and hi is None and lo in (0, 1):
        return f"{'lt' if lo else 'le'}({column})"
    parts = [f"{name}={bound}" for name, bound in (("lo", lo), ("hi", hi)) if bound is not None]
    parts += [f"key={key}"] if key != column else []
    return f"delta({', '.join([column, *parts])})"


@show.register
def _(expression: Flag) -> str:
    return f"{expression.side}.{expression.column}"


@show.register
def _(expression: Table) -> str:
    return f"table({expression.column}, {[list(row) for row in expression.rows]})"


@show.register
def _(expression: Not) -> str:
    return f"~{_bracket(expression.term, (And, Or))}"


@show.register
def _(expression: And | Or) -> str:
    sign, looser = (" & ", Or) if isinstance(expression, And) else (" | ", ())
    return sign.join(_bracket(term, looser) for term in expression.terms)


def _bracket(expression: Expression, kinds: type | tuple[type, ...]) -> str:
    return f"({show(expression)})" if isinstance(expression, kinds) else show(expression)


def parse_expression(text: str) -> Expression:
    """The expression that `text` says. TransfuseError names the column of the fault (from 1) and the likely word."""
    if not isinstance(text, str):
        raise TransfuseError(f"a mask's text is a string, not {type(text).__name__}")
    reader = _Reader(text, _tokens(text))
    expression = reader.either(0)
    if reader.peek().kind != "end":
        reader.fault(f"expected & or | or the end, not {reader.peek().text!r}")
    return expression


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def _fault(text: str, at: int, message: str) -> TransfuseError:
    return TransfuseError(f"mask, column {at + 1}: {message}\n  {text}\n  {' ' * at}^")


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    end = len(text.rstrip())
    while at < end:
        match = TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise _fault(text, at, f"{text[at]!r} is no part of a mask")
        kind = match.lastgroup
        assert kind is not None
        found.append(_Token(kind, match.group(kind), match.start(kind)))
        at = match.end()
    return [*found, _Token("end", "the end", len(text))]


class _Reader:
    """Recursive descent: either := both ('|' both)*, both := unary ('&' unary)*, unary := '~'* atom."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self.text, self.tokens, self.at = text, tokens, 0

    def peek(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def fault(self, message: str, token: _Token | None = None) -> None:
        raise _fault(self.text, (token or self.peek()).at, message)

    def accept(self, sign: str) -> bool:
        if self.peek().kind == "sign" and self.peek().text == sign:
            self.take()
            return True
        return False

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            self.fault(f"expected {sign!r}, not {self.peek().text!r}")

    def either(self, depth: int) -> Expression:
        terms = [self.both(depth)]
        while self.accept("|"):
            terms.append(self.both(depth))
        return expressions.joined(Or, *terms)

    def both(self, depth: int) -> Expression:
        terms = [self.unary(depth)]
        while self.accept("&"):
            terms.append(self.unary(depth))
        return expressions.joined(And, *terms)

    def unary(self, depth: int) -> Expression:
        if depth > DEEPEST:
            self.fault(f"nested more than {DEEPEST} deep")
        if self.accept("~"):
            return Not(self.unary(depth + 1))
        if self.accept("("):
            expression = self.either(depth + 1)
            self.expect(")")
            return expression
        return self.atom(depth)

    def atom(self, depth: int) -> Expression:
        token = self.take()
        if token.kind != "name":
            self.fault(f"expected an atom ({', '.join(WORDS)}), not {token.text!r}", token)
        if token.text in ("full", "none"):
            return Constant(token.text == "full")
        if token.text in ("q", "k"):
            self.expect(".")
            return Flag(token.text, self.name())
        if token.text not in WORDS:
            self.fault(f"unknown atom {token.text!r}: {did_you_mean(token.text, WORDS)}", token)
        self.expect("(")
        expression = self.call(token, depth)
        self.expect(")")
        return expression

    def call(self, token: _Token, depth: int) -> Expression:
        if token.text == "where":
            parts = [self.either(depth + 1)]
            for _ in range(2):
                self.expect(",")
                parts.append(self.either(depth + 1))
            flag, a, b = parts
            if sum(len(expressions.atoms(part)) for part in parts) > LARGEST:
                message = f"where stands for more than {LARGEST} atoms here: it writes its flag twice"
                self.fault(message, token)
            first, second = expressions.joined(And, flag, a), expressions.joined(And, Not(flag), b)
            return expressions.joined(Or, first, second)
        column = self.name()
        if token.text == "same":
            return Same(column)
        if token.text in LEAST:
            return Delta(column, LEAST[token.text], None, column)
        try:
            return self.delta(column) if token.text == "delta" else self.table(column)
        except TransfuseError as fault:
            if str(fault).startswith("mask, column"):
                raise
            raise _fault(self.text, token.at, str(fault)) from None

    def delta(self, column: str) -> Expression:
        given: dict[str, Any] = {}
        while self.accept(","):
            token = self.take()
            if token.text not in ("lo", "hi", "key"):
                hint = did_you_mean(token.text, ("lo", "hi", "key"))
                self.fault(f"delta takes lo=, hi= and key=, not {token.text!r}: {hint}", token)
            if token.text in given:
                self.fault(f"{token.text} is given twice", token)
            self.expect("=")
            given[token.text] = self.name() if token.text == "key" else self.number()
        return Delta(column, **{"lo": None, "hi": None, "key": column, **given})

    def table(self, column: str) -> Expression:
        self.expect(",")
        return Table(column, tuple(map(tuple, self.listing(lambda: self.listing(self.number)))))

    def listing(self, item: Callable[[], object]) -> list:
        self.expect("[")
        items = []
        while not self.accept("]"):
            items.append(item())
            if self.peek().text != "]":
                self.expect(",")
        return items

    def name(self) -> str:
        token = self.take()
        if token.kind != "name":
            self.fault(f"expected a column's name, not {token.text!r}", token)
        return token.text

    def number(self) -> int:
        token = self.take()
        if token.kind != "number" or len(token.text) > 15:
            self.fault(f"expected an integer of at most 14 digits, not {token.text!r}", token)
        return int(token.text)
