"""Drawings beside each other on one sheet, with words: SVG of any drawings, PNG where all of them are PNGs."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import accumulate, zip_longest
from pathlib import Path
from unicodedata import east_asian_width

from transfuse.errors import TransfuseError
from transfuse.files import write_bytes

from transfuse_lab.output_paths import SHEETS
from transfuse_lab.runs.records import data_uri
from transfuse_lab.visible import visible_line

SIDE = 64  # pixels a picture is enlarged to, about, in whole steps
WIDEST = 480  # pixels of a drawing's longer side, at most
GAP = 4  # pixels between drawings, and around them
TYPE, LINE, LINES = 10, 12, 3  # pixels of type, a line of caption, and lines of one
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Cell:
    """A drawing, SVG as text or a PNG as bytes, and words below it."""

    drawing: str | bytes
    caption: str = ""


@dataclass(frozen=True)
class Placed:
    """A drawing in its box, in pixels."""

    drawing: str | bytes
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Words:
    """A line of text; its upper left corner, and the size of its type."""

    text: str
    left: int
    top: int
    type: int = TYPE


@dataclass
class Sheet:
    """What stands where. Whoever lays it out puts in drawings and words."""

    width: int
    height: int
    drawings: list[Placed] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)

    def save(self, out: Path, option: str) -> None:
        """Write it as SVG or PNG, by its name. Raises TransfuseError, naming the option, where that cannot be."""
        kind = out.suffix.lower()
        if kind not in SHEETS:
            raise TransfuseError(f"{option} {out}: cannot be written: give a name that ends in .svg or .png")
        if kind == ".png" and any(isinstance(one.drawing, str) for one in self.drawings):
            raise TransfuseError(
                f"{option} {out}: not all of these are pictures: give a name that ends in .svg"
            )
        write_bytes(out, self.png() if kind == ".png" else self.svg().encode())

    def svg(self) -> str:
        """Each drawing is an image of its own, so that no script in it runs."""
        parts = [
            f'<image x="{one.left}" y="{one.top}" width="{one.width}" height="{one.height}"'
            f'{_PIXELATED if isinstance(one.drawing, bytes) else ""} href="{data_uri(one.drawing)}"/>'
            for one in self.drawings
        ]
        parts += [
            f'<text x="{one.left}" y="{one.top + one.type}" font-size="{one.type}">'
            f"{escape(visible_line(one.text))}</text>"
            for one in self.words
        ]
        size = f'width="{self.width}" height="{self.height}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {self.width} {self.height}" '
            f'font-family="sans-serif" fill="#495057">\n<rect {size} fill="#ffffff"/>\n'
            + "\n".join(parts)
            + "\n</svg>\n"
        )

    def png(self) -> bytes:
        """The same where all drawings are PNGs."""
        from transfuse_pictures.sheet import paint

        return paint(
            (self.width, self.height),
            [
                (one.drawing, (one.left, one.top, one.width, one.height))
                for one in self.drawings
                if isinstance(one.drawing, bytes)
            ],
            [(visible_line(one.text), (one.left, one.top), one.type, "#495057") for one in self.words],
        )


_PIXELATED = ' style="image-rendering:pixelated"'


def save_sheet(rows: Sequence[Sequence[Cell]], out: Path, option: str) -> None:
    """Rows of cells as one file, SVG or PNG by its name. Raises TransfuseError, naming the option."""
    lay_out(rows).save(out, option)


def lay_out(rows: Sequence[Sequence[Cell]]) -> Sheet:
    """Drawings in rows and columns, captions below them, which may run on below drawings that have none.

    Raises TransfuseError where there is no drawing.
    """
    if not any(rows):
        raise TransfuseError("there is nothing to draw on a sheet")
    places = iter(sizes([cell.drawing for row in rows for cell in row]))
    shown = [[next(places) for _ in row] for row in rows]
    widths = [max(width for width, _ in column if width) for column in zip_longest(*shown, fillvalue=(0, 0))]
    lefts = [GAP, *(GAP + GAP * n + width for n, width in enumerate(accumulate(widths), 1))]
    sheet, top = Sheet(lefts[-1], GAP), GAP
    for row, boxes in zip(rows, shown, strict=True):
        bottom = below = top + max((height for _, height in boxes), default=0)
        for column, (cell, box) in enumerate(zip(row, boxes, strict=True)):
            sheet.drawings.append(Placed(cell.drawing, lefts[column], top, *box))
            if cell.caption:
                captioned = (n for n in range(column + 1, len(row)) if row[n].caption)
                right = lefts[next(captioned, len(row))]
                lines = wrapped(cell.caption, right - GAP - lefts[column])
                sheet.words += [Words(line, lefts[column], bottom + n * LINE) for n, line in enumerate(lines)]
                below = max(below, bottom + LINE * len(lines))
        top = below + GAP
    sheet.height = top
    return sheet


def sizes(drawings: Sequence[str | bytes], side: int = SIDE) -> list[tuple[int, int]]:
    """Width and height at which each is shown: small pictures enlarged to about ``side``, all by one whole
    number; what is longer than `WIDEST` made smaller."""
    own = [size_of(drawing) for drawing in drawings]
    tallest = max((h for d, (_, h) in zip(drawings, own, strict=True) if isinstance(d, bytes)), default=side)
    zoom = max(1, round(side / tallest))
    shown = []
    for drawing, (width, height) in zip(drawings, own, strict=True):
        scale = min(zoom if isinstance(drawing, bytes) else 1.0, WIDEST / max(width, height))
        shown.append((max(1, round(width * scale)), max(1, round(height * scale))))
    return shown


def size_of(drawing: str | bytes) -> tuple[int, int]:
    """Its own width and height. Raises TransfuseError where it is neither SVG nor PNG, or says no size."""
    if isinstance(drawing, bytes) and drawing[:8] == PNG and len(drawing) > 24:
        size = int.from_bytes(drawing[16:20]), int.from_bytes(drawing[20:24])
    elif isinstance(drawing, str) and (found := re.search(r"<svg\b[^>]*>", drawing)):
        sides = [re.search(rf'\s{side}="([0-9.]+)(px)?"', found[0]) for side in ("width", "height")]
        box = re.search(r'\sviewBox="[^ ]+ [^ ]+ ([0-9.]+) ([0-9.]+)"', found[0])
        texts = [side[1] for side in sides if side] if all(sides) else box.groups() if box else []
        size = tuple(round(float(text)) for text in texts if text.count(".") < 2)
    else:
        raise TransfuseError(f"a drawing must be SVG as text or a PNG as bytes, not {drawing!r:.60}")
    if len(size) != 2 or min(size) < 1:
        raise TransfuseError(f"a drawing must have a width and a height, and this has none: {drawing!r:.60}")
    return size[0], size[1]


def length(text: str) -> float:
    """About how many pixels wide a line of captions is."""
    return 0.6 * TYPE * sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def wrapped(text: str, width: float, length: Callable[[str], float] = length, most: int = LINES) -> list[str]:
    """Words in at most so many lines no longer than ``width`` by ``length(line)``; the rest is cut to ``…``."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and length(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    kept = lines[:most]
    if len(lines) > most:
        kept[-1] += "…"
    for n, line in enumerate(kept):
        while len(line) > 1 and length(line) > width:
            line = line.rstrip("…")[:-1] + "…"
        kept[n] = line
    return kept
