"""A diagnosis as one SVG: gradients by layer, by noise and over training, and where each kind of position looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from transfuse_lab.evaluation.diagnosis import Diagnosis
from transfuse_lab.evaluation.gradients import ALL, Compared

COLOURS = ("#2463c9", "#d26a12", "#17825d", "#8a3fb5", "#b9264f", "#0d7f93")
QUIET, INK = "#868e96", "#212529"
WIDTH, HEIGHT, ACROSS = 400, 250, 2
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 42, 44
LARGEST_RATIO = 4.0


@dataclass(frozen=True)
class Point:
    """At a place of the axis: a value with its error, or hollow, without."""

    place: int
    value: float | None
    error: float = 0.0
    colour: str = INK
    hollow: bool = False


def diagnosis_picture(found: Sequence[Diagnosis]) -> str:
    """The last moment's layers, noise levels and attention; all moments' cosines where there are several."""
    last = found[-1]
    pairs = [one for one in last.gradients if not any("@" in name for name in one.losses)]
    names = list(dict.fromkeys(one.losses for one in pairs))
    layers = list(dict.fromkeys(one.layer for one in pairs))
    panels = [_cosines(pairs, names, layers), _ratios(pairs, names, layers)]
    if levels := [one for one in last.gradients if one.layer == ALL and any("@" in n for n in one.losses)]:
        panels.append(_by_noise(levels))
    if len(found) > 1:
        panels.append(_over_training(found, names))
    panels += _attention(last)
    rows = -(-len(panels) // ACROSS)
    placed = [
        f'<g transform="translate({i % ACROSS * WIDTH} {i // ACROSS * HEIGHT})">{panel}</g>'
        for i, panel in enumerate(panels)
    ]
    size = f"{ACROSS * WIDTH} {rows * HEIGHT}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{ACROSS * WIDTH}" '
        f'height="{rows * HEIGHT}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(placed)}</svg>\n'
    )


def _cosines(pairs: Sequence[Compared], names: Sequence[tuple[str, str]], layers: Sequence[str]) -> str:
    points, keys = [], []
    for one in pairs:
        colour, place = COLOURS[names.index(one.losses) % len(COLOURS)], layers.index(one.layer)
        points.append(Point(place, one.cosine.value, one.cosine.error or 0.0, colour))
        points.append(Point(place, one.half, colour=colour, hollow=True))
        points += [Point(place, own, colour=QUIET, hollow=True) for own in one.own]
    for i, pair in enumerate(names):
        keys.append((COLOURS[i % len(COLOURS)], " and ".join(pair)))
    keys.append((QUIET, "two halves of one; hollow: half the rows"))
    return _dots("Cosine of gradients, by layer", layers, points, (-1.0, 1.0), keys)


def _ratios(pairs: Sequence[Compared], names: Sequence[tuple[str, str]], layers: Sequence[str]) -> str:
    points = [
        Point(
            layers.index(one.layer), one.ratio.value, one.ratio.error or 0.0,
            COLOURS[names.index(one.losses) % len(COLOURS)],
        )
        for one in pairs
    ]  # fmt: skip
    largest = max([LARGEST_RATIO, *(p.value + p.error for p in points if p.value is not None)])
    keys = [(COLOURS[i % len(COLOURS)], f"{a} over {b}") for i, (a, b) in enumerate(names)]
    return _dots("Ratio of their norms, as training weighs them", layers, points, (0.0, largest), keys)


def _by_noise(levels: Sequence[Compared]) -> str:
    series = list(dict.fromkeys(tuple(name.partition("@")[0] for name in one.losses) for one in levels))
    numbers = sorted({int(n.partition("@")[2]) for one in levels for n in one.losses if "@" in n})
    points = []
    for one in levels:
        number = next(int(n.partition("@")[2]) for n in one.losses if "@" in n)
        pair = tuple(name.partition("@")[0] for name in one.losses)
        colour = COLOURS[series.index(pair) % len(COLOURS)]
        points.append(Point(numbers.index(number), one.cosine.value, one.cosine.error or 0.0, colour))
        points.append(Point(numbers.index(number), one.half, colour=colour, hollow=True))
    keys = [(COLOURS[i % len(COLOURS)], " and ".join(pair)) for i, pair in enumerate(series)]
    labels = [f"noise {number} of {len(numbers)}" for number in numbers]
    return _dots("Cosine by the span's noise, all layers", labels, points, (-1.0, 1.0), keys)


def _over_training(found: Sequence[Diagnosis], names: Sequence[tuple[str, str]]) -> str:
    points = []
    for place, moment in enumerate(found):
        for one in moment.gradients:
            if one.layer == ALL and one.losses in names:
                colour = COLOURS[names.index(one.losses) % len(COLOURS)]
                points.append(Point(place, one.cosine.value, one.cosine.error or 0.0, colour))
                points += [Point(place, own, colour=QUIET, hollow=True) for own in one.own]
    keys = [(COLOURS[i % len(COLOURS)], " and ".join(pair)) for i, pair in enumerate(names)]
    labels = [f"{moment.flops:.2g}" for moment in found]
    return _dots("Cosine over training FLOPs, all layers", labels, points, (-1.0, 1.0), keys)


def _dots(
    title: str,
    labels: Sequence[str],
    points: Sequence[Point],
    bounds: tuple[float, float],
    keys: Sequence[tuple[str, str]],
) -> str:
    """Points with error bars over places of an axis; those of one place beside each other."""
    low, high = bounds
    step = (WIDTH - LEFT - RIGHT) / len(labels)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (min(max(value, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, 16, title, weight="bold"), *_keys(keys)]
    for share in range(5):
        value = low + (high - low) * share / 4
        parts.append(_line(LEFT, up(value), WIDTH - RIGHT, up(value), "#dee2e6" if value else QUIET))
        parts.append(_text(LEFT - 5, up(value) + 4, f"{value:.2g}", anchor="end"))
    for place, label in enumerate(labels):
        parts.append(_text(LEFT + step * (place + 0.5), HEIGHT - BOTTOM + 16, label, anchor="middle"))
        own = [point for point in points if point.place == place]
        for i, point in enumerate(own):
            if point.value is None:
                continue
            x = LEFT + step * (place + (i + 1) / (len(own) + 1))
            if point.error:
                ends = up(point.value - point.error), up(point.value + point.error)
                parts.append(_line(x, ends[0], x, ends[1], point.colour))
            fill = "#fff" if point.hollow else point.colour
            parts.append(
                f'<circle cx="{x:.1f}" cy="{up(point.value):.1f}" r="3" fill="{fill}" stroke="{point.colour}"/>'
            )
    return "".join(parts)


def _attention(last: Diagnosis) -> list[str]:
    """For each kind of query a panel: in each layer, and if it looked at all alike, the shares of the kinds of keys."""
    panels = []
    kinds = list(dict.fromkeys(name for one in last.attention for name in one.keys))
    for query in dict.fromkeys(one.query for one in last.attention):
        own = sorted((one for one in last.attention if one.query == query), key=lambda one: one.layer)
        bars = [("even", own[0].even), *((str(one.layer), one.keys) for one in own)]
        step = (WIDTH - LEFT - RIGHT) / len(bars)
        keys = [(COLOURS[i % len(COLOURS)], f"to {kind}") for i, kind in enumerate(kinds)]
        parts = [_text(LEFT, 16, f"Attention of {query} by layer", weight="bold"), *_keys(keys)]
        for place, (label, shares) in enumerate(bars):
            y = float(HEIGHT - BOTTOM)
            for i, kind in enumerate(kinds):
                size = shares.get(kind, 0.0) * (HEIGHT - TOP - BOTTOM)
                y -= size
                parts.append(
                    f'<rect x="{LEFT + step * (place + 0.15):.1f}" y="{y:.1f}" width="{step * 0.7:.1f}" '
                    f'height="{size:.1f}" fill="{COLOURS[i % len(COLOURS)]}" opacity="{0.45 if not place else 0.9}"/>'
                )
            parts.append(_text(LEFT + step * (place + 0.5), HEIGHT - BOTTOM + 16, label, anchor="middle"))
        for share in (0.0, 0.5, 1.0):
            at = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
            parts.append(_text(LEFT - 5, at + 4, f"{share:.0%}", anchor="end"))
        panels.append("".join(parts))
    return panels


def _keys(keys: Sequence[tuple[str, str]]) -> list[str]:
    parts, x = [], float(LEFT)
    for colour, text in keys:
        parts.append(f'<circle cx="{x + 4:.1f}" cy="27" r="4" fill="{colour}"/>')
        parts.append(_text(x + 12, 31, text))
        x += 22 + 5.6 * len(text)
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{INK}">'
        f"{escape(text)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
