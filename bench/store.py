"""How fast a packed store is read, and how much memory its reader takes.

    python bench/store.py --json store.json     # all of it; --only rate, training or memory
    python bench/store.py --json docs/results/store.json --page docs/results/faults.json    # into docs/data.md

rate: shuffled blocks of 1,024 documents, every chunk compared with its checksum and copied out, over numpy's memmap
of the same arrays (uncompressed, unchecked), also copied out. training: documents a second in those blocks, and one by
one in a run's order, over what training takes of them. memory: of a process that reads a store of ten million
documents in a run's order, made sparse: tables of the full size, data of holes with true checksums.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pages
from transfuse.datasets import DataSet
from transfuse.documents import Document, Item
from transfuse.files import write_text
from transfuse_adapters.store import arrays
from transfuse_adapters.store.arrays import Array, ArrayWriter, checksums
from transfuse_adapters.store.encoding import Kept
from transfuse_adapters.store.manifests import MANIFEST, Part, Plan, Stored, checksum, folder_of, written
from transfuse_adapters.store.places import place_of
from transfuse_adapters.store.reader import Store, manifest_of
from transfuse_adapters.store.writer import pack

BLOCK = 1024
KINDS = {"text and latents": (300, 4096), "latents": (0, 4096), "text": (1000, 0), "short text": (300, 0)}
"""Of a document: ids, and numbers of its latents' means and log-variances (2 x 8 x 16 x 16)."""


class Synthetic(DataSet):
    """Documents as an autoencoder and a tokenizer leave them: ids by Zipf's law, latents of noise."""

    name, reversed_share = "synthetic", 0.0

    def __init__(self, documents: int, ids: int, latents: int) -> None:
        self.documents, self.ids, self.latents = documents, ids, latents

    def size(self, split: str) -> int:
        return self.documents if split == "train" else 0

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        draw = np.random.default_rng(index)
        items = []
        if self.ids:
            items.append(Item("text", Kept(draw.zipf(1.3, self.ids).clip(0, 29_999), 30_000)))
        if self.latents:
            items.append(Item("image", Kept(draw.standard_normal((16, 16, 16), np.float32))))
        return Document(tuple(items), index)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}


clock = time.perf_counter


def timed(action: Callable[[], object], least: float = 1.0) -> float:
    """Seconds an action takes, the least of three or more."""
    action()
    best, began, count = float("inf"), clock(), 0
    while count < 3 or clock() - began < least:
        start = clock()
        action()
        best, count = min(best, clock() - start), count + 1
    return best


