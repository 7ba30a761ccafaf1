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
from transfuse.files import digest
from transfuse_adapters.store import arrays, manifests
from transfuse_adapters.store.manifests import Manifest, Part, checksum, written
from transfuse_adapters.store.places import place_of
from transfuse_adapters.store.reader import Store
from transfuse_adapters.store.tools import faults
from transfuse_adapters.store.writer import pack
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
    pack(MIXED, path)
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
    pack(Digits(), tmp_path / "digits.zarr", parts=4)
    store = Store(tmp_path / "digits.zarr")
    store.verify()
    assert content_hash(store) == store.identity()["content"] == Digits().identity()["content"]
    assert store.identity() == Digits().identity() | {"store": True}
    one = Digits().document("train", 5, np.random.default_rng(1))
    two = store.document("train", 5, np.random.default_rng(1))
    assert all(same(a, b) for a, b in zip(one.items, two.items, strict=True))


def test_the_store_varies_the_order_as_its_origin_does(packed: Path) -> None:
    store, rng = Store(packed), np.random.default_rng(0)
    first = [store.document("train", 0, rng).items[0].modality for _ in range(1000)]
    assert abs(first.count("image") / 1000 - 0.25) < 0.05


def small(monkeypatch: pytest.MonkeyPatch, chunk: int = 64, chunks: int = 2) -> None:
    monkeypatch.setattr(arrays, "CHUNK", chunk)
    monkeypatch.setattr(arrays, "CHUNKS_A_SHARD", chunks)


def test_data_larger_than_a_shard_are_written_in_whole_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    data = Listed(*(Document((Item("image", picture(n % 7, 5, seed=n)),), n) for n in range(40)))
    held: list[int] = []
    put = arrays.ArrayWriter._put
    monkeypatch.setattr(
        arrays.ArrayWriter, "_put", lambda writer, rows: (held.append(rows.nbytes), put(writer, rows))[1]
    )
    pack(data, tmp_path / "long.zarr")
    assert max(held) == 128
    Store(tmp_path / "long.zarr").verify()
    assert len(list((tmp_path / "long.zarr/part-000000/data_image/c").iterdir())) > 10
    for index in range(39):
        assert same(
            Store(tmp_path / "long.zarr").document("train", index).items[0],
            data.documents["train"][index].items[0],
        )


def test_zarr_reads_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """zarr is the oracle of the layout: its own reader, chunk by chunk and in slices, gives what ours does."""
    import zarr

    small(monkeypatch, 128, 3)
    dtypes = ("bool", "uint8", "int16", "uint32", "int64", "float16", "float32", "float64")
    documents = [
        Document(tuple(Item(dtype, picture(3, 2 + n, seed=n, dtype=dtype)) for dtype in dtypes), n)
        for n in range(9)
    ]
    data = Listed(*documents)
    pack(data, tmp_path / "all.zarr")
    part = Store(tmp_path / "all.zarr")._parts[0]
    for dtype in dtypes:
        found = zarr.open_array(str(tmp_path / "all.zarr"), path=f"part-000000/data_{dtype}", mode="r")
        wanted = np.concatenate(
            [document.items[dtypes.index(dtype)].data.reshape(-1) for document in documents]
        )
        assert found.dtype == wanted.dtype
        assert np.array_equal(found[:], wanted)
        ours = part.data[[stored.name for stored in part.part.stored].index(dtype)]
        for start, stop in (
            (0, len(wanted)),
            (5, 5),
            (3, 70),
            (40, len(wanted) - 1),
            (len(wanted) - 1, len(wanted)),
        ):
            assert np.array_equal(ours.rows(start, stop), wanted[start:stop])
            assert np.array_equal(ours.copied(start, stop), wanted[start:stop])
    items = zarr.open_array(str(tmp_path / "all.zarr"), path="part-000000/items", mode="r")
    assert np.array_equal(items[:], part.items.rows(0, part.items.length))


def test_chunks_and_shards_are_of_the_stated_size(tmp_path: Path) -> None:
    import zarr

    document = Document((Item("image", np.zeros((1, 1024, 1024), np.float32)),))
    pack(Listed(document, replace(document, id=1)), tmp_path / "big.zarr")
    array = zarr.open_array(str(tmp_path / "big.zarr"), path="part-000000/data_image", mode="r")
    assert (array.chunks, array.shards) == ((2**15,), (2**21,))
    assert [type(codec).__name__ for codec in array.compressors] == ["ZstdCodec", "Crc32cCodec"]


