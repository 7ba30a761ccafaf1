"""A packed store gives back the documents bit for bit, or says which file is wrong."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transfuse import TransfuseError
from transfuse.datasets import DataSet, checked_index, content_hash
from transfuse.documents import Document, Item
from transfuse.files import digest, write_json
from transfuse_adapters import zarr_store, zarr_writer
from transfuse_adapters.zarr_store import Store
from transfuse_adapters.zarr_writer import write_store
from transfuse_lab.datasets.digits import Digits


class Listed(DataSet):
    """The documents it is handed; the last one is held out."""

    name = "listed"
    reversed_share = 0.25

    def __init__(self, *documents: Document) -> None:
        self.documents = {"train": documents[:-1], "heldout": documents[-1:]}

    def size(self, split: str) -> int:
        return len(self.documents[split])

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        return self.documents[split][checked_index(self.name, split, index, self.size(split))]

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "licence": "none"}


def picture(*sides: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return (np.random.default_rng(seed).random(sides) * 200).astype(dtype)


MIXED = Listed(
    Document((Item("text", "sept 七"), Item("image", picture(1, 3, 4), noised=False)), 7),
    Document(
        (Item("image", picture(2, 5, seed=1), loss=False), Item("text", ""), Item("depth", picture(3))), 9
    ),
    Document((), 12),
    Document((Item("depth", picture(2, 1, 1, 2)), Item("text", "x", droppable=True)), 3),
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "mixed.zarr"
    write_store(MIXED, path)
    return path


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "mixed.zarr"))


def same(one: Item, two: Item) -> bool:
    alike = replace(one, data=None) == replace(two, data=None) and type(one.data) is type(two.data)
    if isinstance(one.data, str):
        return alike and one.data == two.data
    return alike and one.data.dtype == two.data.dtype and np.array_equal(one.data, two.data)


def test_documents_come_back_with_flags_shapes_types_and_ids(packed: Path) -> None:
    store = Store(packed)
    for split in ("train", "heldout"):
        assert store.size(split) == MIXED.size(split)
        for index in range(store.size(split)):
            one, two = MIXED.document(split, index), store.document(split, index)
            assert (one.id, len(one.items)) == (two.id, len(two.items))
            assert all(same(a, b) for a, b in zip(one.items, two.items, strict=True))


def test_a_store_of_digits_is_the_digits(tmp_path: Path) -> None:
    manifest = write_store(Digits(), tmp_path / "digits.zarr")
    store = Store(tmp_path / "digits.zarr")
    store.verify()
    assert content_hash(store) == manifest.content == Digits().identity()["content"]
    assert store.identity() == Digits().identity() | {"store": True}
    one = Digits().document("train", 5, np.random.default_rng(1))
    two = store.document("train", 5, np.random.default_rng(1))
    assert all(same(a, b) for a, b in zip(one.items, two.items, strict=True))


def test_the_store_varies_the_order_as_its_origin_does(packed: Path) -> None:
    store, rng = Store(packed), np.random.default_rng(0)
    first = [store.document("train", 0, rng).items[0].modality for _ in range(1000)]
    assert abs(first.count("image") / 1000 - 0.25) < 0.05


def test_data_larger_than_a_shard_is_written_in_whole_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_writer, "CHUNK", 64)
    monkeypatch.setattr(zarr_writer, "CHUNKS_A_SHARD", 2)
    documents = [Document((Item("image", picture(n % 7, 5, seed=n)),), n) for n in range(40)]
    data = Listed(*documents)
    counts: list[int] = []
    write = zarr_writer._Filler._write
    monkeypatch.setattr(
        zarr_writer._Filler, "_write", lambda filler, count: (counts.append(count), write(filler, count))[1]
    )
    manifest = write_store(data, tmp_path / "long.zarr")
    assert len(counts) > 5
    assert {count % 32 for count in counts[:-1]} == {0}  # a shard is 2 x 64 bytes of float32
    Store(tmp_path / "long.zarr").verify()
    assert len([name for name in manifest.files if name.startswith("data_image")]) > 10


def test_chunks_and_shards_are_of_the_stated_size(tmp_path: Path) -> None:
    import zarr

    document = Document((Item("image", np.zeros((1, 1024, 1024), np.float32)),))
    write_store(Listed(document, replace(document, id=1)), tmp_path / "big.zarr")
    array = zarr.open_array(str(tmp_path / "big.zarr"), path="data_image", mode="r")
    assert (array.chunks, array.shards) == ((2**18,), (2**21,))
    assert [type(codec).__name__ for codec in array.compressors] == ["ZstdCodec", "Crc32cCodec"]


def test_a_store_without_a_manifest_was_never_finished(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(TransfuseError, match=r"mixed\.zarr: no manifest\.json, so it was never finished"):
        Store(copy)


def every_file() -> list[str]:
    arrays = ("first_item", "ids", "items", "data_text", "data_image", "data_depth")
    tables = {"items": "c/0/0"}
    data = [f"{name}/{tables.get(name, 'c/0')}" for name in arrays]
    return ["manifest.json", "zarr.json", *[f"{name}/zarr.json" for name in arrays], *data]


def test_these_are_all_the_files(packed: Path) -> None:
    found = {file.relative_to(packed).as_posix() for file in packed.rglob("*") if file.is_file()}
    assert found == set(every_file())


@pytest.mark.parametrize("name", every_file())
def test_a_deleted_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(TransfuseError, match=name):
        Store(copy)


@pytest.mark.parametrize("name", every_file())
def test_a_file_cut_short_is_named(copy: Path, name: str) -> None:
    cut = -2 if name == "manifest.json" else -1  # its last byte is a newline, which says nothing
    (copy / name).write_bytes((copy / name).read_bytes()[:cut])
    with pytest.raises(TransfuseError, match=name):
        Store(copy)


@pytest.mark.parametrize("name", every_file())
def test_a_flipped_bit_anywhere_is_named(copy: Path, name: str) -> None:
    body = (copy / name).read_bytes()
    for place in range(0, len(body), max(1, len(body) // 25)):
        changed = bytearray(body)
        changed[place] ^= 1 << place % 8
        (copy / name).write_bytes(changed)
        with pytest.raises(TransfuseError, match=f"{name.split('/')[0]}|{name}"):
            Store(copy)


def forge(store: Path, **fields: Any) -> None:
    """A manifest with a fitting checksum, but other content."""
    manifest = zarr_store.read_manifest(store)
    write_json(store / "manifest.json", manifest.model_copy(update=fields).checked())


def rewrite(store: Path, name: str, change: Callable[[np.ndarray], Any]) -> None:
    """Another content of one of its arrays, under checksums and a manifest that fit it."""
    import zarr

    array = zarr.open_array(str(store), path=name, mode="r+")
    values = array[:]
    change(values)
    array[:] = values
    manifest = zarr_store.read_manifest(store)
    forge(
        store,
        files={file: (store / file).stat().st_size for file in manifest.files},
        hashes={file: digest(store / file) for file in manifest.hashes},
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": 4}, "not of 5 documents"),
        ({"files": {"../../secret": 3}}, "leads out of the store"),
        ({"hashes": {"zarr.json": "0"}}, "zarr.json was changed"),
        ({"hashes": {}}, "does not list first_item"),
        ({"train": -1}, "not a store's manifest"),
        ({"format": "transfuse store 2"}, "not a store's manifest"),
        ({"reversed_share": 2.0}, "not a store's manifest"),
    ],
)
def test_a_forged_manifest_is_refused(copy: Path, fields: dict[str, Any], message: str) -> None:
    forge(copy, **fields)
    with pytest.raises(TransfuseError, match=message):
        Store(copy)


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"check": 1}', "[" * 100_000, "\udcff"])
def test_a_manifest_that_is_none_is_refused(copy: Path, body: str) -> None:
    (copy / "manifest.json").write_bytes(body.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        TransfuseError,
        match=r"manifest\.json(: not a store|.* (damaged .*|\(byte 0\)): delete the store and pack it again)",
    ):
        Store(copy)


@pytest.mark.parametrize(
    ("item", "column", "value"),
    [(0, 0, 9), (0, 0, -1), (0, 2, -1), (1, 2, 10**12), (1, 3, 5), (1, 4, -2), (1, 4, 2**62), (2, 3, -1)],
)
def test_an_item_outside_its_data_is_refused(copy: Path, item: int, column: int, value: int) -> None:
    rewrite(copy, "items", lambda items: items.__setitem__((item, column), value))
    with pytest.raises(TransfuseError, match=f"item {item} lies outside"):
        Store(copy)


def test_text_that_is_not_utf8_is_named(copy: Path) -> None:
    rewrite(copy, "data_text", lambda text: text.fill(0xFF))
    with pytest.raises(TransfuseError, match="item 0 is not UTF-8"):
        Store(copy).document("train", 0)


def test_verify_finds_documents_that_were_swapped_whole(copy: Path) -> None:
    rewrite(copy, "ids", lambda ids: ids.__setitem__(slice(None), ids[::-1].copy()))
    with pytest.raises(TransfuseError, match="not the ones that were packed"):
        Store(copy).verify()


def test_two_shards_of_one_size_that_changed_places_are_found(
    shapes: Callable[..., DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is whole and has its own checksum; only where it lies is wrong."""
    monkeypatch.setattr(zarr_writer, "CHUNK", 1024)
    monkeypatch.setattr(zarr_writer, "CHUNKS_A_SHARD", 2)

    def noisy(document: Document) -> Document:
        noise = np.random.default_rng(document.id).integers(0, 256, (1, 8, 8), dtype=np.uint8)
        return replace(document, items=(replace(document.items[1], data=noise),))

    store = tmp_path / "noise.zarr"
    write_store(shapes(train=128, heldout=8, change=noisy), store)
    one, two, *_ = sorted((store / "data_image" / "c").iterdir(), key=lambda path: int(path.name))
    first, second = one.read_bytes(), two.read_bytes()
    assert len(first) == len(second)
    assert first != second
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(TransfuseError, match="data_image/c/0 was changed since it was written"):
        Store(store)


