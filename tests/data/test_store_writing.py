"""Stores are packed in parts, by anybody, anywhere, stopped at any moment: in the end they are the same bits."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transfuse import TransfuseError
from transfuse.datasets import DataSet, checked_index
from transfuse.documents import Document, Item
from transfuse_adapters.store import arrays
from transfuse_adapters.store.places import Folder, place_of
from transfuse_adapters.store.reader import Store
from transfuse_adapters.store.tools import faults, info, merge, split
from transfuse_adapters.store.writer import pack


class Noise(DataSet):
    """Documents of a text and an array that differ in length."""

    reversed_share = 0.0

    def __init__(self, train: int = 23, heldout: int = 5, name: str = "noise", first_id: int = 0) -> None:
        self.name, self.sizes, self.first_id = name, {"train": train, "heldout": heldout}, first_id
        self.read = 0

    def size(self, split: str) -> int:
        return self.sizes[split]

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        self.read += 1
        number = checked_index(self.name, split, index, self.sizes[split]) + 1000 * (split == "heldout")
        values = np.random.default_rng(number).random((number % 5 + 1, 9)).astype(np.float32)
        return Document((Item("text", f"number {number}"), Item("series", values)), self.first_id + number)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "sizes": self.sizes}


def bits(store: Path | str) -> dict[str, bytes]:
    place = place_of(store)
    return {name: place.read(name, 2**30) for name in place.sizes()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "whole.zarr"
    assert pack(Noise(), path, parts=3)
    return path


def test_each_document_is_in_one_part(whole: Path) -> None:
    store, data = Store(whole), Noise()
    assert [part.part.splits["train"] for part in store._parts] == [7, 8, 8]
    for name, size in data.sizes.items():
        assert store.size(name) == size
        for index in range(size):
            one, two = data.document(name, index), store.document(name, index)
            assert (one.id, one.items[0]) == (two.id, two.items[0])
            assert np.array_equal(one.items[1].data, two.items[1].data)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_parts_by_different_writers_are_the_same_bits(
    whole: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    path = tmp_path / "parts.zarr"
    done = [pack(Noise(), path, parts=3, part=number) for number in order]
    assert done == [False, False, True]
    assert bits(path) == bits(whole)
    assert pack(Noise(), path, parts=3, part=1)  # a writer that comes again has nothing to do
    assert bits(path) == bits(whole)


def test_parts_at_the_same_time(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "parts.zarr"
    threads = [
        threading.Thread(target=pack, args=(Noise(), path), kwargs={"parts": 3, "part": n}) for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bits(path) == bits(whole)


def test_finished_parts_are_read_and_not_written_again(whole: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "two.zarr", Noise()
    pack(data, path, parts=3, part=0)
    pack(data, path, parts=3, part=2)
    with pytest.raises(TransfuseError, match=r"no manifest\.json, so it was never finished"):
        Store(path)
    store = Store(path, partial=True)
    assert (store.size("train"), store.document("train", 7).id) == (15, 15)
    assert dict(info(path))["parts"] == "2 of 3"
    data.read = 0
    assert pack(data, path, parts=3)
    assert data.read == 8 + 2
    assert bits(path) == bits(whole)


class Stopped(Exception):
    """Where a process is killed, none of its code runs any more."""


@pytest.mark.parametrize("after", [False, True])
def test_stopped_at_the_nth_file_nothing_finished_is_lost(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """After every n-th file, and in the middle of it: parts that have a manifest are whole, and the rest is redone."""
    put, asked, fails = Folder.put, 0, -1

    def counted(place: Folder, name: str, data: bytes) -> None:
        nonlocal asked
        asked += 1
        if asked == fails:
            if after:
                put(place, name, data)
            else:
                (place.path / name).parent.mkdir(parents=True, exist_ok=True)
                (place.path / f"{name}.7-7.partial").write_bytes(data[: len(data) // 2])
            raise Stopped
        put(place, name, data)

    monkeypatch.setattr(Folder, "put", counted)
    pack(Noise(), tmp_path / "count.zarr", parts=3)
    total, fails = asked, 0
    for fails in range(1, total + 1):
        path, asked = tmp_path / f"{fails}.zarr", 0
        with pytest.raises(Stopped):
            pack(Noise(), path, parts=3)
        finished = len(list(path.glob("part-*/manifest.json")))
        if (path / "plan.json").exists() and not (path / "manifest.json").exists():
            store = Store(path, partial=True)
            assert len(store._parts) == finished
            store.verify()
        if not (path / "manifest.json").exists():
            asked = -(10**9)
            pack(Noise(), path, parts=3)
        assert bits(path) == bits(whole)


def test_another_plan_is_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    pack(Noise(), path, parts=3, part=0)
    for other, parts in ((Noise(train=24), 3), (Noise(), 4), (Noise(name="other"), 3)):
        with pytest.raises(TransfuseError, match=r"was begun otherwise: .*; repeat that command"):
            pack(other, path, parts=parts)


def test_a_part_of_another_plan_is_found(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "a.zarr"
    pack(Noise(train=24), path, parts=3, part=0)
    shutil.rmtree(path / "part-000000")
    shutil.copytree(whole / "part-000000", path / "part-000000")
    with pytest.raises(TransfuseError, match="part-000000 is of another plan"):
        pack(Noise(train=24), path, parts=3)


# -- at addresses


@pytest.fixture
def memory() -> Iterator[str]:
    import fsspec

    yield "memory://stores/noise.zarr"
    fsspec.filesystem("memory").rm("/stores", recursive=True)


def test_over_fsspec_it_is_the_same(whole: Path, memory: str, tmp_path: Path) -> None:
    assert not pack(Noise(), memory, parts=3, part=1)
    assert Store(memory, partial=True).size("train") == 8
    assert pack(Noise(), memory, parts=3)
    assert bits(memory) == bits(whole)
    Store(memory).verify()
    assert list(faults(memory)) == []
    address = f"file://{tmp_path}/file.zarr"
    assert pack(Noise(), address, parts=3)
    assert bits(address) == bits(whole) == bits(tmp_path / "file.zarr")
    assert Store(address).document("train", 3).items[0].data == "number 3"


def test_what_is_wrong_at_an_address_is_named(memory: str) -> None:
    import fsspec

    pack(Noise(), memory, parts=2)
    files, name = fsspec.filesystem("memory"), "part-000001/data_series/c/0"
    body = files.cat_file(f"/stores/noise.zarr/{name}")
    for changed in (body[:-5], bytes(len(body)), None):
        files.rm(f"/stores/noise.zarr/{name}")
        if changed is not None:
            files.pipe_file(f"/stores/noise.zarr/{name}", changed)
        assert [fault for fault in faults(memory) if name in fault]
        with pytest.raises(TransfuseError, match=name):
            Store(memory).document("train", 20)
    with pytest.raises(TransfuseError, match="nothing is there"):
        Store("memory://nowhere.zarr")
    with pytest.raises(TransfuseError, match="fsspec does not reach it"):
        Store("nosuchprotocol://x.zarr")


# -- merged and split


def test_split_and_merged_it_holds_the_same_documents(whole: Path, tmp_path: Path) -> None:
    outs = [tmp_path / f"{n}.zarr" for n in range(3)]
    split(whole, 3, outs)
    assert [Store(out).size("train") for out in outs] == [7, 8, 8]
    merge(outs, tmp_path / "again.zarr")
    again, store = Store(tmp_path / "again.zarr"), Store(whole)
    again.verify()
    assert list(faults(tmp_path / "again.zarr")) == []
    for name in ("train", "heldout"):
        assert again.size(name) == store.size(name)
        for index in range(store.size(name)):
            one, two = store.document(name, index), again.document(name, index)
            assert (one.id, one.items[0]) == (two.id, two.items[0])


def test_ids_that_two_stores_share_are_moved(whole: Path, tmp_path: Path) -> None:
    merge([whole, whole, whole], tmp_path / "thrice.zarr")
    store = Store(tmp_path / "thrice.zarr")
    ids = store.ids().tolist()
    assert len(ids) == len(set(ids)) == 3 * 28
    assert store.document("train", 23).id == ids[0] + 1004 + 1
    assert store.document("train", 23).items[0].data == "number 0"
    split(tmp_path / "thrice.zarr", 2, [tmp_path / "one.zarr", tmp_path / "two.zarr"])
    assert sorted([*Store(tmp_path / "one.zarr").ids(), *Store(tmp_path / "two.zarr").ids()]) == sorted(ids)


def test_a_merge_that_was_stopped_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge([whole, whole], tmp_path / "wanted.zarr")
    put, left = Folder.put, 20

    def few(place: Folder, name: str, data: bytes) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Stopped
        put(place, name, data)

    monkeypatch.setattr(Folder, "put", few)
    with pytest.raises(Stopped):
        merge([whole, whole], tmp_path / "again.zarr")
    merge([whole, whole], tmp_path / "again.zarr")
    assert bits(tmp_path / "again.zarr") == bits(tmp_path / "wanted.zarr")


def test_a_damaged_store_is_not_carried_on(whole: Path, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(whole, tmp_path / "bad.zarr"))
    file = bad / "part-000001/data_series/c/0"
    body = bytearray(file.read_bytes())
    body[9] ^= 1
    file.write_bytes(body)
    with pytest.raises(TransfuseError, match="part-000001/data_series/c/0 was changed"):
        merge([whole, bad], tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr/manifest.json").exists()


def test_what_cannot_be_merged_or_split_says_why(whole: Path, tmp_path: Path) -> None:
    other = Noise()
    other.reversed_share = 0.5
    pack(other, tmp_path / "other.zarr")
    with pytest.raises(TransfuseError, match=r"its reversed_share are 0\.5, and those of"):
        merge([whole, tmp_path / "other.zarr"], tmp_path / "out.zarr")
    with pytest.raises(TransfuseError, match="name two stores or more"):
        merge([whole], tmp_path / "out.zarr")
    with pytest.raises(TransfuseError, match="3 parts do not become 4 stores"):
        split(whole, 4, [tmp_path / str(n) for n in range(4)])


# -- verified, and read


def damaged(folder: Path, name: str) -> Iterator[tuple[str, Callable[[], object]]]:
    file = folder / name
    body = file.read_bytes()
    middle = len(body) // 2
    yield "flipped", lambda: file.write_bytes(body[:middle] + bytes([body[middle] ^ 4]) + body[middle + 1 :])
    yield "cut", lambda: file.write_bytes(body[:middle])
    yield "zeroed", lambda: file.write_bytes(bytes(len(body)))
    yield "longer", lambda: file.write_bytes(body + b"\0")
    yield "gone", file.unlink


def test_verify_names_each_fault_of_many(whole: Path, tmp_path: Path) -> None:
    for name in sorted(bits(whole)):
        for what, damage in (
            damaged(tmp_path / "bad.zarr", name) if _copied(whole, tmp_path / "bad.zarr") else ()
        ):
            _copied(whole, tmp_path / "bad.zarr")
            damage()
            assert [fault for fault in faults(tmp_path / "bad.zarr") if name in fault], (name, what)
    _copied(whole, tmp_path / "bad.zarr")
    files = ["part-000000/ids/c/0", "part-000002/data_text/c/0"]
    for name in files:
        file = tmp_path / "bad.zarr" / name
        file.write_bytes(file.read_bytes()[::-1])
    found = list(faults(tmp_path / "bad.zarr"))
    assert len(found) == 2
    assert all(any(name in fault for fault in found) for name in files)


def _copied(whole: Path, path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(whole, path)
    return True


def test_parts_that_changed_places_are_found(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "swapped.zarr"))
    os.rename(path / "part-000001", path / "other")
    os.rename(path / "part-000002", path / "part-000001")
    os.rename(path / "other", path / "part-000002")
    assert len(list(faults(path))) == 2
    with pytest.raises(TransfuseError, match=r"part-000001/manifest\.json is not the one that belongs there"):
        Store(path)


def test_a_sample_reads_some_documents(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "bad.zarr"))
    assert list(faults(path, sample=3)) == []
    file = path / "part-000000/data_series/c/0"
    file.write_bytes(bytes(file.stat().st_size))
    assert ["part-000000/data_series/c/0" in fault for fault in faults(path, sample=3)] == [True]


def test_memory_is_that_of_the_chunks_that_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "CHUNK", 1024)
    pack(Noise(train=400), tmp_path / "a.zarr")
    store = Store(tmp_path / "a.zarr")
    store._cache.most = 8 * 1024
    for index in np.random.default_rng(0).permutation(400).tolist():
        store.document("train", index)
        assert store._cache.held <= 8 * 1024
        assert store._cache.held == sum(chunk.nbytes for chunk in store._cache._chunks.values())
