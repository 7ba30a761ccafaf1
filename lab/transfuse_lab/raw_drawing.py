"""Raw data as SVG: series as lines, grids as heat maps, words wrapped; of bounded size, whatever they hold."""

import math
import re
from html import escape
from itertools import groupby
from typing import Any
from unicodedata import east_asian_width

import numpy as np
from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality
from transfuse.modalities.raw import as_numbers

WIDTH, HEIGHT, EDGE, TYPE = 320, 160, 8, 11  # pixels: of lines and heat maps, around them, and of type
CHANNELS, POINTS = 8, 256  # most lines, and places along one at which its least and greatest are drawn
CELLS, PANELS = 48, 9  # most cells along all heat maps, and heat maps beside each other
LETTERS, ROWS = 48, 24  # most letters a row of words, and rows
COLOURS = ("#3d5a80", "#ee6c4d", "#2a9d8f", "#9b5de5", "#e9c46a", "#6c757d", "#d62828", "#118ab2")
LEVELS = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.linspace((241, 243, 245), (29, 53, 87), 16).astype(int)]
LEVELS.append("#f4a261")  # of what is not finite
UNDRAWN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML may hold."""


def drawn(modality: Modality, raw: Any) -> str | bytes:
    """Raw data as their modality draws them, else as `draw` does. Raises TransfuseError where neither can."""
    own = seam.call(modality, "draw", raw)
    return draw(raw) if own is None else own


def draw(raw: Any) -> str:
    """SVG of a string or an array of numbers: ``[n]``, and ``[channels, n]`` of few channels, as lines; what has
    more, as heat maps of its last two axes. What is not finite is a gap in a line, and orange in a heat map.

    Raises TransfuseError for anything else.
    """
    if isinstance(raw, str):
        return _words(raw)
    array = as_numbers(raw)
    if array is None:
        raise TransfuseError(f"raw data of type {type(raw).__name__} need a draw of their own")
    title = f"{array.dtype} [{', '.join(map(str, array.shape))}]"
    if not array.size:
        return _words(f"{title}: empty")
    if array.ndim < 2 or (array.ndim == 2 and array.shape[0] <= min(CHANNELS, array.shape[1] - 1)):
        return _lines(array.reshape(-1, array.shape[-1] if array.ndim else 1), title)
    return _heat(array.reshape(-1, *array.shape[-2:]), title)


def _lines(array: np.ndarray, title: str) -> str:
    values, low, high = _scaled(array)
    count = values.shape[1]
    along = np.arange(count)
    if count > 2 * POINTS:  # each stretch by its least and greatest, so that no peak is lost
        starts = np.linspace(0, count, POINTS, endpoint=False).astype(int)
        least, greatest = (ends.reduceat(values, starts, axis=1) for ends in (np.fmin, np.fmax))
        values, along = np.stack([least, greatest], 2).reshape(len(values), -1), starts.repeat(2)
    x = EDGE + along / max(count - 1, 1) * WIDTH
    y = EDGE + TYPE + (1 - values) * HEIGHT
    right, bottom = EDGE + WIDTH, EDGE + TYPE + HEIGHT
    paths = []
    for colour, line in zip(COLOURS, y, strict=False):
        seen, steps = np.isfinite(line), []
        for i in np.flatnonzero(seen):
            joined, followed = i and seen[i - 1], seen[i + 1 : i + 2].any()
            steps.append(
                f"{'L' if joined else 'M'}{x[i]:.1f} {line[i]:.1f}{'' if joined or followed else 'm-2 0h4'}"
            )
        paths.append(f'<path d="{"".join(steps)}" stroke="{colour}" stroke-width="1.5"/>')
    frame = f'<path d="M{EDGE} {EDGE + TYPE}V{bottom}H{right}" stroke="#adb5bd"/>'
    words = [
        (EDGE, EDGE + TYPE - 3, "start", high),
        (EDGE, bottom + TYPE, "start", f"{low}   (0 … {count - 1})"),
        (right, EDGE + TYPE - 3, "end", title),
    ]
    return _svg(f'<g fill="none">{frame}{"".join(paths)}</g>', words, right + EDGE, bottom + TYPE + EDGE)


def _heat(array: np.ndarray, title: str) -> str:
    shown = array[np.linspace(0, len(array) - 1, min(PANELS, len(array))).astype(int)]
    across = math.ceil(math.sqrt(len(shown)))
    most = CELLS // across
    rows, columns = (np.linspace(0, n - 1, min(n, most)).astype(int) for n in shown.shape[1:])
    values, low, high = _scaled(shown[:, rows[:, None], columns])
    levels = np.where(np.isfinite(values), np.nan_to_num(values) * 15.99, 16).astype(int)
    cell = max(1, HEIGHT // (across * max(levels.shape[1:]) + across - 1))
    height, width = (cell * n for n in levels.shape[1:])
    steps: dict[int, list[str]] = {}
    for number, panel in enumerate(levels):
        top, left = (
            EDGE + n * (side + cell) for n, side in zip(divmod(number, across), (height, width), strict=True)
        )
        for y, row in enumerate(panel):
            x = left
            for level, run in groupby(row.tolist()):
                wide = cell * len(list(run))
                steps.setdefault(level, []).append(f"M{x} {top + TYPE + y * cell}h{wide}v{cell}h-{wide}z")
                x += wide
    paths = "".join(f'<path d="{"".join(d)}" fill="{LEVELS[level]}"/>' for level, d in sorted(steps.items()))
    down = -(-len(shown) // across)
    bottom = EDGE + TYPE + down * (height + cell) - cell
    of = f"   ({len(shown)} of {len(array)})" if len(shown) < len(array) else ""
    least = f"{low} … {high}" if high else low
    words = [(EDGE, EDGE + TYPE - 3, "start", title), (EDGE, bottom + TYPE, "start", least + of)]
    right = max(EDGE + across * (width + cell) - cell, EDGE + max(_width(text) for *_, text in words))
    return _svg(f'<g shape-rendering="crispEdges">{paths}</g>', words, right + EDGE, bottom + TYPE + EDGE)


def _words(text: str) -> str:
    rows: list[str] = []
    for line in text[: 2 * LETTERS * ROWS].splitlines() or [""]:
        rows.append("")
        for word in re.findall(rf"\S{{1,{LETTERS // 2}}}|\s", line):
            if sum(map(_letters, rows[-1] + word)) > LETTERS:
                rows.append("")
            rows[-1] += word if rows[-1] or word.strip() else ""
    if len(rows) > ROWS or len(text) > 2 * LETTERS * ROWS:
        rows = [*rows[: ROWS - 1], "…"]
    words = [(EDGE, EDGE + (n + 1) * (TYPE + 3), "start", row) for n, row in enumerate(rows)]
    right = 2 * EDGE + max(_width(row) for row in rows)
    return _svg("", words, max(right, WIDTH // 4), 2 * EDGE + len(rows) * (TYPE + 3))


def _scaled(array: np.ndarray) -> tuple[np.ndarray, str, str]:
    """Values from 0 to 1, NaN where they are not finite; and the least and greatest in figures."""
    values = np.where(np.isfinite(array), array, np.nan).astype(np.float64)
    if not np.isfinite(values).any():
        return np.full(values.shape, np.nan), "no finite value", ""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    spread = high / 2 - low / 2  # halves: the difference of two floats may be none
    return (values / 2 - low / 2) / spread if spread else values * 0 + 0.5, f"{low:.4g}", f"{high:.4g}"


def _letters(letter: str) -> int:
    """How many letters' width it has."""
    return 2 if east_asian_width(letter) in "WF" else 1


def _width(text: str) -> int:
    return round(0.6 * TYPE * sum(map(_letters, text)))


def _svg(body: str, words: list[tuple[int, int, str, str]], width: int, height: int) -> str:
    texts = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(UNDRAWN.sub("?", text))}</text>'
        for x, y, anchor, text in words
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{body}'
        f'<g font-family="sans-serif" font-size="{TYPE}" fill="#495057" xml:space="preserve">{texts}</g></svg>'
    )
