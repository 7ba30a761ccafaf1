"""Charts drawn as SVG: lines with bands over seeds, and dots of single seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np

from transfuse_lab.report.figures import number
from transfuse_lab.report.html import Html, tag

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 54, 16, 10, 40
GRID_POINTS = 120


@dataclass(frozen=True)
class Series:
    """One line: the curves of several seeds.

    colour: number of the palette's colour. curves: a pair (x, y) a seed, each of one length, x rising.
    """

    name: str
    colour: int
    curves: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]


def line_chart(series: Sequence[Series], x_label: str, y_label: str, description: str) -> Html:
    """Each series' mean over seeds on a log scale (linear where a value is not positive), in a band.

    The band reaches from the lowest to the highest seed. Between its points a curve is interpolated; a
    mean is drawn only where all its seeds have data. Curves that are not finite end where they stop
    being so.
    """
    lines = [(one, merged) for one in series if len((merged := _merged(one))[0])]
    if not lines:
        return tag("p", "No curve was recorded.", class_="quiet")
    x_high = max(float(x[-1]) for _, (x, *_) in lines)
    lowest = min(float(low.min()) for _, (_, _, low, _) in lines)
    highest = max(float(high.max()) for _, (_, _, _, high) in lines)
    axis = _Axis(lowest, highest, log=lowest > 0)
    across = (WIDTH - LEFT - RIGHT) / (x_high or 1)
    parts = [*_grid(axis, x_high, across), *_labels(x_label, y_label)]
    for one, (x, mean, low, high) in lines:
        place = LEFT + x * across
        colour = f"c{one.colour % 6}"
        if len(one.curves) > 1:
            outline = [*zip(place, axis.place(low), strict=True)]
            outline += [*zip(place, axis.place(high), strict=True)][::-1]
            parts.append(tag("path", d=path_through(outline) + "Z", class_=f"band {colour}"))
        middle = path_through([*zip(place, axis.place(mean), strict=True)])
        parts.append(tag("path", tag("title", one.name), d=middle, class_=f"curve {colour}"))
    return tag(
        "svg", *parts, viewbox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=description, class_="chart"
    )


def strip(groups: Sequence[Sequence[float | None]], description: str) -> Html:
    """Single values as dots on a line, a line a group, in the colours of the palette's order."""
    known = [value for values in groups for value in values if value is not None]
    if not known:
        return Html("")
    low, high = min(known), max(known)
    row, width = 11, 120
    dots = []
    for colour, values in enumerate(groups):
        y = row * colour + row / 2
        dots.append(tag("line", x1=4, x2=width - 4, y1=y, y2=y, class_="rule"))
        for value in values:
            if value is not None:
                x = 6 + (value - low) / (high - low or 1) * (width - 12) if high > low else width / 2
                dots.append(tag("circle", cx=f"{x:.1f}", cy=y, r=3.4, class_=f"dot c{colour % 6}"))
    size = f"0 0 {width} {row * len(groups)}"
    return tag("svg", *dots, viewbox=size, role="img", aria_label=description, class_="strip")


Lines = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
NO_LINES: Lines = (np.empty(0), np.empty(0), np.empty(0), np.empty(0))


def _merged(series: Series) -> Lines:
    """x, and over seeds mean, lowest and highest y, on a grid where every seed has data."""
    curves = [_finite(np.array(x, float), np.array(y, float)) for x, y in series.curves]
    if not curves or any(len(x) == 0 for x, _ in curves):
        return NO_LINES
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if end < start:
        return NO_LINES
    x = curves[0][0] if len(curves) == 1 else np.linspace(start, end, GRID_POINTS)
    rows = np.stack([np.interp(x, *curve) for curve in curves])
    return x, rows.mean(axis=0), rows.min(axis=0), rows.max(axis=0)


def _finite(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bad = np.flatnonzero(~np.isfinite(y))
    end = bad[0] if bad.size else len(y)
    return x[:end], y[:end]


class _Axis:
    """The vertical axis: where a value lies, and which values are marked."""

    def __init__(self, low: float, high: float, log: bool) -> None:
        self.log = log
        low, high = (log10(low), log10(high)) if log else (low, high)
        margin = 0.05 * (high - low) or 0.1
        self.low, self.high = low - margin, high + margin

    def place(self, values: np.ndarray) -> np.ndarray:
        scaled = np.log10(values) if self.log else values
        share = (scaled - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def ticks(self) -> list[float]:
        if not self.log:
            return steps(self.low, self.high)
        for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
            powers = range(floor(self.low), ceil(self.high) + 1)
            marks = [d * 10.0**p for p in powers for d in digits]
            marks = [mark for mark in marks if self.low <= log10(mark) <= self.high]
            if len(marks) >= 3:
                return marks
        return steps(10**self.low, 10**self.high)


def steps(low: float, high: float) -> list[float]:
    """Four to nine round values between two."""
    if high <= low:
        return [low]
    power = 10.0 ** floor(log10((high - low) / 4))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if (high - low) / (m * power) <= 6)
    return [n * step for n in range(ceil(low / step), floor(high / step) + 1)]


def _grid(axis: _Axis, x_high: float, across: float) -> list[Html]:
    floor_ = HEIGHT - BOTTOM
    parts = []
    for mark in axis.ticks():
        y = float(axis.place(np.array([mark]))[0])
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="rule"))
        parts.append(text_at(LEFT - 6, y + 4, f"{mark:.4g}", "end"))
    for mark in steps(0, x_high):
        parts.append(text_at(LEFT + mark * across, floor_ + 16, number(mark), "middle"))
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor_, y2=floor_, class_="axis"))
    return parts


def _labels(x_label: str, y_label: str) -> list[Html]:
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    turned = tag(
        "text", y_label, x=0, y=0, text_anchor="middle", transform=f"translate(12 {middle}) rotate(-90)"
    )
    return [text_at(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 6, x_label, "middle"), turned]


def text_at(x: float, y: float, text: str, anchor: str) -> Html:
    """A label; anchor: start, middle or end."""
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def path_through(points: Sequence[tuple[float, float]]) -> str:
    """A line through points, as an attribute ``d``."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
