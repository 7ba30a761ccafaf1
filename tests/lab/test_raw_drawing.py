"""Drawings of raw data whose modality has none of its own: bounded in size, whatever they hold."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transfuse import TransfuseError
from transfuse_lab.raw_drawing import draw

NUMBERS = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes()
)
ARRAYS = hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5))


def drawn(raw: object) -> ET.Element:
    svg = draw(raw)
    assert len(svg) < 100_000
    return ET.fromstring(svg)


def words(svg: ET.Element) -> str:
    return "\n".join(text.text or "" for text in svg.iter("{http://www.w3.org/2000/svg}text"))


def paths(svg: ET.Element) -> list[ET.Element]:
    return list(svg.iter("{http://www.w3.org/2000/svg}path"))


@given(raw=st.one_of(ARRAYS, hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=80))))
def test_every_array_has_a_drawing(raw: np.ndarray) -> None:
    assert str(raw.dtype) in words(drawn(raw))


@given(text=st.text())
def test_every_text_has_a_drawing(text: str) -> None:
    drawn(text)


@pytest.mark.parametrize("shape", [(100_000,), (3, 50_000), (1000, 1000), (50, 200, 200), (2, 9, 5, 3, 40)])
def test_drawings_do_not_grow_with_the_data(shape: tuple[int, ...]) -> None:
    drawn(np.random.default_rng(0).normal(size=shape))


def test_a_line_a_channel_between_least_and_greatest() -> None:
    svg = drawn(np.array([[0, 1, 2, 3], [3, 3, 3, -1.5]]))
    assert "float64 [2, 4]" in words(svg)
    assert words(svg).split("\n")[:2] == ["3", "-1.5   (0 … 3)"]
    frame, rising, falling = (path.get("d") or "" for path in paths(svg))
    top, bottom = 8 + 11, 8 + 11 + 160
    assert frame == f"M8 {top}V{bottom}H328"
    assert rising.startswith(f"M8.0 {top + 160 * 3 / 4.5:.1f}")
    assert rising.endswith(f"L328.0 {top:.1f}")
    assert falling.endswith(f"L328.0 {bottom:.1f}")


def test_no_peak_of_a_long_line_is_lost() -> None:
    line = np.zeros(100_000)
    line[77_777] = 1
    assert " 19.0" in str(paths(drawn(line))[1].get("d"))


def test_what_is_not_finite_is_a_gap_in_a_line_and_a_colour_in_a_heat_map() -> None:
    line = np.array([1, np.nan, 2, 3, np.inf, 2.5, 2])
    assert str(paths(drawn(line))[1].get("d")).count("M") == 3
    heat = np.arange(81.0).reshape(9, 9)
    heat[2, 3] = np.nan
    orange = [path for path in paths(drawn(heat)) if path.get("fill") == "#f4a261"]
    assert [str(path.get("d")).count("M") for path in orange] == [1]
    assert "no finite value" in words(drawn(np.full((9, 9), np.nan)))


def test_further_axes_are_heat_maps_beside_each_other() -> None:
    assert "(9 of 24)" in words(drawn(np.random.default_rng(0).normal(size=(2, 3, 4, 9, 9))))


def test_words_are_wrapped_and_escaped() -> None:
    svg = drawn("a <b>cat</b> & " + 20 * "two dogs " + 60 * "x" + "\x00")
    lines = words(svg).split("\n")
    assert lines[0].startswith("a <b>cat</b> & two dogs")
    assert max(map(len, lines)) <= 48
    assert "".join(lines).endswith("x?")
    assert words(drawn("long " * 10_000)).endswith("…")


def test_what_has_no_drawing_is_named() -> None:
    for raw in ({"a": 1}, np.array(["a"]), np.array([1j])):
        with pytest.raises(TransfuseError, match="need a draw of their own"):
            draw(raw)
