"""Raw data to files and back, bit for bit; what is damaged or lies is refused; and drawings of bounded size."""

import io
import struct
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transfuse import TransfuseError
from transfuse.modalities.raw import LARGEST, RawData

RAW = RawData()
NUMBERS = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes()
)
ARRAYS = hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5))
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw")


@given(raw=ARRAYS, fortran=st.booleans())
def test_an_array_comes_back_bit_for_bit(folder: Path, raw: np.ndarray, fortran: bool) -> None:
    raw = np.asfortranarray(raw) if fortran else raw
    path = folder / f"a{RAW.suffix_for(raw)}"
    RAW.save(raw, path)
    back = RAW.load(path)
    assert (back.dtype, back.shape, back.tobytes()) == (raw.dtype, raw.shape, raw.tobytes())
    back[...] = 0  # it may be written to


@given(text=st.one_of(TEXTS, TEXTS.map("\ufeff".__add__)))
def test_a_text_comes_back_letter_for_letter(folder: Path, text: str) -> None:
    path = folder / f"a{RAW.suffix_for(text)}"
    RAW.save(text, path)
    assert RAW.load(path) == text


def test_a_list_of_numbers_is_an_array(folder: Path) -> None:
    RAW.save([1.5, 2], folder / "a.npy")
    assert RAW.load(folder / "a.npy").tolist() == [1.5, 2.0]


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def head(shape: str, descr: str = "'<f8'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no .npy file"),
        (b"\x93NUMPY\x01", "is no .npy file"),
        (npy("{"), "is no .npy file"),
        (npy("{}"), "is no .npy file"),
        (npy("(" * 9000), "is no .npy file"),
        (npy(head("(2,)"), bytes(16), b"\x07\x00"), "is no .npy file"),
        (npy(head("(10**12,)"), bytes(8)), "is no .npy file"),
        (npy(head("(1000000000000,)"), bytes(8)), r"is damaged: its header says float64 \(1000000000000,\), and 8 "),
        (npy(head("(99999999999, 99999999999, 0)"), bytes(8)), "is damaged"),
        (npy(head("(-1, -2)"), bytes(16)), "is damaged"),
        (npy(head("(2,)"), bytes(15)), "is damaged"),
        (npy(head("(2,)"), bytes(17)), "is damaged"),
        (npy(head("(1,)", "'<U4'"), bytes(16)), "holds <U4, and only arrays of numbers are read"),
        (npy(head("(1,)", "[('a', '<f8')]"), bytes(8)), "only arrays of numbers are read"),
        (pickled(), "only arrays of numbers are read"),
    ],
)  # fmt: skip
def test_a_file_that_lies_is_refused_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(TransfuseError, match=message) as error:
        RAW.load(tmp_path / "a.npy")
    assert str(error.value).startswith(str(tmp_path / "a.npy"))
    assert "\n" not in str(error.value)


@given(cut=st.integers(0, 200), at=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_damaged_file_is_an_array_or_one_line(folder: Path, cut: int, at: int, byte: int) -> None:
    RAW.save(np.arange(6.0).reshape(2, 3), folder / "a.npy")
    data = bytearray((folder / "a.npy").read_bytes())
    data[at % len(data)] = byte
    (folder / "b.npy").write_bytes(data[: len(data) - (cut if cut < 100 else 0)])
    said = "fine"
    try:
        assert isinstance(RAW.load(folder / "b.npy"), np.ndarray)
    except TransfuseError as error:
        said = str(error)
    assert "\n" not in said


@pytest.mark.parametrize("name", ["none.npy", "none.txt", ".", "a.png", "a\0b.npy", "a\0b.txt", "a"])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(TransfuseError, match=r"is missing|cannot be read|ends in \.npy or \.txt"):
        RAW.load(tmp_path / name)


def test_more_than_is_read_of_a_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(TransfuseError, match=r"a\.npy: more than 256 MiB"):
        RAW.load(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("raw", "name", "message"),
    [
        ("word", "a.npy", "of type str are not written so"),
        (np.zeros(2), "a.txt", "of type ndarray are not written so"),
        (np.array(["a"]), "a.npy", "are not written so"),
        ({"a": 1}, "a.npy", "of type dict are not written so"),
        ([[1], [1, 2]], "a.npy", "of type list are not written so"),
        ("\ud800", "a.txt", "half a surrogate pair"),
        (np.zeros(2), "file/a.npy", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path: Path, raw: Any, name: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TransfuseError, match=message) as error:
        RAW.save(raw, tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


# -- drawings


def drawn(raw: Any) -> ET.Element:
    svg = RAW.draw(raw)
    assert isinstance(svg, str)
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
            RAW.draw(raw)
