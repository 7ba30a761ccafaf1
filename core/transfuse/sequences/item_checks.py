"""What an item must hold to mean the same in training and in decoding, checked when a model is built."""

from collections.abc import Mapping

import numpy as np

from transfuse.documents import Item
from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality, Span

ALIKE = ("label", "length", "inside", "grouped")
"""What the last spans of an item have in common, noised and clean; of several spans also ``copy, noised``."""


def check_items(modalities: Mapping[str, Modality]) -> None:
    """Raises TransfuseError where an item of some label ends otherwise noised, as in training, than clean.

    What follows it is predicted from its last position, in training behind the noised item's spans and in
    decoding behind the clean one's: the cursor there is the same, and so is the last span.
    """
    for role, modality in modalities.items():
        for label in seam.call(modality, "labels"):
            noised, after = _laid(modality, Item(role, None), label)
            clean, then = _laid(modality, Item(role, None, noised=False), label)
            place = f"{seam.title(modality)}: an item {label!r}"
            if noised[0].noised < any(span.noised for span in noised):
                raise TransfuseError(f"{place}: its first span, which sampling fills in, is not noised")
            last, alone = (noised[-1], clean[-1]), ALIKE if len(noised) == 1 else (*ALIKE, "copy", "noised")
            ends = {f"{name} of its last span": [getattr(span, name) for span in last] for name in alone}
            ends["cursor after it"] = [after, then]
            for name in sorted(last[0].columns.keys() | last[1].columns.keys()):
                values = [np.asarray(span.columns.get(name, ())).tolist() for span in last]
                ends[f"column {name!r} of its last span"] = values
            for what, (one, other) in ends.items():
                if one != other:
                    raise TransfuseError(
                        f"{place} ends otherwise noised than clean: the {what} is {one} and {other}; what follows it "
                        f"would be predicted from one in training and from the other in decoding"
                    )


def _laid(modality: Modality, item: Item, label: str) -> tuple[list[Span], int]:
    """The spans of an item of a label, and the rotary cursor after it."""
    blank = seam.payload(modality, "blank", label)
    spans, cursor = seam.spans(modality, item, blank), 1
    if spans[0].label != label:
        raise TransfuseError(
            f"{seam.title(modality)}: blank({label!r}) is laid out with the label {spans[0].label!r}"
        )
    for span in spans:
        cursor = seam.positions(modality, span, cursor)[1]
    return spans, cursor
