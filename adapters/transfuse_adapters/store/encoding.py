"""Items through their codecs, once: what a store keeps of them, and payloads made of it again.

Of any modality it is what its ``encode`` gives, by its own type and shape. A codec may have two methods more and keep
something richer: ``keep(raw)``, the array to be kept, and ``kept(array)``, the payload that ``encode(raw)`` gives,
bit for bit. So the KL autoencoders keep mean and log-variance, from which latents can be drawn anew.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
from transfuse.modalities import seam
from transfuse.plugin import Document, Encoded, Modality, TokenModality, TransfuseError
from transfuse.sequences.layout import Layout
from transfuse.sequences.vocabulary import Vocabulary

_hashes: "WeakKeyDictionary[Any, str]" = WeakKeyDictionary()


@runtime_checkable
class Keeps(Protocol):
    """A codec that keeps more than its payload."""

    def keep(self, raw: np.ndarray) -> np.ndarray:
        """What a store keeps of raw data."""
        ...

    def kept(self, stored: np.ndarray) -> np.ndarray:
        """The payload that ``encode`` gave."""
        ...


@dataclass(frozen=True)
class Kept:
    """What is to be kept of an item. codes: of ids, how many there are; 0: they are no ids."""

    array: np.ndarray
    codes: int = 0


def codec_hash(modality: Modality) -> str:
    """SHA-256 of what makes a modality encode as it does: its facts, and the weights of its codec.

    Asked once of a modality, after it was fit or restored.
    """
    if modality not in _hashes:
        hashed = hashlib.sha256(json.dumps(seam.facts(modality), sort_keys=True).encode())
        codec = getattr(modality, "codec", None)
        for name, tensor in sorted(codec.state_dict().items()) if codec is not None else ():
            values = tensor.detach().cpu().contiguous()
            hashed.update(f"\0{name} {values.dtype} {list(values.shape)}\0".encode())
            hashed.update(values.flatten().view(dtype=_bytes()).numpy().tobytes())
        _hashes[modality] = hashed.hexdigest()
    return _hashes[modality]


def _bytes() -> Any:
    import torch

    return torch.uint8


@dataclass(frozen=True, eq=False)
class StoredItem(Encoded):
    """An item of a store that was encoded when it was packed.

    stored: what the codec gave to be kept. payload_type: of the payload, where it is kept in a smaller one. codec:
    the hash of whose. As an array, drawn or printed, it is what is stored.
    """

    stored: np.ndarray
    payload_type: str
    role: str
    codec: str
    store: str

    def payload(self, modality: Any) -> np.ndarray:
        if (here := codec_hash(modality)) != self.codec:
            raise TransfuseError(
                f"store {self.store}: role {self.role!r} was encoded by a codec of hash {self.codec[:12]}, and this "
                f"recipe's has {here[:12]}: leave --codecs out, and the store's own is taken, or pack the data again"
            )
        codec = getattr(modality, "codec", None)
        if isinstance(codec, Keeps):
            return seam.guarded(codec, "kept", codec.kept, self.stored)
        return self.stored.astype(self.payload_type) if self.payload_type else self.stored

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def dtype(self) -> np.dtype:
        return self.stored.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.stored, dtype)


class Encoder:
    """Documents with all items of some roles encoded. modalities: fit or restored, by role; items of other roles are
    left out, as a recipe leaves them out."""

    def __init__(self, modalities: Mapping[str, Modality]) -> None:
        self.modalities = dict(modalities)
        self._layout = Layout(self.modalities, Vocabulary())
        self.hashes = {role: codec_hash(modality) for role, modality in self.modalities.items()}
        self._compared = set[tuple[str, tuple[int, ...]]]()

    def encoded(self, document: Document) -> Document:
        """Raises TransfuseError naming document and item where a codec refuses it, or does not keep its own payload."""
        items = [(i, item) for i, item in enumerate(document.items) if item.modality in self.modalities]
        return replace(
            document,
            items=tuple(replace(item, data=self._kept(document, i, item.modality)) for i, item in items),
        )

    def part(self, document: Document) -> Document:
        """The same, raw."""
        items = tuple(item for item in document.items if item.modality in self.modalities)
        return replace(document, items=items)

    def _kept(self, document: Document, index: int, role: str) -> Kept:
        modality, raw = self.modalities[role], document.items[index].data
        codec = getattr(modality, "codec", None)
        if not isinstance(codec, Keeps):
            payload = self._layout.payload(document, index)
            return Kept(payload, modality.codes if isinstance(modality, TokenModality) else 0)
        if (role, np.shape(raw)) not in self._compared:  # one of each shape by both ways
            self._compared.add((role, np.shape(raw)))
            stored = seam.guarded(codec, "keep", codec.keep, raw)
            again = seam.guarded(codec, "kept", codec.kept, stored)
            if not np.array_equal(again, self._layout.payload(document, index)):
                raise TransfuseError(
                    f"{document.source}: item {index} ({role}): kept(keep(raw)) of its codec is not encode(raw)"
                )
            return Kept(stored)
        with seam.at(f"{document.source}: item {index} ({role})"):
            stored = seam.guarded(codec, "keep", codec.keep, raw)
        items = list(document.items)
        items[index] = replace(
            items[index], data=StoredItem(stored, "", role, self.hashes[role], "of this pack")
        )
        self._layout.payload(replace(document, items=tuple(items)), index)  # checked as any payload is
        return Kept(stored)
