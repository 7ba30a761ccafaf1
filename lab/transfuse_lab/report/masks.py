"""The report's masks: who sees whom, on an example."""

from collections.abc import Sequence
from dataclasses import dataclass

from transfuse.errors import TransfuseError

from transfuse_lab.report.html import Html, tag
from transfuse_lab.report.sections import section


@dataclass(frozen=True)
class MaskPicture:
    """A mask drawn on an example.

    entries: the comparison's entries that use it. expression: its text form.
    drawing: a string a query, ``#`` where it sees the key and ``.`` where not.
    labels: what each position is, a word or letter each, or empty.
    """

    entries: tuple[str, ...]
    expression: str
    drawing: tuple[str, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = {len(row) for row in self.drawing}
        if len(keys) != 1 or set("".join(self.drawing)) - {"#", "."}:
            raise TransfuseError(f"mask {self.expression}: a drawing is rows of '#' and '.', of one length")
        if self.labels and len(self.labels) != len(self.drawing):
            raise TransfuseError(
                f"mask {self.expression}: {len(self.labels)} labels for {len(self.drawing)} queries"
            )


def mask_pictures(masks: Sequence[MaskPicture]) -> Html:
    """Who sees whom."""
    if not masks:
        return Html("")
    cards = [
        tag("figure", tag("figcaption", ", ".join(one.entries)), draw_mask(one), tag("code", one.expression))
        for one in masks
    ]
    note = "A row is a position that looks, a column one that is looked at; filled: it is seen."
    return section("Masks", tag("p", note, class_="quiet"), tag("div", *cards, class_="cards"))


def draw_mask(mask: MaskPicture) -> Html:
    """The picture as SVG; labels stand beside the queries."""
    rows, width = len(mask.drawing), len(mask.drawing[0])
    margin = max((len(label) for label in mask.labels), default=0) * 0.55 + (0.5 if mask.labels else 0)
    parts = [tag("rect", x=margin, y=0, width=width, height=rows, class_="unseen")]
    for y, line in enumerate(mask.drawing):
        parts += [
            tag("rect", x=f"{margin + start:g}", y=y, width=length, height=1, class_="seen")
            for start, length in _runs(line)
        ]
    lines = [(margin + x, margin + x, 0, rows) for x in range(width + 1)]
    lines += [(margin, margin + width, y, y) for y in range(rows + 1)]
    parts += [tag("line", x1=a, x2=b, y1=c, y2=d, class_="mesh") for a, b, c, d in lines]
    parts += [
        tag("text", label, x=f"{margin - 0.35:.2f}", y=y + 0.78, text_anchor="end")
        for y, label in enumerate(mask.labels)
    ]
    return tag(
        "svg", *parts, viewbox=f"-0.1 -0.1 {margin + width + 0.2:.2f} {rows + 0.2}", role="img",
        aria_label=f"mask {mask.expression}", class_="mask",
    )  # fmt: skip


def _runs(line: str) -> list[tuple[int, int]]:
    """Start and length of each stretch of ``#``."""
    runs, start = [], None
    for place, cell in enumerate(line + "."):
        if cell == "#" and start is None:
            start = place
        elif cell == "." and start is not None:
            runs.append((start, place - start))
            start = None
    return runs