def rate(folder: Path, kind: str, size: int) -> dict[str, float]:
    """Bytes a second of both, of stores of so many bytes, and their ratio."""
    ids, latents = KINDS[kind]
    documents = max(1, size // (2 * ids + 4 * latents) // BLOCK) * BLOCK
    data = Synthetic(documents, ids, latents)
    pack(data, folder / "a.zarr", parts=1)
    part = Store(folder / "a.zarr")._parts[0]
    readers = part.data
    flat = []
    for number, reader in enumerate(readers):
        file = folder / f"{number}.bin"
        reader.copied(0, reader.length).tofile(file)
        flat.append(np.memmap(file, reader.dtype, "r"))
    blocks = np.random.default_rng(0).permutation(documents // BLOCK).tolist()
    bounds = [reader.length // documents for reader in readers]

    def ours() -> None:
        part.first.cache._chunks.clear()
        part.first.cache.held = 0
        for block in blocks:
            for reader, each in zip(readers, bounds, strict=True):
                reader.copied(block * BLOCK * each, (block + 1) * BLOCK * each)

    def memmap() -> None:
        for block in blocks:
            for array, each in zip(flat, bounds, strict=True):
                np.array(array[block * BLOCK * each : (block + 1) * BLOCK * each])

    ends = [np.array(file[: BLOCK * each]).view(np.uint8) for file, each in zip(flat, bounds, strict=True)]
    sums = timed(lambda: [checksums().value(end) for end in ends], 0.2)
    of_sums = sum(end.nbytes for end in ends)
    size = len(blocks) * BLOCK * sum(r.dtype.itemsize * each for r, each in zip(readers, bounds, strict=True))
    seconds, others = timed(ours), timed(memmap)
    return {
        "store_bytes_a_second": size / seconds,
        "memmap_bytes_a_second": size / others,
        "ratio": others / seconds,
        "checksum_bytes_a_second": of_sums / sums,
        "documents_a_second": len(blocks) * BLOCK / seconds,
    }


def training(folder: Path) -> dict[str, float]:
    """Documents a second that a small run takes on this thread, twice that for two cores; and how many are read.

    The run is the packaged transfusion recipe on the digits, encoded: the cheapest documents there are.
    """
    from transfuse.checkpoints import save_codecs
    from transfuse.model.build import build_modalities, build_model, fit_modalities
    from transfuse.registry import Registry
    from transfuse.training import Trainer
    from transfuse_adapters.store.encoding import Encoder
    from transfuse_lab.datasets.digits import Digits

    registry = Registry.open()
    recipe = registry.recipe("transfusion", ["image.codec.steps=10", "train.steps=1000"], "digits")
    modalities = fit_modalities(build_modalities(recipe), Digits(), 0, lambda line: None)
    (folder / "digits.zarr/codecs").mkdir(parents=True)
    save_codecs(folder / "digits.zarr/codecs", modalities)
    pack(Digits(), folder / "digits.zarr", Encoder(modalities))
    store = Store(folder / "digits.zarr")
    model = build_model(recipe, modalities, registry.plugins)
    trainer = Trainer(recipe, model, store)
    for _ in range(3):
        trainer.step()
    began, before = time.process_time(), trainer.progress.documents
    while time.process_time() - began < 10:
        trainer.step()
    taken = (trainer.progress.documents - before) / (time.process_time() - began)
    part = store._parts[0]
    readers = [*part.data[:0], part.first, part.ids, part.items, *part.data]
    documents = store.size("train")

    def blocks() -> None:
        part.first.cache._chunks.clear()
        part.first.cache.held = 0
        for reader in readers:
            reader.copied(0, reader.length)

    one_by_one = timed(lambda: [store.document("train", index) for index in range(documents)])
    in_blocks = timed(blocks)
    return {
        "training_documents_a_second_two_cores": 2 * taken,
        "blocks_documents_a_second": documents / in_blocks,
        "blocks_over_training": documents / in_blocks / (2 * taken),
        "documents_a_second_one_by_one": documents / one_by_one,
        "one_by_one_over_training": documents / one_by_one / (2 * taken),
    }


# -- ten million documents


def sparse(folder: Path, documents: int, each: int) -> Path:
    """A store of so many documents of a text and a latent, in parts of ``each``; its data are holes in files."""
    place, ids, latents = place_of(folder), 300, 4096
    count = -(-documents // each)
    plan = Plan(name="sparse", splits={"train": documents}, reversed_share=0, origin={}, parts=count)
    parts = []
    for number in range(count):
        size = min(each, documents - number * each)
        here = folder_of(number)
        (folder / here).mkdir(parents=True)
        rows = np.zeros((2 * size, 8), np.int64)
        rows[::2, [2, 3, 4]] = np.stack([np.arange(size) * ids, np.full(size, 1), np.full(size, ids)], axis=1)
        rows[1::2, 0] = 1
        rows[1::2, 1] = 3
        rows[1::2, 2:7] = [0, 3, 16, 16, 16]
        rows[1::2, 2] = np.arange(size) * latents
        tables = {
            "first_item": np.arange(size + 1) * 2,
            "ids": np.arange(size) + number * each,
            "items": rows,
        }
        made = {name: _table(folder / here, name, values) for name, values in tables.items()}
        made["encoded_text"] = _holes(folder / here / "encoded_text", size * ids, "uint16")
        made["encoded_image"] = _holes(folder / here / "encoded_image", size * latents, "float32")
        stored = (
            Stored(name="text", kind="encoded", dtype="uint16", payload="int64"),
            Stored(name="image", kind="encoded", dtype="float32"),
        )
        files = {
            f"{name}/zarr.json": ((folder / here / name / "zarr.json").stat().st_size, "") for name in made
        }
        part = Part(plan=checksum(plan), number=number, of=count, splits={"train": size}, content="",
                    stored=stored, arrays=made, files=files)  # fmt: skip
        place.put(f"{here}/{MANIFEST}", written(part))
        parts.append(part)
    place.put(MANIFEST, written(manifest_of(plan, [folder_of(n) for n in range(count)], parts, {})))
    return folder


def _table(folder: Path, name: str, values: np.ndarray) -> Array:
    writer = ArrayWriter(place_of(folder), name, "int64", values.shape[1:])
    writer.append(values)
    return writer.close()


def _holes(folder: Path, length: int, dtype: str) -> Array:
    """An array of zeros in whose files nothing but checksums was written."""
    row = np.dtype(dtype).itemsize
    chunk, shard = arrays.CHUNK // row, arrays.CHUNKS_A_SHARD
    chunks, sum = -(-length // chunk), checksums().value(bytes(arrays.CHUNK))
    (folder / "c").mkdir(parents=True)
    for first in range(0, chunks, shard):
        there = min(shard, chunks - first)
        with (folder / f"c/{first // shard}").open("wb") as file:
            for number in range(there):
                file.seek(number * (arrays.CHUNK + 4) + arrays.CHUNK)
                file.write(sum.to_bytes(4, "little"))
            sizes = np.full(there, arrays.CHUNK + 4)
            file.write(arrays.index_of(np.cumsum(sizes) - sizes, sizes, shard))
    made = Array(shape=(length,), dtype=dtype, chunk=chunk, shard=shard, zstd=False,
                 sums=(np.full(chunks, sum, "<u4").tobytes().hex()))  # fmt: skip
    (folder / "zarr.json").write_bytes(made.metadata())
    return made


def memory(folder: Path, documents: int, reads: int) -> dict[str, float]:
    """Resident bytes of this process after a tenth of the reads, and at most after that; without the store before."""
    from transfuse.randomness import Key
    from transfuse.training.order import order_of

    store = Store(folder)
    order = order_of(store, Key(0))
    assert order is not None
    begun, began = resident(), time.perf_counter()
    early = late = 0
    for place in range(reads):
        store.document("train", order.index(place)[1])
        if place % 1000 == 999:
            if place < reads // 10:
                early = max(early, resident())
            else:
                late = max(late, resident())
    seconds = time.perf_counter() - began
    return {
        "documents": documents,
        "reads": reads,
        "resident_bytes_opened": begun,
        "resident_bytes_early": early,
        "resident_bytes_late": late,
        "documents_a_second": reads / seconds,
    }


def resident() -> int:
    """Bytes of this process that are in memory, files that it mapped left out."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")


def figures(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, float]]]:
    with tempfile.TemporaryDirectory(dir=given.folder) as text:
        folder = Path(text)
        if given.only in (None, "rate"):
            for kind in given.kinds or KINDS:
                (folder / "rate").mkdir()
                yield f"rate, {kind}", rate(folder / "rate", kind, given.megabytes << 20)
                shutil.rmtree(folder / "rate")
        if given.only in (None, "training"):
            yield "training", training(folder)
        if given.only in (None, "memory"):
            sparse(folder / "sparse.zarr", given.sparse, 65_536)
            yield "memory", memory(folder / "sparse.zarr", given.sparse, given.reads)


def table(found: dict[str, dict[str, float]], faults: dict[str, Any]) -> str:
    """What the page shows of both benches."""
    rows = []
    for name, one in found.items():
        if name.startswith("rate"):
            ours, others = (one[f"{whose}_bytes_a_second"] / 1e9 for whose in ("store", "memmap"))
            kind = name.removeprefix("rate, ")
            sums = one.get("checksum_bytes_a_second")
            checked = f"; a checksum alone {sums / 1e9:.1f}" if sums else ""
            rows.append((
                f"{kind}: shuffled blocks of 1,024, checked and copied out, over numpy's memmap",
                f"{one['ratio']:.2f}x ({ours:.1f} of {others:.1f} GB/s{checked})",
            ))  # fmt: skip
    if one := found.get("training"):
        told = (
            "the same, of the digits encoded, over what training the packaged recipe takes on two cores",
            f"{one['blocks_over_training']:,.0f}x ({one['blocks_documents_a_second']:,.0f} documents/s of "
            f"{one['training_documents_a_second_two_cores']:,.0f})",
        )
        rows += [told, ("one by one, as training reads them", f"{one['one_by_one_over_training']:,.0f}x")]
    if one := found.get("memory"):
        early, late = (one[f"resident_bytes_{when}"] / 2**20 for when in ("early", "late"))
        rows.append((
            f"memory of a process that reads {one['documents']:,.0f} documents' store, in {one['reads']:,.0f} reads",
            f"{early:.0f} MiB after a tenth of them, {late:.0f} MiB at most after that",
        ))  # fmt: skip
    for case, one in faults.get("cases", {}).items():
        rows.append((
            f"`{case}`: {one['kills']} kills, {one['corruptions']} damages",
            f"{one['lost']} lost, {one['silent']} unsaid",
        ))  # fmt: skip
    return "\n".join(
        ["| measured | found |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write each figure here, beside what stands there")
    parser.add_argument("--only", choices=("rate", "training", "memory"))
    parser.add_argument(
        "--kinds", nargs="*", choices=list(KINDS), help="of documents, where rates are measured"
    )
    parser.add_argument("--megabytes", type=int, default=256, help="of each store that is timed")
    parser.add_argument("--sparse", type=int, default=10_000_000, help="documents of the sparse store")
    parser.add_argument("--reads", type=int, default=1_000_000, help="of it")
    parser.add_argument("--folder", type=Path, help="where stores are made; by default among temporary files")
    parser.add_argument(
        "--page", type=Path, help="write what stands in --json and here, of faults, into docs/data.md"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="CPU time of rates, on a machine that others use too"
    )
    given = parser.parse_args()
    if given.cpu:
        global clock
        clock = time.process_time
    if given.page:
        pages.write(
            "data.md", "store", table(json.loads(given.json.read_text()), json.loads(given.page.read_text()))
        )
        return
    for name, values in figures(given):
        for what, value in values.items():
            print(f"{name:24} {what:40} {value:,.4g}")
        sys.stdout.flush()
        if given.json:  # after each: a run that is cut is no loss
            before = json.loads(given.json.read_text()) if given.json.is_file() else {}
            write_text(given.json, json.dumps({**before, name: values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
