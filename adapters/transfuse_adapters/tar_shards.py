"""Samples in tar shards, as webdataset has them: files of one name up to the first dot are one document.

Read by number: the headers are gone through once, and a member is read where it lies. Nothing is ever unpacked onto a
disk, no member is believed larger than its shard, and links, devices and sparse members are refused, as are names that
lead elsewhere. One bad sample is a RecordError, which training leaves out and counts.

Format: github.com/webdataset/webdataset. Needs nothing but Python and, for pictures, Pillow.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from transfuse.plugin import (
    DataSet,
    Document,
    Item,
    RecordError,
    TransfuseError,
    checked_index,
    checked_split,
)

from transfuse_adapters import samples

MOST_SAMPLES = 50_000_000
HELDOUT_SHARE = 0.1
PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
ROLES = {"txt": "text"} | dict.fromkeys(PICTURES, "image")


class TarShards(DataSet):
    """The samples of all ``.tar`` files of a folder, shards and members in the order of their names and of the files.

    roles: by ending of a member's name, whose data it is; members of other endings are counted and left out. Endings
    of pictures are decoded, ``npy`` holds an array of numbers, all else is text. In a document the members stand in
    the order of ``roles``; a text that comes first is a prompt that guidance may leave out. channels: of pictures.
    size: pictures are resized to this square; None: as they are. heldout: shards whose names hold this word are held
    out; where none does, one sample in ten, by a hash of its key.
    Raises TransfuseError naming shard and member where anything in the headers is wrong.
    """

    reversed_share = samples.REVERSED_SHARE

    def __init__(
        self,
        path: str | Path,
        roles: Mapping[str, str] | None = None,
        channels: int = 3,
        size: int | None = None,
        heldout: str = "heldout",
    ) -> None:
        self.path, self.roles = Path(path), dict(roles or ROLES)
        self.channels, self.side = channels, size
        self.shards = sorted(self.path.glob("*.tar"))
        if not self.shards:
            raise TransfuseError(
                f"data {path}: no .tar file lies there: name the folder of the shards, unzipped"
            )
        self.name = self.path.resolve().name
        self._left_out = 0
        endings = list(self.roles)
        own = any(heldout in shard.name for shard in self.shards)
        members: dict[str, list[tuple[int, int, int, int]]] = {"train": [], "heldout": []}
        firsts: dict[str, list[int]] = {"train": [0], "heldout": [0]}
        self._keys: dict[str, list[str]] = {"train": [], "heldout": []}
        self._hash = hashlib.sha256()
        for number, shard in enumerate(self.shards):
            self._hash.update(f"\0shard {shard.name}".encode())
            for key, found in _samples(shard):
                self._hash.update(f"\0{key} {found}".encode())
                held = heldout in shard.name if own else _chance(key) < HELDOUT_SHARE
                split = "heldout" if held else "train"
                kept = [(number, endings.index(e), at, size) for e, at, size in found if e in self.roles]
                self._left_out += len(found) - len(kept)
                members[split] += sorted(kept, key=lambda one: one[1])
                firsts[split].append(len(members[split]))
                self._keys[split].append(key)
                if len(self._keys[split]) > MOST_SAMPLES:
                    raise TransfuseError(
                        f"data {path}: more than {MOST_SAMPLES:,} samples are not read from tar shards"
                    )
        self._members = {split: np.array(of, np.int64).reshape(-1, 4) for split, of in members.items()}
        self._firsts = {split: np.array(of, np.int64) for split, of in firsts.items()}
        if not self.size("train"):
            raise TransfuseError(f"data {path}: no sample is left to train on, all are held out")

    def size(self, split: str) -> int:
        return len(self._keys[checked_split(self.name, split)])

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        place = checked_index(self.name, split, index, self.size(split))
        first, last = self._firsts[split][place : place + 2].tolist()
        key = self._keys[split][place]
        items = [self._item(key, *entry) for entry in self._members[split][first:last].tolist()]
        number = index if split == "train" else self.size("train") + index
        return samples.document(items, number, f"{self.name} {split} {index} ({key})", rng)

    def document_roles(self, split: str, index: int) -> list[str]:
        place = checked_index(self.name, split, index, self.size(split))
        first, last = self._firsts[split][place : place + 2].tolist()
        roles = list(self.roles.values())
        return [roles[ending] for ending in self._members[split][first:last, 1].tolist()]

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "train": self.size("train"),
            "heldout": self.size("heldout"),
            "content": self._hash.hexdigest(),
            "licence": "as the shards' owner says",
        }

    def account(self) -> str:
        samples = self.size("train") + self.size("heldout")
        left_out = f"; {self._left_out:,} members of other endings not used" if self._left_out else ""
        return f"{samples:,} samples in {len(self.shards):,} shards{left_out}"

    def _item(self, key: str, shard: int, ending: int, at: int, size: int) -> Item:
        suffix, role = list(self.roles.items())[ending]
        place = f"{self.shards[shard]}: {key}.{suffix}"
        with self.shards[shard].open("rb") as file:
            file.seek(at)
            body = file.read(size)
        if len(body) != size:
            raise RecordError(f"{place}: the shard ends in it")
        try:
            return Item(role, self._decoded(body, suffix, place))
        except (TransfuseError, ValueError) as error:
            raise RecordError(f"{place}: {str(error)[:300]}") from error

    def _decoded(self, body: bytes, suffix: str, place: str) -> Any:
        if suffix.rpartition(".")[2] in PICTURES:
            return samples.picture(body, place, self.channels, self.side)
        if suffix.rpartition(".")[2] == "npy":
            return _array(body)
        return samples.text(body.decode("utf-8"))


def _samples(shard: Path) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """Each sample's key and its members: ending, place in the shard, bytes."""
    known, found, size = None, list[tuple[str, int, int]](), shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps all of them
                if member.isdir():
                    continue
                key, ending = _checked(shard, member, size)
                if key != known:
                    if known is not None:
                        yield known, found
                    known, found = key, []
                if any(ending == other for other, _, _ in found):
                    raise TransfuseError(f"{shard}: {member.name!r:.80} stands twice in one sample")
                found.append((ending, member.offset_data, member.size))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise TransfuseError(
            f"{shard}: is no tar file, or is damaged ({error}); fetch it again, unzipped"
        ) from error
    if known is not None:
        yield known, found


