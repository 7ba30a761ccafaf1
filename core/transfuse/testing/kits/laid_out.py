"""What holds of a modality's items laid out: labels and blanks, spans, rotary positions, columns, masks."""

import json

import numpy as np

from transfuse.modalities import seam
from transfuse.modalities.modality import Span, SpanModality
from transfuse.sequences.item_checks import check_items
from transfuse.testing.kits.modality_case import ModalityCase
from transfuse.testing.kits.raw_case import shown
from transfuse.testing.kits.runner import Kit, LeftOut, expect
from transfuse.training.mask_checks import check_leak, check_separate

LAID_OUT: Kit[ModalityCase] = Kit("modality")
CURSORS = (0, 1, 17)


@LAID_OUT.check("change labels so that it names every shape that fit has found, each once")
def labels_name_every_shape(at: ModalityCase) -> None:
    """The label of every span is one of labels()."""
    for raw, payload in zip(at.raws, at.payloads, strict=True):
        for span in at.spans(payload):
            known = span.label is None or span.label in at.labels
            expect(known, f"{shown(raw)} has the label {span.label!r}, and labels() are {at.labels}")


@LAID_OUT.check("change facts and restore so that the labels that fit found come back")
def labels_are_restored(at: ModalityCase) -> None:
    """One as it was built has the same labels, given the facts through JSON."""
    fresh = at.unfit()
    seam.call(fresh, "restore", json.loads(json.dumps(seam.facts(at.modality))))
    labels = tuple(seam.call(fresh, "labels"))
    expect(labels == at.labels, f"restored, it has the labels {labels}, and had {at.labels}")


@LAID_OUT.check("change blank so that it returns zeros of the shape and dtype that encode gives")
def blanks_have_the_shape_of_payloads(at: ModalityCase) -> None:
    """blank(label) has the shape and dtype of the payloads of that label."""
    for payload in at.payloads:
        label = at.spans(payload)[0].label
        if label is not None:
            blank = seam.payload(at.modality, "blank", label)
            seen = f"blank({label!r}) is {shown(blank)}, and a payload of that label {shown(payload)}"
            expect((blank.shape, blank.dtype) == (payload.shape, payload.dtype), seen)


@LAID_OUT.check("change blank so that it knows every label: what is sampled is laid out by it")
def every_label_has_a_blank(at: ModalityCase) -> None:
    """blank(label) is laid out with that label."""
    for label in at.labels:
        found = at.spans(seam.payload(at.modality, "blank", label))[0].label
        expect(found == label, f"blank({label!r}) is laid out with the label {found!r}")


@LAID_OUT.check(
    "change labels so that two shapes have two labels: what is sampled knows no more of its shape"
)
def a_label_says_the_shape(at: ModalityCase) -> None:
    """Raw data of one label have spans of the same lengths."""
    lengths: dict[str | None, list[int]] = {}
    for raw, payload in zip(at.raws, at.payloads, strict=True):
        spans = at.spans(payload)
        if spans[0].label is not None:
            found = [span.length for span in spans]
            first = lengths.setdefault(spans[0].label, found)
            expect(
                found == first,
                f"{shown(raw)} has {found} positions, and others labelled {spans[0].label!r} {first}",
            )


@LAID_OUT.check("change spans so that it rests on its arguments alone")
def laying_out_twice_is_the_same(at: ModalityCase) -> None:
    """spans is a function of the item and the payload."""
    for payload in at.payloads:
        first, again = ([_plain(span) for span in at.spans(payload)] for _ in range(2))
        expect(first == again, f"spans gave two layouts of one payload, {shown(payload)}")


@LAID_OUT.check("change spans so that it works on a copy of the payload")
def laying_out_leaves_payloads_as_they_are(at: ModalityCase) -> None:
    """spans writes nothing into the payload."""
    for raw in at.raws:
        payload = seam.payload(at.modality, "encode", raw)
        kept = payload.copy()
        at.spans(payload)
        expect(np.array_equal(payload, kept), f"spans changed {shown(payload)} in place")


