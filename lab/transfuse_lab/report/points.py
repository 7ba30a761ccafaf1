"""Charts of points as SVG: a figure against compute or a setting, and differences beside their margins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from transfuse_lab.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, path_through, steps, text_at
from transfuse_lab.report.figures import number
from transfuse_lab.report.html import Html, tag

Spell = Callable[[float], str]


@dataclass(frozen=True)
class Points:
    """A line of points, x rising.

    colour: number of the palette's colour. values: at each x, one a seed or trial. marked: the place of a point that
    is ringed, such as the one that was chosen.
    """

    name: str
    colour: int
    x: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    marked: int | None = None


def point_chart(
    lines: Sequence[Points], x_label: str, y_label: str, description: str, spell: Spell = number
) -> Html:
    """Every value as a dot, their means joined by a line; x on a log scale, where all of it is over 0.

    What is not finite is left out.
    """
    known = [v for line in lines for values in line.values for v in values if isfinite(v)]
    if not known:
        return tag("p", "No figure was recorded.", class_="quiet")
    xs = [x for line in lines for x in line.x]
    across = Scale(min(xs), max(xs), LEFT + 14, WIDTH - RIGHT - 14, log=min(xs) > 0)
    up = Scale(min(known), max(known), HEIGHT - BOTTOM - 10, TOP + 10)
    parts = [*_grid(across, up, spell), *_labels(x_label, y_label)]
    for line in lines:
        colour = f"c{line.colour % 6}"
        means = []
        for place, (x, values) in enumerate(zip(line.x, line.values, strict=True)):
            finite = [v for v in values if isfinite(v)]
            parts += [
                tag("circle", cx=at(across, x), cy=at(up, v), r=2.6, class_=f"dot {colour}") for v in finite
            ]
            if finite:
                mean = sum(finite) / len(finite)
                means.append((across(x), up(mean)))
                if place == line.marked:
                    parts.append(
                        tag("circle", cx=at(across, x), cy=at(up, mean), r=7, class_=f"ring {colour}")
                    )
        parts.append(tag("path", tag("title", line.name), d=path_through(means), class_=f"curve {colour}"))
    return svg(parts, WIDTH, HEIGHT, description)


@dataclass(frozen=True)
class Difference:
    """A difference with its interval, its margin to both sides, and what is said of it. single: of each seed."""

    name: str
    mean: float
    low: float
    high: float
    margin: float
    verdict: str
    single: tuple[float, ...] = ()


ROW = 46


def difference_chart(rows: Sequence[Difference], description: str) -> Html:
    """A row a difference, each on its own scale in units of its margin: what lies within the grey does not matter."""
    width, left, right = 640, 190, 150
    reach = (
        max([2.0, *(abs(end) / row.margin for row in rows for end in (row.low, row.high, *row.single))])
        * 1.05
    )
    across = Scale(-reach, reach, left, width - right, margin=0)
    parts: list[Html] = []
    height = ROW * len(rows) + 34
    for mark in steps(-reach, reach):
        parts.append(text_at(across(mark), height - 8, f"{mark:g}".replace("-", "−"), "middle"))
    for i, row in enumerate(rows):
        y = ROW * i + ROW / 2
        parts.append(
            tag(
                "rect",
                x=at(across, -1),
                y=y - 15,
                width=f"{across(1) - across(-1):.1f}",
                height=30,
                class_="margin",
            )
        )
        parts.append(tag("line", x1=at(across, row.low / row.margin), x2=at(across, row.high / row.margin), y1=y, y2=y,
                         class_="interval c0"))  # fmt: skip
        parts += [
            tag("circle", cx=at(across, v / row.margin), cy=y + 9, r=2.4, class_="dot c5") for v in row.single
        ]
        parts.append(tag("circle", cx=at(across, row.mean / row.margin), cy=y, r=4.5, class_="dot c0"))
        parts += [
            text_at(left - 12, y + 4, row.name, "end"),
            text_at(width - right + 12, y + 4, row.verdict, "start"),
        ]
    zero = at(across, 0)
    parts.insert(0, tag("line", x1=zero, x2=zero, y1=0, y2=height - 24, class_="axis"))
    return svg(parts, width, height, description)


def svg(parts: Sequence[Html], width: float, height: float, description: str) -> Html:
    return tag(
        "svg", *parts, viewbox=f"0 0 {width} {height}", role="img", aria_label=description, class_="chart"
    )


class Scale:
    """From values to pixels, on a straight or a log scale, with a little room at both ends."""

    def __init__(
        self, low: float, high: float, start: float, end: float, log: bool = False, margin: float = 0.04
    ) -> None:
        self.log = log
        low, high = (log10(low), log10(high)) if log else (low, high)
        room = margin * (high - low) or (0.0 if margin == 0 else 0.1)
        self.low, self.high, self.start, self.end = low - room, high + room, start, end

    def __call__(self, value: float) -> float:
        along = log10(value) if self.log else value
        return self.start + (along - self.low) / (self.high - self.low) * (self.end - self.start)

    def marks(self) -> list[float]:
        """Round values along it."""
        if not self.log:
            return steps(self.low, self.high)
        powers = range(floor(self.low), ceil(self.high) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5)):
            found = [d * 10.0**p for p in powers for d in digits]
            found = [mark for mark in found if self.low <= log10(mark) <= self.high]
            if len(found) >= 3:
                return found
        return steps(10**self.low, 10**self.high)


def at(scale: Scale, value: float) -> str:
    """As an attribute has it."""
    return f"{scale(value):.1f}"


def _grid(across: Scale, up: Scale, spell: Spell) -> list[Html]:
    floor_ = HEIGHT - BOTTOM
    parts = []
    for mark in up.marks():
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at(up, mark), y2=at(up, mark), class_="rule"))
        parts.append(text_at(LEFT - 6, up(mark) + 4, spell(mark), "end"))
    for mark in across.marks():
        parts.append(
            text_at(across(mark), floor_ + 16, number(mark) if mark >= 1e6 else f"{mark:.3g}", "middle")
        )
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor_, y2=floor_, class_="axis"))
    return parts


def _labels(x_label: str, y_label: str) -> list[Html]:
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    turned = tag(
        "text", y_label, x=0, y=0, text_anchor="middle", transform=f"translate(12 {middle}) rotate(-90)"
    )
    return [text_at(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 6, x_label, "middle"), turned]
