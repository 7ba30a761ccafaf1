"""`transfuse eval --grid`: real and drawn images side by side, captions below, as one picture."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from transfuse.errors import TransfuseError

from transfuse_lab.datasets.images import picture
from transfuse_lab.evaluation.shown import Drawn

SIDE = 64  # pixels an image is enlarged to, at least, in whole steps
ACROSS = 8  # pairs a row
GAP, MARGIN = 4, 12  # between the two of a pair, and around it
LINE, LINES, TEXT = 12, 3, 10  # pixels a line of caption, lines, pixels of type
HEAD = 30  # pixels of a block's title
TITLES = {"train": "captions trained on: real, generated", "heldout": "captions held out: real, generated"}


def pair_grid(drawn: Sequence[Drawn]) -> Any:
    """A Pillow image: a block of pairs a split, what was trained on first. Raises TransfuseError without a pair."""
    from PIL import Image, ImageDraw, ImageFont

    if not drawn:
        raise TransfuseError("--grid: the evaluation holds no pair of a real and a generated image")
    pairs = sorted(drawn, key=lambda one: one.split != "train")
    blocks = [(split, list(block)) for split, block in groupby(pairs, key=lambda one: one.split)]
    zoom = max(1, -(-SIDE // max(one.image.shape[1] for one in pairs)))
    height, width = (zoom * max(one.image.shape[axis] for one in pairs) for axis in (1, 2))
    step_x, step_y = 2 * width + GAP + 2 * MARGIN, height + LINES * LINE + 2 * MARGIN
    across = min(ACROSS, max(len(block) for _, block in blocks))
    tall = sum(HEAD + step_y * -(-len(block) // across) for _, block in blocks)
    sheet = Image.new("RGB", (across * step_x, tall), "white")
    pen, small = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    top = 0
    for split, block in blocks:
        pen.text((MARGIN, top + MARGIN), TITLES[split], "black", ImageFont.load_default(14))
        top += HEAD
        for place, one in enumerate(block):
            x, y = place % across * step_x + MARGIN, top + place // across * step_y + MARGIN
            for shift, array in ((0, one.real), (width + GAP, one.image)):
                image = picture(array).convert("RGB")
                size = (image.width * zoom, image.height * zoom)
                sheet.paste(image.resize(size, Image.Resampling.NEAREST), (x + shift, y))
            for n, line in enumerate(wrapped(one.prompt, 2 * width + GAP, small.getlength)):
                pen.text((x, y + height + 2 + n * LINE), line, "dimgray", small)
        top += step_y * -(-len(block) // across)
    return sheet


def wrapped(text: str, width: float, length: Any, most: int = LINES) -> list[str]:
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
