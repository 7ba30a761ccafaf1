"""How an arm's score depends on each setting that was searched: a picture of its own."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Protocol

from transfuse_lab.report.chart import HEIGHT, WIDTH
from transfuse_lab.report.html import Html, tag
from transfuse_lab.report.points import Points, point_chart

ROOM, HEAD = 24, 26


class Tried(Protocol):
    """A setting that was searched: see `transfuse_lab.comparison.tuned.Choice`."""

    @property
    def key(self) -> str: ...
    @property
    def tried(self) -> Sequence[tuple[float, float]]: ...
    @property
    def best(self) -> float: ...


def sensitivity(choices: Mapping[str, Mapping[str, Sequence[Tried]]]) -> str:
    """An SVG with a row an arm and size, a chart a setting; the best that was tried is ringed."""
    rows = [(f"{arm}, {size}", found) for arm, sizes in choices.items() for size, found in sizes.items()]
    most = max(len(found) for _, found in rows)
    width, height = most * (WIDTH + ROOM), len(rows) * (HEIGHT + HEAD + ROOM)
    style = files("transfuse_lab.report").joinpath("style.css").read_text("utf-8")
    parts = [tag("style", Html(style)), tag("rect", width=width, height=height, fill="var(--card)")]
    for i, (name, found) in enumerate(rows):
        y = i * (HEIGHT + HEAD + ROOM)
        for j, one in enumerate(found):
            place = {"transform": f"translate({j * (WIDTH + ROOM)} {y})"}
            chart = tag("svg", _chart(one, i), y=HEAD, width=WIDTH, height=HEIGHT)
            parts.append(tag("g", tag("text", f"{name}: {one.key}", x=12, y=18), chart, **place))
    head = 'xmlns="http://www.w3.org/2000/svg"'
    whole = tag("svg", *parts, viewbox=f"0 0 {width} {height}", width=width, height=height)
    return str(whole).replace("<svg", f"<svg {head}", 1) + "\n"


def _chart(one: Tried, colour: int) -> Html:
    values = tuple(value for value, _ in one.tried)
    line = Points(one.key, colour, values, tuple((score,) for _, score in one.tried), values.index(one.best))
    return point_chart([line], one.key, "score", f"score by {one.key}", lambda value: f"{value:.3g}")