def test_a_store_without_a_manifest_was_never_finished(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(TransfuseError, match=r"mixed\.zarr: no manifest\.json, so it was never finished"):
        Store(copy)


def every_file() -> list[str]:
    names = ("first_item", "ids", "items", "data_text", "data_image", "data_depth")
    tables = {"items": "c/0/0"}
    inside = ["manifest.json", "zarr.json", *[f"{name}/zarr.json" for name in names]]
    inside += [f"{name}/{tables.get(name, 'c/0')}" for name in names]
    return ["manifest.json", "plan.json", "zarr.json", *[f"part-000000/{name}" for name in inside]]


def test_these_are_all_the_files(packed: Path) -> None:
    found = {file.relative_to(packed).as_posix() for file in packed.rglob("*") if file.is_file()}
    assert found == set(every_file())
    assert list(faults(packed)) == []


def read_all(store: Path) -> None:
    opened = Store(store)
    for split in ("train", "heldout"):
        for index in range(opened.size(split)):
            opened.document(split, index)


def is_read(name: str) -> bool:
    """Whether reading documents reads the file: the layout is the manifest's, and zarr.json are for others."""
    return not name.endswith("zarr.json") and name != "plan.json"


def told(store: Path, name: str) -> None:
    """``verify`` names the file, and so does reading, if it reads it."""
    found = list(faults(store))
    assert found
    assert all(name in fault for fault in found), found
    if is_read(name):
        with pytest.raises(TransfuseError, match=name.replace("part-000000/manifest.json", "manifest.json")):
            read_all(store)


@pytest.mark.parametrize("name", every_file())
def test_a_deleted_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    told(copy, name)


@pytest.mark.parametrize("name", every_file())
def test_a_file_cut_short_or_of_zeros_is_named(copy: Path, name: str) -> None:
    body = (copy / name).read_bytes()
    (copy / name).write_bytes(body[:-1])
    told(copy, name)
    (copy / name).write_bytes(bytes(len(body)))
    told(copy, name)


@pytest.mark.parametrize("name", every_file())
def test_a_flipped_bit_anywhere_is_found(copy: Path, name: str) -> None:
    """Of a shard also in its index and its checksums."""
    body = (copy / name).read_bytes()
    for place in range(0, len(body), max(1, len(body) // 8)):
        changed = bytearray(body)
        changed[place] ^= 1 << place % 8
        (copy / name).write_bytes(changed)
        assert any(name in fault for fault in faults(copy))
        if is_read(name):
            with pytest.raises(TransfuseError, match=name.split("/")[-1] if "json" in name else name):
                read_all(copy)


def forge(store: Path, part: dict[str, Any] | None = None, **fields: Any) -> None:
    """Manifests with fitting checksums, but other content."""
    place = place_of(store)
    manifest = manifests.read(place, "manifest.json", Manifest, "")
    own = manifests.read(place, "part-000000/manifest.json", Part, "").model_copy(update=part or {})
    (store / "part-000000/manifest.json").write_bytes(written(own))
    entry = manifest.entries[0].model_copy(update={"check": checksum(own)})
    fields = {"entries": (entry,)} | fields
    (store / "manifest.json").write_bytes(written(manifest.model_copy(update=fields)))


def rewrite(store: Path, name: str, change: Callable[[np.ndarray], Any]) -> None:
    """Another content of one of its arrays, under checksums and manifests that fit it."""
    folder, place = store / "part-000000", place_of(store)
    part = manifests.read(place, "part-000000/manifest.json", Part, "")
    was = part.arrays[name]
    values = Store(store)._parts[0]
    reader = {"items": values.items, "ids": values.ids, "first_item": values.first}.get(name) or values.data[
        0
    ]
    changed = reader.copied(0, reader.length)
    change(changed)
    shutil.rmtree(folder / name)
    writer = arrays.ArrayWriter(place_of(folder), name, was.dtype, was.shape[1:], was.zstd)
    writer.append(changed)
    made = {**part.arrays, name: writer.close()}
    files = {file: ((folder / file).stat().st_size, digest(folder / file)) for file in part.files}
    forge(store, {"arrays": made, "files": files})


@pytest.mark.parametrize(
    ("part", "fields", "message"),
    [
        ({"splits": {"train": 4, "heldout": 1}}, {}, "is not the one that belongs there"),
        ({"files": {"../../secret": (3, "")}}, {}, "leads out of the store"),
        ({"files": {"a/../../../../secret": (3, "")}}, {}, "leads out of the store"),
        ({"files": {"/etc/passwd": (3, "")}}, {}, "leads out of the store"),
        ({"files": {}}, {}, "does not list first_item"),
        ({"arrays": {}}, {}, "its arrays are"),
        ({}, {"splits": {"train": -1}}, "is no manifest of a store"),
        ({}, {"format": "transfuse store 3"}, "is no manifest of a store"),
        ({}, {"reversed_share": 2.0}, "is no manifest of a store"),
    ],
)
def test_a_forged_manifest_is_refused(copy: Path, part: Any, fields: dict[str, Any], message: str) -> None:
    forge(copy, part, **fields)
    with pytest.raises(TransfuseError, match=message):
        Store(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk": 2**40}, "too large to open"),
        ({"sizes": "ffffffff"}, "too large to open"),
        ({"sums": ""}, "no checksums of"),
        ({"sums": "no"}, "no checksums of"),
        ({"shape": (2**50,)}, "no checksums of"),
        ({"dtype": "float64"}, "data_image is float64"),
    ],
)
def test_an_array_that_promises_too_much_is_refused(copy: Path, change: dict[str, Any], message: str) -> None:
    part = manifests.read(place_of(copy), "part-000000/manifest.json", Part, "")
    array = part.arrays["data_image"].model_copy(update=change)
    forge(copy, {"arrays": {**part.arrays, "data_image": array}})
    with pytest.raises(TransfuseError, match=message):
        Store(copy)


def test_a_bomb_is_not_decompressed(copy: Path) -> None:
    """A chunk of a few bytes that would become sixteen gigabytes: no more is made than the array has."""
    from google_crc32c import value
    from numcodecs.zstd import Zstd

    part = manifests.read(place_of(copy), "part-000000/manifest.json", Part, "")
    bomb = Zstd(1).encode(np.zeros(2**27, np.uint8))
    file = copy / "part-000000/data_image/c/0"
    body = bomb + value(bomb).to_bytes(4, "little")
    sums, sizes = (int(n).to_bytes(4, "little").hex() for n in (value(bomb), len(body)))
    body += arrays.index_of([0], [len(body)], 1)
    file.write_bytes(body)
    array = part.arrays["data_image"].model_copy(update={"sums": sums, "sizes": sizes})
    files = {**part.files, "data_image/c/0": (len(body), digest(file))}
    forge(copy, {"arrays": {**part.arrays, "data_image": array}, "files": files})
    with pytest.raises(TransfuseError, match=r"data_image/c/0 cannot be read .*too small"):
        read_all(copy)


@pytest.mark.parametrize("name", ["manifest.json", "part-000000/manifest.json"])
@pytest.mark.parametrize("body", ["", "[]", "{}", '{"check": 1}', "[" * 100_000, "\udcff"])
def test_a_manifest_that_is_none_is_refused(copy: Path, name: str, body: str) -> None:
    (copy / name).write_bytes(body.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        TransfuseError, match=rf"{name} is .*: restore it, or delete the store and pack it again"
    ):
        Store(copy)


@pytest.mark.parametrize(
    ("item", "column", "value"),
    [(0, 0, 9), (0, 0, -1), (0, 2, -1), (1, 2, 10**12), (1, 3, 5), (1, 4, -2), (1, 4, 2**62), (2, 3, -1)],
)
def test_an_item_outside_its_data_is_refused(copy: Path, item: int, column: int, value: int) -> None:
    rewrite(copy, "items", lambda items: items.__setitem__((item, column), value))
    with pytest.raises(TransfuseError, match=r"part-000000/items.*(lies outside its data|names a kind)"):
        read_all(copy)


@pytest.mark.parametrize("first", [[0, 99, 2, 5, 5], [0, 2, -1, 5, 5], [3, 2, 5, 5, 5]])
def test_documents_outside_the_table_are_refused(copy: Path, first: list[int]) -> None:
    rewrite(copy, "first_item", lambda values: values.__setitem__(slice(None), first))
    with pytest.raises(TransfuseError, match="first_item does not walk through items"):
        read_all(copy)


def test_text_that_is_not_utf8_is_named(copy: Path) -> None:
    rewrite(copy, "data_text", lambda text: text.fill(0xFF))
    with pytest.raises(TransfuseError, match="is not UTF-8 text"):
        read_all(copy)


def test_verify_finds_documents_that_were_swapped_whole(copy: Path) -> None:
    rewrite(copy, "ids", lambda ids: ids.__setitem__(slice(None), ids[::-1].copy()))
    assert [fault for fault in faults(copy) if "not the ones that were packed" in fault]
    with pytest.raises(TransfuseError, match="not the ones that were packed"):
        Store(copy).verify()


def test_a_link_out_of_the_store_is_refused(copy: Path, tmp_path: Path) -> None:
    file = copy / "part-000000/data_text/c/0"
    (tmp_path / "elsewhere").write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TransfuseError, match="leads out of the store"):
        read_all(copy)


def test_two_shards_of_one_size_that_changed_places_are_found(
    shapes: Callable[..., DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is whole and has its own checksum; only where it lies is wrong."""
    small(monkeypatch, 1024, 2)

    def noisy(document: Document) -> Document:
        noise = np.random.default_rng(document.id).integers(0, 256, (1, 8, 8), dtype=np.uint8)
        return replace(document, items=(replace(document.items[1], data=noise),))

    store = tmp_path / "noise.zarr"
    pack(shapes(train=128, test=8, change=noisy), store)
    one, two, *_ = sorted((store / "part-000000/data_image/c").iterdir(), key=lambda path: int(path.name))
    first, second = one.read_bytes(), two.read_bytes()
    assert len(first) == len(second)
    assert first != second
    one.write_bytes(second)
    two.write_bytes(first)
    assert len(list(faults(store))) == 2
    with pytest.raises(TransfuseError, match="data_image/c/0 was changed since it was written"):
        Store(store).document("train", 0)


def test_an_unfinished_store_is_finished(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    pack(MIXED, copy)
    Store(copy).verify()


def test_a_finished_store_is_never_overwritten(packed: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in packed.rglob("*")}
    assert pack(MIXED, packed)  # the same data: nothing is left to do
    with pytest.raises(TransfuseError, match="another store is there"):
        pack(Digits(), packed)
    assert {file: file.stat().st_mtime_ns for file in packed.rglob("*")} == before


def test_anything_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for path in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(TransfuseError, match="something that is no store is there"):
            pack(MIXED, path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_someone_elses_zarr_is_never_overwritten(tmp_path: Path) -> None:
    import zarr

    zarr.open_group(str(tmp_path / "other.zarr"), mode="w", attributes={"transfuse": "model"})
    with pytest.raises(TransfuseError, match="something that is no store is there"):
        pack(MIXED, tmp_path / "other.zarr")


def test_long_stretches_of_zeros_survive(tmp_path: Path) -> None:
    document = Document((Item("image", np.zeros(2**19, np.float32)),))
    pack(Listed(document, replace(document, id=1)), tmp_path / "dark.zarr")
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
        pack(data, tmp_path / "bad.zarr")
    assert not (tmp_path / "bad.zarr" / "manifest.json").exists()


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match=r"gone\.zarr: not there"):
        Store(tmp_path / "gone.zarr")


def test_without_zarr_the_error_says_what_to_install(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(TransfuseError, match=r"pip install 'transfuse\[zarr\]'"):
        Store(packed)


def test_naming_the_store_imports_no_zarr() -> None:
    code = "import sys, transfuse_adapters.store.writer; sys.exit('zarr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_manifest_is_json_that_says_what_is_inside(packed: Path) -> None:
    fields = json.loads((packed / "manifest.json").read_text())
    assert (fields["name"], fields["splits"]) == ("listed", {"train": 3, "heldout": 1})
    part = json.loads((packed / "part-000000/manifest.json").read_text())
    assert [stored["name"] for stored in part["stored"]] == ["text", "image", "depth"]
    assert part["arrays"]["data_depth"]["dtype"] == "float32"


def test_outlines_are_told_by_the_table_alone(packed: Path) -> None:
    store = Store(packed)
    whole = [store.document("train", i) for i in range(store.size("train"))]
    kinds = [stored.kind for stored in store._parts[0].part.stored]
    for reader, kind in zip(store._parts[0].data, kinds, strict=True):
        if kind != "text":
            reader.place = None  # type: ignore[assignment]  # nothing of it can be read
    store._cache._chunks.clear()
    for index, document in enumerate(whole):
        outline = store.outline("train", index, {"image", "depth"})
        assert [replace(item, data=0) for item in outline.items] == [
            replace(item, data=0) for item in document.items
        ]
        for there, here in zip(outline.items, document.items, strict=True):
            assert np.shape(there.data) == np.shape(here.data)
            assert getattr(there.data, "dtype", there.data) == getattr(here.data, "dtype", here.data)
