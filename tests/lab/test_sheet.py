"""Sheets of drawings: where each stands, at what size, and that nothing in one can run or break out."""

import base64
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transfuse import TransfuseError
from transfuse_lab.drawing.sheet import (
    GAP,
    LINE,
    WIDEST,
    Cell,
    Placed,
    data_uri,
    lay_out,
    save_sheet,
    wrapped,
)
from transfuse_pictures.files import image_bytes

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="50"><script>alert(1)</script></svg>'
TAG = "{http://www.w3.org/2000/svg}"


def png(level: float, height: int = 8, width: int = 8, channels: int = 1) -> bytes:
    return image_bytes(np.full((channels, height, width), level, np.float32))


def saved(tmp_path: Path, *rows: list[Cell]) -> np.ndarray:
    save_sheet(rows, tmp_path / "new/sheet.png", "--out")
    with Image.open(tmp_path / "new/sheet.png") as opened:
        return np.asarray(opened)


def test_small_pictures_stand_side_by_side_enlarged(tmp_path: Path) -> None:
    levels = (0.0, 0.25, 0.5, 0.75, 1.0)
    cells = [Cell(png(level)) for level in levels]
    sheet = saved(tmp_path, cells[:3], cells[3:])
    assert sheet.shape == (2 * 64 + 3 * GAP, 3 * 64 + 4 * GAP, 3)
    for i, level in enumerate(levels):
        y, x = GAP + (i // 3) * (64 + GAP), GAP + (i % 3) * (64 + GAP)
        assert (sheet[y : y + 64, x : x + 64] == round(255 * level)).all()
    assert (sheet[:GAP] == 255).all()


def test_pictures_of_different_sizes_are_enlarged_alike_and_none_covers_another(tmp_path: Path) -> None:
    sheet = saved(tmp_path, *([Cell(png(0, side, side)), Cell(png(0, 32, 32))] for side in (8, 16)))
    assert (sheet == 0).all(axis=2).sum() == 4 * (64 + 256 + 2 * 1024)


def test_what_is_large_is_made_smaller_in_its_proportions() -> None:
    (placed,) = lay_out([[Cell(png(0, 2 * WIDEST, WIDEST))]]).drawings
    assert (placed.width, placed.height) == (WIDEST // 2, WIDEST)


def test_captions_stand_below_their_row() -> None:
    rows = [
        [Cell(png(0), "one"), Cell(png(0))],
        [Cell(png(0), "two words that need lines"), Cell(png(0), "b")],
    ]
    sheet = lay_out(rows)
    assert [line.text for line in sheet.words][:2] == ["one", "two words"]
    assert sheet.words[0].top == GAP + 64
    assert sheet.drawings[2].top == GAP + 64 + LINE + GAP
    assert sheet.height == sheet.drawings[2].top + 64 + 3 * LINE + GAP


def test_a_caption_runs_on_below_drawings_that_have_none() -> None:
    row = [Cell(png(0), "two words that need lines"), Cell(png(0)), Cell(png(0)), Cell(png(0), "b")]
    assert [line.text for line in lay_out([row]).words] == ["two words that need lines", "b"]


def test_a_column_is_as_wide_as_its_widest_drawing_and_a_row_as_high_as_its_highest() -> None:
    low, wide = Cell('<svg width="30" height="10">'), Cell('<svg width="90" height="20">')
    sheet = lay_out([[low, wide], [low], [wide, low]])
    assert [(one.left, one.top) for one in sheet.drawings] == [
        (GAP, GAP), (90 + 2 * GAP, GAP), (GAP, 20 + 2 * GAP), (GAP, 30 + 3 * GAP), (90 + 2 * GAP, 30 + 3 * GAP)
    ]  # fmt: skip
    assert (sheet.width, sheet.height) == (180 + 3 * GAP, 50 + 4 * GAP)


def test_an_svg_is_one_image_a_drawing_whose_script_does_not_run(tmp_path: Path) -> None:
    save_sheet([[Cell(SVG, "<b>&\x00\ufffe"), Cell(png(0))]], tmp_path / "a.svg", "--out")
    root = ET.parse(tmp_path / "a.svg").getroot()
    assert root.findall(f".//{TAG}script") == []
    first, second = root.findall(f"{TAG}image")
    assert (
        first.get("href")
        == data_uri(SVG)
        == "data:image/svg+xml;base64," + base64.b64encode(SVG.encode()).decode()
    )
    assert (first.get("width"), first.get("height")) == ("100", "50")
    assert str(second.get("href")).startswith("data:image/png;base64,iVBOR")
    assert [text.text for text in root.findall(f"{TAG}text")] == [r"<b>&\x00\ufffe"]


@pytest.mark.parametrize(
    ("cells", "name", "message"),
    [
        ([Cell(SVG)], "a.png", r"^--out .*a\.png: not all of these are pictures: give a name that ends in \.svg$"),
        ([Cell(SVG)], "a.jpg", r"^--out .*a\.jpg: cannot be written: give a name that ends in \.svg or \.png$"),
        ([], "a.svg", "nothing to draw"),
        ([Cell("no drawing")], "a.svg", "must be SVG as text or a PNG as bytes, not 'no drawing'"),
        ([Cell(b"GIF89a")], "a.svg", "must be SVG as text or a PNG as bytes, not b'GIF89a'"),
        ([Cell("<svg>")], "a.svg", "must have a width and a height"),
        ([Cell(png(0)[:30])], "a.png", "no readable PNG"),
        ([Cell(png(0))], "file/a.png", r"a\.png cannot be written \(.*\); it has .* bytes: make room there"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, cells: list[Cell], name: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TransfuseError, match=message):
        save_sheet([cells], tmp_path / name, "--out")


def test_a_view_box_says_the_size_too() -> None:
    box = '<?xml version="1.0"?><svg viewBox="0 0 30.4 20" stroke-width="3">'
    assert lay_out([[Cell(box)]]).drawings == [Placed(box, GAP, GAP, 30, 20)]


def test_captions_are_broken_between_words_and_cut() -> None:
    assert wrapped("woman firefighter: dark skin tone", 12, len) == ["woman", "firefighter:", "dark skin…"]
    assert wrapped("woman firefighter", 8, len) == ["woman", "firefig…"]
    assert wrapped("a cat", 100, len) == ["a cat"]


@given(st.text(), st.integers(1, 20), st.integers(1, 4))
def test_no_line_is_longer_than_asked(text: str, width: int, most: int) -> None:
    lines = wrapped(text, width, len, most)
    assert 1 <= len(lines) <= most
    assert all(len(line) <= width for line in lines)
