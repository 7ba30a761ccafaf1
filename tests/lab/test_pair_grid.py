"""The picture of real and generated images: where each pair is, and captions that fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse import TransfuseError
from transfuse_lab.drawing.pair_grid import ACROSS, GAP, HEAD, LINE, LINES, MARGIN, pair_grid, wrapped
from transfuse_lab.evaluation.shown import Drawn


def flat(red: float, side: int = 8) -> np.ndarray:
    image = np.zeros((3, side, side), np.float32)
    image[0] = red
    return image


def drawn(prompt: str, split: str, red: float) -> Drawn:
    return Drawn(prompt, flat(red), flat(red / 2), split)  # type: ignore[arg-type]


def test_each_pair_stands_in_its_block_real_first() -> None:
    held = [drawn(f"held {n}", "heldout", 1.0) for n in range(ACROSS + 1)]
    sheet = np.asarray(pair_grid([*held, drawn("seen", "train", 0.4)]))
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


def test_without_pairs_there_is_nothing_to_draw() -> None:
    with pytest.raises(TransfuseError, match="holds no pair"):
        pair_grid([])


def test_captions_are_broken_between_words_and_cut() -> None:
    assert wrapped("woman firefighter: dark skin tone", 12, len) == ["woman", "firefighter:", "dark skin…"]
    assert wrapped("woman firefighter", 8, len) == ["woman", "firefig…"]
    assert wrapped("a cat", 100, len) == ["a cat"]


@given(st.text(), st.integers(1, 20), st.integers(1, 4))
def test_no_line_is_longer_than_asked(text: str, width: int, most: int) -> None:
    lines = wrapped(text, width, len, most)
    assert 1 <= len(lines) <= most
    assert all(len(line) <= width for line in lines)