def test_an_unfinished_store_is_replaced(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    write_store(MIXED, copy)
    Store(copy).verify()


def test_a_finished_store_is_never_overwritten(packed: Path) -> None:
    with pytest.raises(TransfuseError, match="a finished store is there already"):
        write_store(MIXED, packed)


def test_anything_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for path in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(TransfuseError, match="something that is no store is there"):
            write_store(MIXED, path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_someone_elses_zarr_is_never_overwritten(tmp_path: Path) -> None:
    import zarr

    zarr.open_group(str(tmp_path / "other.zarr"), mode="w", attributes={"transfuse": "model"})
    with pytest.raises(TransfuseError, match="something that is no store is there"):
        write_store(MIXED, tmp_path / "other.zarr")


def test_long_stretches_of_zeros_survive(tmp_path: Path) -> None:
    document = Document((Item("image", np.zeros(2**19, np.float32)),))
    write_store(Listed(document, replace(document, id=1)), tmp_path / "dark.zarr")
    Store(tmp_path / "dark.zarr").verify()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "document, item 0: 'image' holds NoneType"),
        (np.array(["a"]), "document, item 0: 'image' holds ndarray"),
        (np.zeros(3, np.float64), "item 0: image holds array float64 here but array float32 before"),
        ("text", "item 0: image holds text uint8 here but array float32 before"),
        (np.zeros((1,) * 5, np.float32), "item 0: image has 5 dimensions"),
    ],
)
def test_what_a_store_cannot_keep_is_named_before_a_manifest_is_written(
    tmp_path: Path, raw: Any, message: str
) -> None:
    data = Listed(Document((Item("image", picture(2)),)), Document((Item("image", raw),)))
    with pytest.raises(TransfuseError, match=message):
        write_store(data, tmp_path / "bad.zarr")
    assert not (tmp_path / "bad.zarr" / "manifest.json").exists()


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match=r"gone\.zarr: not there"):
        Store(tmp_path / "gone.zarr")