@LAID_OUT.check(
    "change spans so that a Span has loss=item.loss, and for a diffused one loss=item.loss and item.noised"
)
def items_to_be_predicted_have_a_loss(at: ModalityCase) -> None:
    """An item that is to be predicted has a span with a loss; of a SpanModality one that is noised."""
    for payload in at.payloads:
        spans = at.spans(payload)
        diffused = isinstance(at.modality, SpanModality)
        expect(
            any(s.loss and (s.noised or not diffused) for s in spans),
            "no span of an item with a loss is predicted",
        )


@LAID_OUT.check("change spans so that it says loss=item.loss")
def items_without_a_loss_have_none(at: ModalityCase) -> None:
    """Nothing of an item is predicted where its loss is False."""
    for payload in at.payloads:
        for span in at.spans(payload, loss=False):
            predicted = span.loss and (span.noised or not isinstance(at.modality, SpanModality))
            expect(not predicted, "a span of an item without a loss is predicted")


@LAID_OUT.check("change spans so that it says noised=item.noised", of=SpanModality)
def clean_items_are_clean(at: ModalityCase) -> None:
    """Nothing of an item is noised where it is to be shown clean."""
    for payload in at.payloads:
        expect(not any(s.noised for s in at.spans(payload, noised=False)), "a span of a clean item is noised")


@LAID_OUT.check(
    "change spans so that the first span has the payload itself, which sampling gives", of=SpanModality
)
def the_first_span_is_the_payload(at: ModalityCase) -> None:
    """Where the first span has the payload's shape it has its numbers: what is sampled there is decoded as it is."""
    for payload in at.payloads:
        own = at.spans(payload)[0].payload
        same = own.shape != payload.shape or np.array_equal(own, payload)
        expect(same, f"the first span of {shown(payload)} holds other numbers")


@LAID_OUT.check("change spans so that the span of the clean item has the payload itself", of=SpanModality)
def spans_hold_the_payload(at: ModalityCase) -> None:
    """What is embedded of a clean item is made of its payload: another payload makes other spans."""
    for payload in at.payloads:
        other = payload + 1 if payload.dtype.kind == "f" else np.where(payload, 0, 1)
        here, there = (at.spans(p, noised=False) for p in (payload, other))
        alike = all(np.array_equal(a.payload, b.payload) for a, b in zip(here, there, strict=True))
        expect(not alike, f"two payloads {shown(payload)} have the same spans")


@LAID_OUT.check("change spans and positions so that an item ends alike noised and clean")
def items_end_alike_noised_and_clean(at: ModalityCase) -> None:
    """What follows an item finds the same last span and the same cursor, in training and in decoding."""
    check_items({at.name: at.modality})


@LAID_OUT.check(
    "change positions so that it returns a whole number for each position and a cursor that never goes back"
)
def positions_are_whole_and_go_forward(at: ModalityCase) -> None:
    """Each position of a span has its rotary position, and the cursor after it is no smaller."""
    for payload in at.payloads:
        for span in at.spans(payload):
            for cursor in CURSORS:
                seam.positions(at.modality, span, cursor)


@LAID_OUT.check("change positions so that it counts from the cursor")
def positions_move_with_the_cursor(at: ModalityCase) -> None:
    """A span further on in a document has the same positions, moved."""
    for payload in at.payloads:
        for span in at.spans(payload):
            places, after = zip(*(seam.positions(at.modality, span, c) for c in CURSORS), strict=True)
            moved = [(p - c).tolist() for p, c in zip(places, CURSORS, strict=True)]
            expect(all(m == moved[0] for m in moved), "a span's positions rest on more than where it begins")
            steps = [a - c for a, c in zip(after, CURSORS, strict=True)]
            expect(len({*steps}) == 1, f"the cursor moves by {steps}, as the span begins at {list(CURSORS)}")


@LAID_OUT.check(
    "change positions so that an item takes room: the cursor after it is beyond its positions, markers and all"
)
def items_take_room(at: ModalityCase) -> None:
    """What follows an item stands at other positions than the item."""
    for payload in at.payloads:
        cursor, taken = 0, 0
        for span in at.spans(payload):
            own, cursor = seam.positions(at.modality, span, cursor)
            taken = max(taken, int(own.max()))
        expect(cursor > taken, f"the cursor after an item is {cursor}, and a position of it {taken}")


