"""The sheet of what is real and what was generated: where each pair is."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transfuse import TransfuseError
from transfuse_lab.drawing.pair_grid import ACROSS, HEAD, MARGIN, TITLES, Pair, pair_sheet, save_pairs
from transfuse_lab.drawing.sheet import GAP, LINE, LINES
from transfuse_pictures.files import image_bytes


def flat(red: float, side: int = 8) -> bytes:
    image = np.zeros((3, side, side), np.float32)
    image[0] = red
    return image_bytes(image)


def pair(prompt: str, split: Any, red: float) -> Pair:
    return Pair(prompt, flat(red / 2), flat(red), split)


def test_each_pair_stands_in_its_block_real_first() -> None:
    held = [pair(f"held {n}", "heldout", 1.0) for n in range(ACROSS + 1)]
    sheet = np.asarray(Image.open(BytesIO(pair_sheet([*held, pair("seen", "train", 0.4)]).png())))
    step_x, step_y = 2 * 64 + GAP + 2 * MARGIN, 64 + LINES * LINE + 2 * MARGIN
    assert sheet.shape == (2 * HEAD + 3 * step_y, ACROSS * step_x, 3)
    middle = 32 + MARGIN
    second = HEAD + step_y + HEAD
    for y, x, red in [
        (HEAD, 0, 0.4),
        (second, 0, 1.0),
        (second, (ACROSS - 1) * step_x, 1.0),
        (second + step_y, 0, 1.0),
    ]:
        assert sheet[y + middle, x + middle].tolist() == [round(red / 2 * 255 + 1e-9), 0, 0]
        assert sheet[y + middle, x + middle + 64 + GAP].tolist() == [round(red * 255), 0, 0]
    assert sheet[HEAD + middle, step_x + middle].tolist() == [255, 255, 255]


def test_what_has_no_counterpart_leaves_its_place_empty() -> None:
    sheet = pair_sheet([Pair("series", None, '<svg width="300" height="100">', "heldout")])
    assert [(one.left, one.width) for one in sheet.drawings] == [(MARGIN + 300 + GAP, 300)]
    assert [line.text for line in sheet.words] == [TITLES["heldout"], "series"]


def test_without_pairs_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match="--grid: the evaluation holds no pair"):
        save_pairs([], tmp_path / "a.svg", "--grid")
