"""Raw data to files and back, bit for bit; what is damaged or lies is refused."""

import io
import struct
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
