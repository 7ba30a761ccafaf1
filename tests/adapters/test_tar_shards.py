"""Tar shards are read by number where they lie; what is odd about one is an error that names shard and member."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transfuse import TransfuseError
from transfuse.errors import RecordError
from transfuse.registry.plugins import Plugins
from transfuse_adapters.samples import LARGEST
from transfuse_adapters.tar_shards import TarShards
from transfuse_lab.datasets import open_data


def png(colour: int, side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("L", (side, side), colour).save(file, "PNG")
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def shard(
    path: Path, members: list[tuple[str, bytes]], change: Callable[[tarfile.TarInfo], Any] | None = None
) -> None:
    with tarfile.open(path, "w:") as tar:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            if change is not None:
                change(info)
            tar.addfile(info, io.BytesIO(body))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number in range(2):
        members = []
        for i in range(number * 20, number * 20 + 20):
            members += [
                (f"{i:04}.png", png(i)),
                (f"{i:04}.txt", f"grey {i}".encode()),
                (f"{i:04}.json", b"{}"),
            ]
        shard(tmp_path / f"pets-{number}.tar", members)
    return tmp_path


def test_samples_by_number_in_the_order_of_the_roles(shards: Path, installed: Plugins) -> None:
    data = open_data(f"webdataset;path={shards};channels=1", installed)
    assert data.size("train") + data.size("heldout") == 40
    assert data.size("heldout") > 0
    seen = []
    for split in ("train", "heldout"):
        for index in range(data.size(split)):
            text, image = data.document(split, index).items
            assert (text.modality, image.modality, text.droppable) == ("text", "image", True)
            assert image.data.shape == (1, 8, 8)
            assert round(float(image.data[0, 0, 0]) * 255) == int(text.data.removeprefix("grey "))
            assert data.document_roles(split, index) == ["text", "image"]
            seen.append(text.data)
    assert len(set(seen)) == 40
    assert data.account() == "40 samples in 2 shards; 40 members of other endings not used"


def test_held_out_shards_by_their_names(shards: Path) -> None:
    (shards / "pets-1.tar").rename(shards / "pets-heldout.tar")
    data = TarShards(shards, channels=1)
    assert (data.size("train"), data.size("heldout")) == (20, 20)
    assert data.document("heldout", 0).items[0].data == "grey 20"


def test_arrays_and_endings_of_your_own(tmp_path: Path) -> None:
    series = np.arange(6, dtype=np.float32).reshape(2, 3)
    shard(
        tmp_path / "a.tar", [("x/1.series.npy", npy(series)), ("x/1.name.txt", b"up"), ("x/1.txt", b"no")] * 1
    )
    data = TarShards(tmp_path, {"name.txt": "text", "series.npy": "series"})
    split = "train" if data.size("train") else "heldout"
    name, found = data.document(split, 0).items
    assert (name.data, found.modality) == ("up", "series")
    assert np.array_equal(found.data, series)


def odd(field: str, value: Any) -> Callable[[tarfile.TarInfo], Any]:
    return lambda info: setattr(info, field, value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("../../etc/passwd.txt", None, "leads elsewhere"),
        ("/etc/passwd.txt", None, "leads elsewhere"),
        ("a\\..\\b.txt", None, "leads elsewhere"),
        ("1.txt", odd("type", tarfile.SYMTYPE), "is a link, a device or sparse"),
        ("1.txt", odd("type", tarfile.LNKTYPE), "is a link, a device or sparse"),
        ("1.txt", odd("type", tarfile.CHRTYPE), "is a link, a device or sparse"),
    ],
)
def test_names_and_kinds_that_are_tricks_are_refused(
    tmp_path: Path, name: str, change: Any, message: str
) -> None:
    shard(tmp_path / "a.tar", [(name, b"")], change)
    with pytest.raises(TransfuseError, match=rf"a\.tar: .*{message}"):
        TarShards(tmp_path)


def test_a_member_that_says_it_is_huge_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("1.txt")
    info.size = LARGEST + 1
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(TransfuseError, match="more than the"):
        TarShards(tmp_path)
    info.size = 10_000
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(TransfuseError, match="the shard ends in it"):
        TarShards(tmp_path)


@pytest.mark.parametrize("body", [b"", b"no tar file at all" * 100, b"\x1f\x8b" + bytes(100)])
def test_what_is_no_tar_file_is_named(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(body)
    with pytest.raises(TransfuseError, match=r"a\.tar: is no tar file|no sample is left"):
        TarShards(tmp_path)


HUGE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000,), }"
BAD = {
    "1.png": b"no picture",
    "2.txt": b"\xff\xfe\xff",
    "3.txt": b"x" * 100_001,
    "4.npy": b"\x93NUMPY\x01\x00" + b"\x76\x00" + HUGE.ljust(117) + b"\n",
    "5.npy": npy(np.zeros(3)).replace(b"f8", b"O8"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_sample_is_a_record_error(tmp_path: Path, name: str) -> None:
    shard(tmp_path / "a.tar", [(f"good{i}.txt", b"good") for i in range(20)] + [(name, BAD[name])])
    data = TarShards(tmp_path, {"txt": "text", "png": "image", "npy": "series"})
    faults = []
    for split in ("train", "heldout"):
        for index in range(data.size(split)):
            try:
                data.document(split, index)
            except RecordError as error:
                faults.append(str(error))
    assert len(faults) == 1
    assert f"a.tar: {name}" in faults[0]


def test_a_folder_without_shards(tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match=r"no \.tar file lies there"):
        TarShards(tmp_path)