@LAID_OUT.check("change columns so that it declares every column that spans write, under names that are free")
def columns_are_declared(at: ModalityCase) -> None:
    """Documents are laid out with the columns that are declared, one value a position."""
    written = {name for payload in at.payloads for span in at.spans(payload) for name in span.columns}
    declared = at.layout.columns
    expect(
        written <= declared.keys(),
        f"spans write {sorted(written - declared.keys())}, which columns() has not",
    )
    at.row()


@LAID_OUT.check("change columns or spans so that every column that is declared is written by some span")
def columns_are_written(at: ModalityCase) -> None:
    """A column that it declares is one that it writes: a mask over it would else say nothing."""
    declared = set(seam.call(at.modality, "columns"))
    written = {name for payload in at.payloads for span in at.spans(payload) for name in span.columns}
    expect(declared <= written, f"columns() has {sorted(declared - written)}, which no span writes")


@LAID_OUT.check("change spans so that a span's number of positions does not rest on its values")
def the_length_rests_on_the_shape(at: ModalityCase) -> None:
    """A blank has as many positions as raw data of its label."""
    for payload in at.payloads:
        spans = at.spans(payload)
        if (label := spans[0].label) is not None:
            blank = at.spans(seam.payload(at.modality, "blank", label))
            here, there = ([s.length for s in found] for found in (spans, blank))
            expect(here == there, f"raw data of {label!r} have {here} positions, and a blank {there}")


@LAID_OUT.check(
    "change spans and positions so that columns, rotary positions and lengths rest on the label alone: "
    "an item is sampled as blank(label) is laid out"
)
def layouts_rest_on_the_label(at: ModalityCase) -> None:
    """Payloads of one label have the columns, rotary positions and lengths of its blank."""
    blanks = {label: _places(at, seam.payload(at.modality, "blank", label)) for label in at.labels}
    for raw, payload in zip(at.raws, at.payloads, strict=True):
        label = at.spans(payload)[0].label
        blank = blanks.get(label) if label is not None else None
        for what, there in (blank or {}).items():
            here = _places(at, payload)[what]
            expect(here == there, f"{shown(raw)} has {what} {here}, and blank({label!r}) {there}")


@LAID_OUT.check(
    "change the recipe's mask, or spans and columns, so that no position sees the token it is to predict"
)
def nothing_sees_what_it_is_to_predict(at: ModalityCase) -> None:
    """Under the recipe's mask no position sees its own target, at once or over layers."""
    _lawful_mask(at)
    check_leak(at.mask, at.row())


@LAID_OUT.check("change the recipe's mask so that it begins with same(doc) &")
def packed_documents_do_not_see_each_other(at: ModalityCase) -> None:
    """Under the recipe's mask a document is alone in its row."""
    _lawful_mask(at)
    check_separate(at.mask, at.row())


def _lawful_mask(at: ModalityCase) -> None:
    """Left out where the mask reads columns of other modalities of its recipe."""
    missing = sorted(at.mask.columns - at.row().columns.keys())
    if missing:
        raise LeftOut(f"the mask reads columns of other modalities: {', '.join(missing)}")


def _places(at: ModalityCase, payload: np.ndarray) -> dict[str, list]:
    """Where a payload's spans stand: all that masks and rotary positions read."""
    spans, cursor, found = at.spans(payload), 0, []
    for span in spans:
        own, cursor = seam.positions(at.modality, span, cursor)
        found.append([*own.tolist(), cursor])
    names = sorted({name for span in spans for name in span.columns})
    columns = {f"the column {name!r}": [_written(span, name) for span in spans] for name in names}
    return {"lengths": [span.length for span in spans], "rotary positions": found, **columns}


def _written(span: Span, name: str) -> list | None:
    return span.columns[name].tolist() if name in span.columns else None


def _plain(span: Span) -> tuple:
    columns = {name: values.tolist() for name, values in span.columns.items()}
    rest = (span.length, span.label, span.inside, span.grouped, span.noised, span.loss, span.copy)
    return span.payload.tolist(), columns, rest
