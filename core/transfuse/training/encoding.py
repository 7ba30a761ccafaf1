"""Codecs' work dealt to ranks: each encodes a share of the documents to come, and all are told what it found."""

from collections.abc import Mapping
from hashlib import blake2b
from io import BytesIO

import numpy as np

from transfuse.documents import Document
from transfuse.errors import TransfuseError
from transfuse.modalities.modality import Modality
from transfuse.sequences.layout import Layout
from transfuse.training.ranks import Ranks

Content = tuple[str, bytes]
"""A role, and a hash of raw data."""


def worth_dealing(modalities: Mapping[str, Modality]) -> frozenset[str]:
    """The roles whose codec has weights, which are frozen: others encode faster than a message comes."""
    frozen = (name for name, m in modalities.items() if any(not p.requires_grad for p in m.parameters()))
    return frozenset(frozen)


def encode_together(
    layout: Layout, wanted: Mapping[Content, tuple[Document, int]], ranks: Ranks
) -> dict[Content, np.ndarray]:
    """The payloads of items, each a document and its item's number: encoded by one rank, the same bits on all.

    Every rank calls it with the same items. Raises TransfuseError on all where an item of any cannot be encoded, or
    where a rank has read other documents than the first.
    """
    fault, body = "", BytesIO()
    made: list[np.ndarray] = []
    for document, index in [*wanted.values()][ranks.rank :: ranks.size]:
        try:
            made.append(layout.payload(document, index))
        except TransfuseError as error:
            fault = str(error)
            break
    asked = blake2b(b"".join(hashed for _, hashed in wanted), digest_size=16).digest()
    for array in (np.frombuffer(asked + fault.encode(), np.uint8), *made):
        np.save(body, array, allow_pickle=False)
    bodies = [BytesIO(each) for each in ranks.gathered_bytes(body.getvalue())]
    for rank, each in enumerate(bodies):
        told = np.load(each).tobytes()
        if told[:16] != asked:
            raise TransfuseError(
                f"rank {rank} has read other documents than rank {ranks.rank}: have all ranks read the same files"
            )
        if told[16:]:
            raise TransfuseError(told[16:].decode())
    return {content: np.load(bodies[i % ranks.size]) for i, content in enumerate(wanted)}
