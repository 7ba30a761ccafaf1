"""Codecs' work dealt to ranks: each encodes a share of the documents to come, and all are told what it found."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np

from transfuse.documents import Document
from transfuse.errors import TransfuseError
from transfuse.modalities.modality import Modality
from transfuse.sequences.layout import Layout
from transfuse.training.ranks import Ranks


def worth_dealing(modalities: Mapping[str, Modality]) -> frozenset[str]:
    """The roles whose codec has weights, which are frozen: others encode faster than a message comes."""
    frozen = (name for name, m in modalities.items() if any(not p.requires_grad for p in m.parameters()))
    return frozenset(frozen)


def encode_together(layout: Layout, wanted: Sequence[tuple[Document, int]], ranks: Ranks) -> list[np.ndarray]:
    """The payloads of items, each a document and its item's number: encoded by one rank, the same bits on all.

    Every rank calls it with the same items. Raises TransfuseError on all where an item of any cannot be encoded.
    """
    fault, body = "", BytesIO()
    made: list[np.ndarray] = []
    for document, index in wanted[ranks.rank :: ranks.size]:
        try:
            made.append(layout.payload(document, index))
        except TransfuseError as error:
            fault = str(error)
            break
    for array in (np.frombuffer(fault.encode(), np.uint8), *made):
        np.save(body, array, allow_pickle=False)
    bodies = [BytesIO(each) for each in ranks.gathered_bytes(body.getvalue())]
    if fault := next(filter(None, (np.load(each).tobytes().decode() for each in bodies)), ""):
        raise TransfuseError(fault)
    return [np.load(bodies[i % ranks.size]) for i in range(len(wanted))]
