"""Every text of the product that holds a cure: what to do, or what was meant, found in its source."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("core", "plugins", "adapters", "lab")
VERBS = (
    "add", "allow", "ask", "begin", "build", "call", "change", "choose", "copy", "cut", "delete", "divide", "draw",
    "drop", "evaluate", "fill", "fit", "fix", "free", "give", "go", "have", "install", "leave", "list", "look",
    "lower", "make", "mark", "mend", "move", "name", "pack", "pip", "plan", "quote", "raise", "read", "remove",
    "rename", "repeat", "resize", "restore", "return", "run", "save", "say", "see", "shorten", "stop", "take",
    "train", "use", "wait", "write",
)  # fmt: skip
CURE = re.compile(
    rf"(^|[:;,(.] |\b(or|and|then|otherwise) |`transfuse )({'|'.join(VERBS)})\b"
    r"|did_you_mean\(|hint\}|[-A-Za-z]+ is missing:|\bsay --",
    re.IGNORECASE,
)
"""An imperative where a clause begins, or what finds the nearest name."""


@dataclass(frozen=True)
class Text:
    """A string of the source, f-strings with their holes: where it stands, how it reads, and what it may become."""

    file: str
    template: str
    becomes: re.Pattern[str]

    def __str__(self) -> str:
        return f"{self.file}: {self.template}"


@cache
def texts_with_cures() -> tuple[Text, ...]:
    return tuple(
        text
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if "testing" not in path.parts  # what the kit tells authors is tried by the kit's own tests
        for text in _texts(path)
        if " " in text.template and CURE.search(text.template)
    )


def text_of(part: str) -> Text:
    """The one whose file and template, ``lock.py: {what} is being …``, hold this part."""
    (found,) = [text for text in texts_with_cures() if part in str(text)] or [None]
    assert found is not None, f"no text with a cure holds {part!r}"
    return found


def _texts(path: Path) -> Iterator[Text]:
    inside = set[ast.AST]()  # docstrings, the help of options, and what an f-string is made of
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr):
            inside.add(node.value)
        elif isinstance(node, ast.keyword) and node.arg == "help":
            inside.update(ast.walk(node.value))
        elif isinstance(node, ast.JoinedStr) and node not in inside:
            inside.update(piece for piece in node.values if isinstance(piece, ast.Constant))
            inside.update(piece.format_spec for piece in node.values if isinstance(piece, ast.FormattedValue))
            yield _text(path, node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield _text(path, [node])


def _text(path: Path, pieces: list[ast.expr]) -> Text:
    template, becomes = "", ""
    for piece in pieces:
        if isinstance(piece, ast.FormattedValue):
            template += f"{{{ast.unparse(piece.value)}}}"
            becomes += ".*?"
        elif isinstance(piece, ast.Constant):
            template += piece.value
            becomes += r"\s+".join(map(re.escape, piece.value.split("\n")))
    return Text(path.name, template, re.compile(becomes, re.DOTALL))
