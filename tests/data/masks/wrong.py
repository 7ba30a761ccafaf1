"""Masks that are wrong as masks in public code were, each with the mistake that its name says; `right` has none.

All are written for these tests, from descriptions of the mistakes.
"""

import torch
from torch import Tensor


def right(doc: Tensor, idx: Tensor, span: Tensor) -> Tensor:
    """Transfusion's: causal, both ways within an image, no document sees another, padding neither sees nor is seen."""
    image = (span[:, None] == span) & (span >= 0)
    return (doc[:, None] == doc) & (doc >= 0) & ((idx[:, None] >= idx) | image)


def images_both_ways_where_text_has_no_span(doc: Tensor, idx: Tensor, span: Tensor) -> Tensor:
    """-1 marks "no image", and equals itself: text and padding are one large image."""
    return (doc[:, None] == doc) & ((idx[:, None] >= idx) | (span[:, None] == span))


def images_that_see_padding(doc: Tensor, idx: Tensor, span: Tensor, pad: Tensor) -> Tensor:
    """Images see all that is padded behind them, as in models that pad and make the row of an image all ones."""
    return right(doc, idx, span) | ((span[:, None] >= 0) & (pad == 1))


def prefix_of_the_first_row_for_all(doc: Tensor, idx: Tensor, pos: Tensor, prefix: Tensor) -> Tensor:
    """The length of the first document's prefix, which all see both ways, is taken for every document's."""
    length = int(((doc == 0) & (prefix == 1)).sum())
    return (doc[:, None] == doc) & ((idx[:, None] >= idx) | (pos < length))


def packed_without_documents(idx: Tensor) -> Tensor:
    """Causal over the whole row: what is packed behind sees what is packed before it."""
    return idx[:, None] >= idx


def shifted_by_one(doc: Tensor, idx: Tensor) -> Tensor:
    """Causal, and one too far."""
    return (doc[:, None] == doc) & (idx[:, None] + 1 >= idx)


def mask_mod(doc: Tensor, idx: Tensor, span: Tensor):
    """FlexAttention's form of `right`: a function of four indices."""

    def visible(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        image = (span[q_idx] == span[kv_idx]) & (span[q_idx] >= 0)
        return (doc[q_idx] == doc[kv_idx]) & ((q_idx >= kv_idx) | image)

    return visible


def additive(doc: Tensor, idx: Tensor, span: Tensor) -> Tensor:
    """`right` as what is added to scores, with axes for batch and heads."""
    seen = right(doc, idx, span)
    return torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)[None, None]


def documents_by_number(doc: Tensor) -> Tensor:
    """A padding mask whose numbers are documents, 0 is padding."""
    return doc + 1
