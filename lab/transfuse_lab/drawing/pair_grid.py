"""`transfuse eval --grid`: real and drawn pictures side by side, captions below, as one picture."""

import base64
from collections.abc import Sequence
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

from transfuse.errors import TransfuseError

from transfuse_lab.runs.records import Sample

SIDE = 64  # pixels a picture is enlarged to, at least, in whole steps
ACROSS = 8  # pairs a row
GAP, MARGIN = 4, 12  # between the two of a pair, and around it
LINE, LINES, TEXT = 12, 3, 10  # pixels a line of caption, lines, pixels of type
HEAD = 30  # pixels of a block's title
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
TITLES = {"train": "captions trained on: real, generated", "heldout": "captions held out: real, generated"}


def check_grid(path: Path) -> None:
    """Raises TransfuseError where the file's ending names no picture that can be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise TransfuseError(f"--grid {path}: a picture's name ends in one of {', '.join(SUFFIXES)}")


def pair_grid(samples: Sequence[Sample]) -> Any:
    """A Pillow image: a block of pairs a split, what was trained on first. Samples without ``real`` are left out.

    Raises TransfuseError where none is left.
    """
    from PIL import Image, ImageDraw, ImageFont

    paired = sorted((s for s in samples if s.real), key=lambda s: s.split != "train")
    if not paired:
        raise TransfuseError("--grid: the run's record holds no pair of a real and a generated picture")
    blocks = [(split, list(block)) for split, block in groupby(paired, key=lambda s: s.split)]
    zoom = max(1, -(-SIDE // max(_opened(s.image).height for s in paired)))
    width = zoom * max(_opened(s.image).width for s in paired)
    height = zoom * max(_opened(s.image).height for s in paired)
    step_x, step_y = 2 * width + GAP + 2 * MARGIN, height + LINES * LINE + 2 * MARGIN
    across = min(ACROSS, max(len(block) for _, block in blocks))
    tall = sum(HEAD + step_y * -(-len(block) // across) for _, block in blocks)
    sheet = Image.new("RGB", (across * step_x, tall), "white")
    pen, small = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    top = 0
    for split, block in blocks:
        pen.text((MARGIN, top + MARGIN), TITLES[split], "black", ImageFont.load_default(14))
        top += HEAD
        for place, sample in enumerate(block):
            x, y = place % across * step_x + MARGIN, top + place // across * step_y + MARGIN
            for shift, text in ((0, sample.real), (width + GAP, sample.image)):
                image = _opened(text or "").convert("RGB")
                size = (image.width * zoom, image.height * zoom)
                sheet.paste(image.resize(size, Image.Resampling.NEAREST), (x + shift, y))
            for n, line in enumerate(wrapped(sample.prompt, 2 * width + GAP, small.getlength)):
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


def _opened(text: str) -> Any:
    """The picture that `transfuse_lab.runs.records.picture` wrote."""
    from PIL import Image

    return Image.open(BytesIO(base64.b64decode(text)))