def _checked(shard: Path, member: tarfile.TarInfo, size: int) -> tuple[str, str]:
    """A member's key and ending, once nothing about it is odd."""
    place = f"{shard}: {member.name!r:.80}"
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise TransfuseError(f"{place}: its name leads elsewhere; such a shard is not read")
    if not member.isreg() or member.sparse is not None:
        raise TransfuseError(f"{place}: is a link, a device or sparse; such a shard is not read")
    if member.size > samples.LARGEST:
        raise TransfuseError(
            f"{place}: {member.size:,} bytes, more than the {samples.LARGEST:,} that are read"
        )
    if member.offset_data + member.size > size:
        raise TransfuseError(f"{place}: the shard ends in it; fetch it again")
    base, _, ending = path.name.partition(".")
    return str(path.parent / base), ending.lower()


def _array(body: bytes) -> np.ndarray:
    """Of an ``.npy`` file, no pickle; no more is made than the file has bytes."""
    file = BytesIO(body)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, fortran, dtype = read[np.lib.format.read_magic(file)](file)
    except Exception as error:  # numpy raises what Python's tokenizer and parser do over damaged headers
        raise ValueError(f"is no .npy file of an array ({str(error)[:80]})") from None
    data = body[file.tell() :]
    if dtype.kind not in "biuf" or len(data) != prod(shape) * dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(
            f"its header says {str(dtype)[:40]} {str(shape)[:80]}, and {len(data):,} bytes follow"
        )
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran else "C")


def _chance(key: str) -> float:
    """A number in [0, 1) fixed by the key."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64
