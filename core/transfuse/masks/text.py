"""Masks as text: `show` prints one, `parse` reads it back through a whitelist. Nothing is evaluated."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from transfuse.errors import TransfuseError, did_you_mean
from transfuse.masks import algebra
from transfuse.masks.algebra import And, Constant, Delta, Flag, Mask, Not, Or, Same, Table

TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[+-]?\d+)|(?P<sign>[&|~().,=\[\]]))")
WORDS = ("same", "le", "lt", "delta", "table", "where", "full", "none", "q", "k")
DEEPEST = 60
"""Nesting beyond this is refused: no mask a person writes has it, and Python's own stack would end first."""

LARGEST = 1000
"""Atoms that one where may hold: nested in its flag it would double without end."""


def show(mask: Mask) -> str:
    """The text form: `parse(show(mask)) == mask`, with no more brackets than needed."""
    if isinstance(mask, Constant):
        return "full" if mask.value else "none"
    if isinstance(mask, Same):
        return f"same({mask.column})"
    if isinstance(mask, Delta):
        return _show_delta(mask)
    if isinstance(mask, Flag):
        return f"{mask.side}.{mask.column}"
    if isinstance(mask, Table):
        return f"table({mask.column}, {[list(row) for row in mask.rows]})"
    if isinstance(mask, Not):
        return "~" + _bracket(mask.term, And | Or)
    if isinstance(mask, And):
        return " & ".join(_bracket(term, Or) for term in mask.terms)
    assert isinstance(mask, Or), type(mask)
    return " | ".join(show(term) for term in mask.terms)


def _show_delta(mask: Delta) -> str:
    if mask.key == mask.column and mask.hi is None and mask.lo in (0, 1):
        return f"{'lt' if mask.lo else 'le'}({mask.column})"
    parts = [mask.column]
    parts += [f"{name}={bound}" for name, bound in (("lo", mask.lo), ("hi", mask.hi)) if bound is not None]
    parts += [f"key={mask.key}"] if mask.key != mask.column else []
    return f"delta({', '.join(parts)})"


def _bracket(mask: Mask, kinds: object) -> str:
    return f"({show(mask)})" if isinstance(mask, kinds) else show(mask)  # type: ignore[arg-type]


def parse(text: str) -> Mask:
    """The mask that `text` says. TransfuseError names the column of the fault (from 1) and the likely word.

    >>> parse("same(doc) & (le(idx) | same(span)) & ~k.noised")
    masks.parse('same(doc) & (le(idx) | same(span)) & ~k.noised')
    """
    if not isinstance(text, str):
        raise TransfuseError(f"a mask's text is a string, not {type(text).__name__}")
    reader = _Reader(text, _tokens(text))
    mask = reader.either(0)
    if reader.peek().kind != "end":
        reader.fault(f"expected & or | or the end, not {reader.peek().text!r}")
    return mask


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

    def either(self, depth: int) -> Mask:
        mask = self.both(depth)
        while self.accept("|"):
            mask = mask | self.both(depth)
        return mask

    def both(self, depth: int) -> Mask:
        mask = self.unary(depth)
        while self.accept("&"):
            mask = mask & self.unary(depth)
        return mask

    def unary(self, depth: int) -> Mask:
        if depth > DEEPEST:
            self.fault(f"nested more than {DEEPEST} deep")
        if self.accept("~"):
            return ~self.unary(depth + 1)
        if self.accept("("):
            mask = self.either(depth + 1)
            self.expect(")")
            return mask
        return self.atom(depth)

    def atom(self, depth: int) -> Mask:
        token = self.take()
        if token.kind != "name":
            self.fault(f"expected an atom ({', '.join(WORDS)}), not {token.text!r}", token)
        if token.text in ("full", "none"):
            return algebra.full if token.text == "full" else algebra.none
        if token.text in ("q", "k"):
            self.expect(".")
            return Flag(token.text, self.name())
        if token.text not in WORDS:
            self.fault(f"unknown atom {token.text!r}: {did_you_mean(token.text, WORDS)}", token)
        self.expect("(")
        mask = self.call(token, depth)
        self.expect(")")
        return mask

    def call(self, token: _Token, depth: int) -> Mask:
        if token.text == "where":
            parts = [self.either(depth + 1)]
            for _ in range(2):
                self.expect(",")
                parts.append(self.either(depth + 1))
            if sum(len(algebra.atoms(part)) for part in parts) > LARGEST:
                self.fault(
                    f"where stands for more than {LARGEST} atoms here: it writes its flag twice", token
                )
            return algebra.where(*parts)
        column = self.name()
        simple: dict[str, Callable[[str], Mask]] = {"same": algebra.same, "le": algebra.le, "lt": algebra.lt}
        if token.text in simple:
            return simple[token.text](column)
        try:
            return self.delta(column) if token.text == "delta" else self.table(column)
        except TransfuseError as fault:
            if str(fault).startswith("mask, column"):
                raise
            raise _fault(self.text, token.at, str(fault)) from None

    def delta(self, column: str) -> Mask:
        given: dict[str, int | str] = {}
        while self.accept(","):
            token = self.take()
            if token.text not in ("lo", "hi", "key"):
                hint = did_you_mean(token.text, ("lo", "hi", "key"))
                self.fault(f"delta takes lo=, hi= and key=, not {token.text!r}: {hint}", token)
            if token.text in given:
                self.fault(f"{token.text} is given twice", token)
            self.expect("=")
            given[token.text] = self.name() if token.text == "key" else self.number()
        return algebra.delta(column, **given)  # type: ignore[arg-type]

    def table(self, column: str) -> Mask:
        self.expect(",")
        return algebra.table(column, self.listing(lambda: self.listing(self.number)))

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
