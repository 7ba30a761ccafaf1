"""`transfuse eval --grid`: what is real and what a model made side by side, prompts below, as one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from transfuse.errors import TransfuseError

from transfuse_lab.drawing.sheet import GAP, LINE, LINES, Placed, Sheet, Words, sizes, wrapped

ACROSS, WIDE = 8, 2400  # pairs a row at most, and pixels of one
MARGIN = 12  # pixels around a pair
HEAD = 30  # pixels of a block's title
TITLES = {"train": "prompts trained on: real, generated", "heldout": "prompts held out: real, generated"}


@dataclass(frozen=True)
class Pair:
    """Drawings, SVG as text or PNG as bytes, of what the model made for a prompt and of what is real.

    real: None where there is none. split: where the prompt is from.
    """

    prompt: str
    real: str | bytes | None
    made: str | bytes
    split: Literal["train", "heldout"]


def save_pairs(pairs: Sequence[Pair], out: Path, option: str) -> None:
    """The pairs as one file, SVG or PNG by its name. Raises TransfuseError, naming the option."""
    if not pairs:
        raise TransfuseError(f"{option}: the evaluation holds no pair of what is real and what was generated")
    pair_sheet(pairs).save(out, option)


def pair_sheet(pairs: Sequence[Pair]) -> Sheet:
    """A block of pairs a split, what was trained on first."""
    pairs = sorted(pairs, key=lambda one: one.split != "train")
    drawn = [one.made for one in pairs] + [one.real for one in pairs if one.real is not None]
    size = dict(zip(drawn, sizes(drawn), strict=True))
    width, height = (max(shown[axis] for shown in size.values()) for axis in (0, 1))
    blocks = [(split, list(block)) for split, block in groupby(pairs, key=lambda one: one.split)]
    step_x, step_y = 2 * width + GAP + 2 * MARGIN, height + LINES * LINE + 2 * MARGIN
    across = min(ACROSS, max(1, WIDE // step_x), max(len(block) for _, block in blocks))
    sheet, top = Sheet(across * step_x, 0), 0
    for split, block in blocks:
        sheet.words.append(Words(TITLES[split], MARGIN, top + MARGIN, 14))
        top += HEAD
        for place, one in enumerate(block):
            x, y = place % across * step_x + MARGIN, top + place // across * step_y + MARGIN
            for shift, drawing in ((0, one.real), (width + GAP, one.made)):
                if drawing is not None:
                    sheet.drawings.append(Placed(drawing, x + shift, y, *size[drawing]))
            lines = wrapped(one.prompt, 2 * width + GAP)
            sheet.words += [Words(line, x, y + height + 2 + n * LINE) for n, line in enumerate(lines)]
        top += step_y * -(-len(block) // across)
    sheet.height = top
    return sheet
