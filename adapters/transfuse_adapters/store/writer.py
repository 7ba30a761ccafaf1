"""Packs a data set into a store: a plan, then part after part, then the manifest; stopped anywhere, it goes on.

What is written depends on the plan alone, so a re-run ends in the same bits. Parts may be written by processes on
different machines: whoever finishes the last one writes the manifest.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from transfuse.config.merge import differing
from transfuse.plugin import DataSet, Document, TransfuseError

from transfuse_adapters.store.arrays import ArrayWriter
from transfuse_adapters.store.encoding import Encoder
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
from transfuse_adapters.store.places import Folder, Place, place_of
from transfuse_adapters.store.reader import CODECS, CURE, manifest_of
from transfuse_adapters.store.records import PartWriter

PART = 65_536  # documents of a part, where nobody says how many parts there are
GROUP = "zarr.json"
MARK = json.dumps(
    {"zarr_format": 3, "node_type": "group", "attributes": {"transfuse": "store"}}, indent=1
).encode()
"""On the root, so that only our own unfinished stores are gone on with."""
Progress = Callable[[int, int], None]
"""Is told how many documents were packed, of how many."""
Lock = Callable[[str], AbstractContextManager[None]]
"""Keeps other processes away from what is called so, while it is entered."""


def plan_of(data: DataSet, encoder: Encoder | None = None, parts: int | None = None) -> Plan:
    """What packing the data set would do. parts: into how many; None: 65,536 documents each."""
    splits = {split: data.size(split) for split in data.splits}
    return Plan(
        name=data.name,
        splits=splits,
        reversed_share=data.reversed_share,
        tasks=tuple(data.tasks),
        origin=json.loads(json.dumps(data.identity())),
        codecs=encoder.hashes if encoder else {},
        parts=parts or max(1, -(-sum(splits.values()) // PART)),
    )


def pack(
    data: DataSet,
    path: str | Path,
    encoder: Encoder | None = None,
    *,
    codecs: Mapping[str, bytes] | None = None,
    parts: int | None = None,
    part: int | None = None,
    progress: Progress = lambda done, of: None,
    lock: Lock = lambda name: nullcontext(),
) -> bool:
    """Packs a data set, or goes on where that was stopped; whether the store is finished now.

    encoder: of the training documents; those held out stay raw, with the same roles. codecs: the files of its codecs,
    by name, that the store is to hold; none where they lie in it already. part: write this one alone.
    Memory: a shard (128 MiB) a role and table. Raises TransfuseError where a store of another plan or anything else
    is there, or naming document and item where an item cannot be kept.
    """
    place, plan = place_of(path), plan_of(data, encoder, parts)
    if part is not None and not 0 <= part < plan.parts:
        raise TransfuseError(f"part {part} is not one of {plan.parts}: parts are numbered from 0")
    if not begin(place, plan):
        return True
    there = place.sizes()
    for name, body in sorted((codecs or {}).items(), key=lambda one: one[0].endswith(".json")):
        if f"{CODECS}/{name}" not in there:
            place.put(f"{CODECS}/{name}", body)
    numbers = [part] if part is not None else range(plan.parts)
    left = [number for number in numbers if not is_finished(place, plan, number)]
    total = sum(len(span) for number in left for span in _spans(plan, number).values())
    done = 0
    for number in left:
        with lock(folder_of(number)):
            for _ in _write(place, plan, number, data, encoder):
                progress(done := done + 1, total)
    return finish(place, plan)


def begin(place: Place, plan: Plan) -> bool:
    """Puts the plan where nothing is, or sees that it is the one that is there; whether anything is left to do."""
    sizes = place.sizes()
    if MANIFEST in sizes:
        there = Plan(**read(place, MANIFEST, Manifest, CURE).model_dump(include=set(Plan.model_fields)))
        if there == plan:
            return False
    check_new(place, begun=True)
    if PLAN not in sizes:
        place.put(GROUP, MARK)
        place.put(PLAN, written(plan))
    there = read(place, PLAN, Plan, CURE)
    if there != plan:
        unlike = differing(there.model_dump(mode="json"), plan.model_dump(mode="json"))
        raise TransfuseError(
            f"store {place} was begun otherwise: {unlike}; repeat that command, or delete the store to begin anew"
        )
    return True


def check_new(place: Place, begun: bool = False) -> None:
    """Raises TransfuseError where a store or something else is there; codecs may be, and with ``begun`` a store that
    is not finished."""
    sizes = place.sizes()
    strange = isinstance(place, Folder) and place.path.exists() and not place.path.is_dir()
    if GROUP in sizes:
        strange = sizes[GROUP] != len(MARK) or place.read(GROUP, len(MARK)) != MARK
    elif any(not name.startswith(f"{CODECS}/") for name in sizes):
        strange = True
    if strange:
        raise TransfuseError(f"store {place}: something that is no store is there; take another name")
    if MANIFEST in sizes or (PLAN in sizes and not begun):
        raise TransfuseError(f"store {place}: another store is there; remove it or take another name")


def is_finished(place: Place, plan: Plan, number: int) -> bool:
    """Whether a part of the plan was finished. Raises where a part of another is there."""
    name = f"{folder_of(number)}/{MANIFEST}"
    if place.size(name) is None:
        return False
    if read(place, name, Part, CURE).plan != checksum(plan):
        raise TransfuseError(
            f"store {place}: {folder_of(number)} is of another plan; delete it and pack it again"
        )
    return True


def finish(place: Place, plan: Plan) -> bool:
    """Writes the manifest if all parts are there; whether they are."""
    folders = [folder_of(number) for number in range(plan.parts)]
    if any(place.size(f"{folder}/{MANIFEST}") is None for folder in folders):
        return False
    found = [read(place, f"{folder}/{MANIFEST}", Part, CURE) for folder in folders]
    place.put(MANIFEST, written(manifest_of(plan, folders, found, codec_files(place))))
    return True


def codec_files(place: Place) -> dict[str, tuple[int, str]]:
    """The files of the codecs that a store was encoded with."""
    names = [name for name in place.sizes() if name.startswith(f"{CODECS}/") and name.count("/") == 1]
    kept = [name for name in names if name.endswith((".safetensors", ".json"))]
    bodies = {name: place.read(name, 2**40) for name in kept}
    return {name: (len(body), hashlib.sha256(body).hexdigest()) for name, body in bodies.items()}


class _Counted(ArrayWriter):
    """Keeps the size and hash of what it writes."""

    def __init__(
        self, files: dict[str, tuple[int, str]], folder: str, place: Place, name: str, *args
    ) -> None:
        super().__init__(place, name, *args)
        self.written_files, self.folder = files, folder

    def put(self, name: str, data: bytes | bytearray) -> None:
        self.written_files[name] = len(data), hashlib.sha256(data).hexdigest()
        self.place.put(f"{self.folder}/{name}", data)


def _spans(plan: Plan, number: int) -> dict[str, range]:
    """Which documents of each split are part ``number``'s."""
    return {
        split: range(size * number // plan.parts, size * (number + 1) // plan.parts)
        for split, size in plan.splits.items()
    }


def _write(place: Place, plan: Plan, number: int, data: DataSet, encoder: Encoder | None) -> Iterator[None]:
    """One part, from nothing. Yields after each document."""
    folder, spans, files = folder_of(number), _spans(plan, number), dict[str, tuple[int, str]]()
    place.remove(folder)
    part = PartWriter(partial(_Counted, files, folder, place))
    for split, span in spans.items():
        for index in span:
            part.add(_as_stored(data.document(split, index), split, encoder))
            yield
    arrays, content = part.close()
    files[GROUP] = len(MARK), hashlib.sha256(MARK).hexdigest()
    place.put(f"{folder}/{GROUP}", MARK)
    made = Part(
        plan=checksum(plan),
        number=number,
        of=plan.parts,
        splits={split: len(span) for split, span in spans.items()},
        content=content,
        stored=tuple(part.stored),
        arrays=arrays,
        files=dict(sorted(files.items())),
    )
    place.put(f"{folder}/{MANIFEST}", written(made))


def _as_stored(document: Document, split: str, encoder: Encoder | None) -> Document:
    if encoder is None:
        return document
    return encoder.encoded(document) if split == "train" else encoder.part(document)