def test_without_zarr_the_error_says_what_to_install(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(TransfuseError, match=r"pip install 'transfuse\[zarr\]'"):
        Store(packed)


def test_naming_the_store_imports_no_zarr() -> None:
    code = "import sys, transfuse_adapters.zarr_writer; sys.exit('zarr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_manifest_is_json_that_says_what_is_inside(packed: Path) -> None:
    fields = json.loads((packed / "manifest.json").read_text())
    assert (fields["name"], fields["train"], fields["heldout"]) == ("listed", 3, 1)
    assert [modality["name"] for modality in fields["modalities"]] == ["text", "image", "depth"]


def test_outlines_are_told_by_the_table_alone(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(packed)
    whole = [store.document("train", i) for i in range(store.size("train"))]
    kinds = [modality.kind for modality in store._manifest.modalities]
    no_arrays = [data if kind == "text" else None for data, kind in zip(store._data, kinds, strict=True)]
    monkeypatch.setattr(store, "_data", no_arrays)
    for index, document in enumerate(whole):
        outline = store.outline("train", index, {"image", "depth"})
        assert [replace(item, data=0) for item in outline.items] == [
            replace(item, data=0) for item in document.items
        ]
        for there, here in zip(outline.items, document.items, strict=True):
            assert np.shape(there.data) == np.shape(here.data)
            assert getattr(there.data, "dtype", there.data) == getattr(here.data, "dtype", here.data)
