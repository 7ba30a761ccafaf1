"""What is done with stores besides reading: told about, verified, several made one, one made several.

Parts are carried over file by file as they are, each compared with its hash on the way; stopped anywhere, the same
call goes on.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from transfuse.plugin import TransfuseError

from transfuse_adapters.store.arrays import CHUNK
from transfuse_adapters.store.manifests import (
    MANIFEST,
    PLAN,
    Manifest,
    Part,
    Plan,
    checksum,
    folder_of,
    read,
    written,
)
from transfuse_adapters.store.places import Place, place_of
from transfuse_adapters.store.reader import CURE, Store, manifest_of, open_store
from transfuse_adapters.store.writer import GROUP, MARK, begin, codec_files, is_finished

PIECE = 64 * CHUNK
LARGEST_FILE = 2**40
Told = Callable[[float, str], None]
"""Is told what share is done, and of what."""


def in_words(splits: Mapping[str, int]) -> str:
    """``1,300 train, 200 tune, 297 test``"""
    return ", ".join(f"{size:,} {split}" for split, size in splits.items())


def info(path: str | Path) -> list[tuple[str, str]]:
    """What a store holds, finished or not: pairs of a name and a value, for a table."""
    place = place_of(path)
    manifest, parts = open_store(place, partial=True)
    plan, documents = manifest.parts, in_words(manifest.splits)
    whole = len(parts) == plan
    size = sum(size for part in parts for size, _ in part.files.values())
    told = [
        ("store", f"{manifest.name}, {'complete' if whole else 'not finished'}"),
        ("parts", f"{len(parts):,} of {plan:,}"),
        ("documents", documents),
        ("bytes", f"{size:,}"),
    ]
    arrays: dict[tuple[str, str, str], list[int]] = {}
    for part in parts:
        for stored in part.stored:
            array = part.arrays[stored.array]
            found = arrays.setdefault((stored.array, stored.kind, stored.dtype), [0, 0])
            found[0] += array.shape[0]
            found[1] += sum(
                size for name, (size, _) in part.files.items() if name.startswith(f"{stored.array}/")
            )
    told += [
        (name, f"{kind}, {values:,} values of {dtype}, {size:,} bytes")
        for (name, kind, dtype), (values, size) in sorted(arrays.items())
    ]
    told += [(f"codec of {role}", found) for role, found in sorted(manifest.codecs.items())]
    return [*told, ("content", manifest.content)]


def faults(
    path: str | Path, sample: int | None = None, along: Told = lambda share, note: None
) -> Iterator[str]:
    """Everything that is wrong with a store, one sentence a fault, each naming the file.

    Every file's size and hash, all manifests, and whether the documents are those that were packed; with ``sample``
    sizes, manifests and so many documents, spread evenly. What a stopped writer left behind is no fault.
    """
    place = place_of(path)
    try:
        sizes = place.sizes()
        if MANIFEST not in sizes:
            open_store(place)
        manifest = read(place, MANIFEST, Manifest, CURE)
    except TransfuseError as error:
        yield str(error)
        return
    parts: list[tuple[str, Part]] = []
    for entry in manifest.entries:
        name = f"{entry.folder}/{MANIFEST}"
        try:
            part = read(place, name, Part, CURE)
            if checksum(part) != entry.check:
                raise TransfuseError(f"store {place}: {name} is not the one that belongs there: {CURE}")
            parts.append((entry.folder, part))
        except TransfuseError as error:
            yield str(error)
    wanted = {GROUP: (len(MARK), hashlib.sha256(MARK).hexdigest())} | dict(manifest.codec_files)
    for folder, part in parts:
        wanted |= {f"{folder}/{name}": told for name, told in part.files.items()}
    wrong = False
    for number, (name, (size, sha256)) in enumerate(wanted.items()):
        along(number / len(wanted), name)
        if fault := _fault(place, name, sizes.get(name), size, None if sample is not None else sha256):
            wrong = True
            yield fault
    try:
        plan = read(place, PLAN, Plan, CURE)
        if plan != Plan(**manifest.model_dump(include=set(Plan.model_fields))):
            yield f"store {place}: {PLAN} is not this store's: {CURE}"
    except TransfuseError as error:
        yield str(error)
    if wrong or len(parts) < len(manifest.entries):
        return  # what lies in those files was found already
    with suppress(TransfuseError):  # of which everything was said
        yield from _sampled(Store(path), sample) if sample is not None else Store(path).faults()


def _fault(place: Place, name: str, found: int | None, size: int, sha256: str | None) -> str:
    if found is None:
        return f"store {place}: {name} is gone: {CURE}"
    if found != size:
        return f"store {place}: {name} has {found:,} bytes, it was written with {size:,}: {CURE}"
    try:
        if sha256 is not None and _digest(place, name, size) != sha256:
            return f"store {place}: {name} was changed since it was written: {CURE}"
    except TransfuseError as error:
        return str(error)
    return ""


def _digest(place: Place, name: str, size: int) -> str:
    hashed, piece = hashlib.sha256(), bytearray(min(PIECE, size))
    for start in range(0, size, PIECE):
        view = memoryview(piece)[: min(PIECE, size - start)]
        place.read_into(name, start, view)
        hashed.update(view)
    return hashed.hexdigest()


def _sampled(store: Store, sample: int) -> Iterator[str]:
    seen = set[str]()
    for split in store.splits:
        size = store.size(split)
        for index in (
            np.unique(np.linspace(0, size - 1, min(sample, size)).astype(np.int64)).tolist() if size else ()
        ):
            try:
                store.document(split, index)
            except TransfuseError as error:
                if str(error) not in seen:
                    seen.add(str(error))
                    yield str(error)


def merge(paths: Sequence[str | Path], out: str | Path, along: Told = lambda share, note: None) -> Plan:
    """One store of several: their documents one store after the other, in each split.

    Ids that two of them share are moved: a store's ids then begin behind those of the stores before it.
    Raises TransfuseError where they were encoded by other codecs, or visits read them in another order.
    """
    if len(paths) < 2:
        raise TransfuseError("merge: name two stores or more")
    stores = [(place_of(path), *open_store(place_of(path))) for path in paths]
    first = stores[0][1]
    for place, manifest, _ in stores[1:]:
        for what in ("splits", "codecs", "reversed_share", "tasks"):
            here, there = (getattr(one, what) for one in (manifest, first))
            if what == "splits":  # their names, in order
                here, there = [*here], [*there]
            if here != there:
                raise TransfuseError(
                    f"store {place}: its {what} are {_short(here)}, and those of {stores[0][0]} are {_short(there)}: "
                    f"stores that are merged have the same; mix them in training instead (docs/data.md)"
                )
    origin = {"merged": [{**m.origin, "content": m.content} for _, m, _ in stores]}
    plan = Plan(
        name=" + ".join(dict.fromkeys(m.name for _, m, _ in stores)),
        splits={split: sum(m.splits[split] for _, m, _ in stores) for split in first.splits},
        reversed_share=first.reversed_share,
        tasks=first.tasks,
        origin=origin,
        codecs=first.codecs,
        parts=sum(len(parts) for *_, parts in stores),
    )
    taken = [
        (place, entry.folder, part, entry.ids)
        for place, manifest, parts in stores
        for entry, part in zip(manifest.entries, parts, strict=True)
    ]
    add = _id_offsets([Store(path) for path in paths])
    ids = [
        ids + add[number] for number, (_, _, parts) in enumerate(stores) for ids in _ids_of(stores[number])
    ]
    _carry(place_of(out), plan, [one[:3] for one in taken], ids, stores[0][0], first, along)
    return plan


def split(
    path: str | Path, into: int, outs: Sequence[str | Path], along: Told = lambda share, note: None
) -> None:
    """Several stores of one, each of whole parts that follow each other. Raises TransfuseError where there are fewer
    parts than stores."""
    place = place_of(path)
    manifest, parts = open_store(place)
    if not 2 <= into <= len(parts):
        raise TransfuseError(
            f"store {place}: {len(parts)} parts do not become {into} stores: give --into from 2 to {len(parts)}, "
            f"or pack it in more parts with --parts"
        )
    for number, out in enumerate(outs):
        some = range(len(parts) * number // into, len(parts) * (number + 1) // into)
        entries = [manifest.entries[i] for i in some]
        plan = Plan(
            **manifest.model_dump(include={"name", "reversed_share", "tasks", "codecs"}),
            splits={split: sum(entry.splits[split] for entry in entries) for split in manifest.splits},
            origin={"split": {**manifest.origin, "content": manifest.content}, "number": number, "of": into},
            parts=len(some),
        )
        taken = [(place, manifest.entries[i].folder, parts[i]) for i in some]

        def told(share: float, note: str, number: int = number) -> None:
            along((number + share) / into, note)

        _carry(place_of(out), plan, taken, [entry.ids for entry in entries], place, manifest, told)


def _carry(
    place: Place,
    plan: Plan,
    taken: Sequence[tuple[Place, str, Part]],
    ids: list[int],
    of: Place,
    manifest: Manifest,
    along: Told,
) -> None:
    """A store of parts of others. of, manifest: where its codecs are."""
    if not begin(place, plan):
        return
    for name, told in manifest.codec_files.items():
        place.put(name, _read_whole(of, name, told))
    for number, (source, folder, part) in enumerate(taken):
        if is_finished(place, plan, number):
            continue
        here = folder_of(number)
        place.remove(here)
        for done, (name, told) in enumerate(part.files.items()):
            along((number + done / len(part.files)) / len(taken), f"part {number + 1} of {len(taken)}")
            place.put(f"{here}/{name}", _read_whole(source, f"{folder}/{name}", told))
        own = part.model_copy(update={"plan": checksum(plan), "number": number, "of": plan.parts})
        place.put(f"{here}/{MANIFEST}", written(own))
    folders = [folder_of(number) for number in range(plan.parts)]
    found = [read(place, f"{folder}/{MANIFEST}", Part, CURE) for folder in folders]
    place.put(MANIFEST, written(manifest_of(plan, folders, found, codec_files(place), ids)))


def _read_whole(place: Place, name: str, told: tuple[int, str]) -> bytes:
    body = place.read(name, LARGEST_FILE)
    if (len(body), hashlib.sha256(body).hexdigest()) != told:
        raise TransfuseError(f"store {place}: {name} was changed since it was written: {CURE}")
    return body


def _ids_of(store: tuple[Place, Manifest, list[Part]]) -> list[int]:
    return [entry.ids for entry in store[1].entries]


def _id_offsets(stores: Sequence[Store]) -> list[int]:
    """What is added to each store's ids, so that no two documents have one."""
    offsets, known = [], np.empty(0, np.int64)
    for store in stores:
        ids = store.ids()
        offset = 0
        if known.size and np.isin(ids, known, assume_unique=False).any():
            offset = int(known.max()) + 1 - int(ids.min())
        offsets.append(offset)
        known = np.concatenate([known, ids + offset])
    if any(offset < 0 for offset in offsets):
        raise TransfuseError("merge: ids below zero cannot be moved; pack the data with others")
    return offsets


def _short(value: Any) -> str:
    return json.dumps(value)[:200]
