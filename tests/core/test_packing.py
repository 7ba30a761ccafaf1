"""Laws of packing: nothing lost, doubled, cut or reordered; rows full; a packer resumes where another stopped."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse.errors import TransfuseError
from transfuse.modalities.modality import Column
from transfuse.sequences.packing import Packer, choose
from transfuse.sequences.rows import Row, join
from transfuse.sequences.sequence import DocumentSequence
from transfuse.testing.modalities import Blob, Letters, document, layout
from transfuse.testing.unpacking import unpack
from transfuse.training.stream import shortened

LAYOUT = layout(
    Letters(), Blob(sizes=(1, 2, 3, 4, 5, 6), inside=False, extra={"frame": Column.ID, "flag": Column.FLAG})
)

item = st.one_of(
    st.text("abc", min_size=1, max_size=6), st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6)
)
items = st.lists(item, min_size=1, max_size=3)


@st.composite
def streams(draw: st.DrawFn, min_size: int = 1) -> list[DocumentSequence]:
    drawn = draw(st.lists(items, min_size=min_size, max_size=30))
    return [
        LAYOUT.sequence(document(*parts, id=100 + 7 * i, source=f"law {i}"), visit=i % 3)
        for i, parts in enumerate(drawn)
    ]


packers = st.builds(
    Packer, budget=st.integers(26, 70), look_ahead=st.integers(1, 12), fill=st.booleans()
)  # 26 positions hold the longest of the documents


def fields(s: DocumentSequence) -> dict[str, object]:
    places = [
        (p.modality, p.start, p.item, p.is_context, p.document, p.visit, p.source, p.span) for p in s.spans
    ]
    arrays = {"tokens": s.tokens, "targets": s.targets, "scored": s.scored, **s.columns}
    return {
        "of": (s.document, s.visit, s.source, s.kinds),
        "spans": places,
        **{name: array.tolist() for name, array in arrays.items()},
    }


@given(streams(), packers)
def test_unpacking_gives_back_what_was_packed_field_by_field(
    stream: list[DocumentSequence], packer: Packer
) -> None:
    rows = list(packer.rows(stream))
    assert [fields(s) for s in unpack(rows)] == [fields(s) for s in stream]
    assert sorted(a for row in rows for a in row.arrivals) == list(range(len(stream)))


@given(streams(), packers)
def test_no_row_exceeds_the_budget(stream: list[DocumentSequence], packer: Packer) -> None:
    rows = list(packer.rows(stream))
    assert all(row.used <= packer.budget for row in rows)
    assert all(len(row) == (packer.budget if packer.fill else row.used) for row in rows)


@given(streams(), packers)
def test_documents_and_spans_lie_in_one_piece_under_numbers_of_their_own(
    stream: list[DocumentSequence], packer: Packer
) -> None:
    for row in packer.rows(stream):
        doc, span = row.columns["doc"], row.columns["span"]
        for ids in (doc, span):
            changes = [v for i, v in enumerate(ids) if v != -1 and (i == 0 or ids[i - 1] != v)]
            assert len(changes) == len(set(changes))
        for start, stop, sample in zip(row.bounds, row.bounds[1:], doc[list(row.bounds[:-1])], strict=False):
            assert (doc[start:stop] == sample).all()
        assert row.columns["idx"].tolist() == list(range(len(row)))
        for place in row.spans:
            inside = slice(place.start, place.start + place.span.length)
            assert len(set(span[inside])) == 1
            assert set(row.columns["sample"][inside]) == {place.document}
            assert (span == span[place.start]).sum() == place.span.length


@given(streams(), packers)
def test_filler_is_of_no_document_and_predicts_nothing(
    stream: list[DocumentSequence], packer: Packer
) -> None:
    for row in packer.rows(stream):
        filler = slice(row.used, None)
        for name in ("doc", "sample", "span"):
            assert (row.columns[name][filler] == -1).all()
            assert name == "span" or (row.columns[name][: row.used] >= 0).all()
        for name in ("letters", "blob", "noised", "marker"):
            assert not row.columns[name][filler].any()
        assert (row.targets[filler] == -1).all()
        assert (row.tokens[filler] == -1).all()


@given(streams(), packers)
def test_the_oldest_that_waits_is_in_the_next_row(stream: list[DocumentSequence], packer: Packer) -> None:
    placed: set[int] = set()
    for row in packer.rows(stream):
        assert row.arrivals[0] == min(set(range(len(stream))) - placed)
        assert list(row.arrivals) == sorted(row.arrivals)
        placed |= set(row.arrivals)


@given(streams(), packers)
def test_no_more_documents_wait_than_the_look_ahead_or_a_row_holds(
    stream: list[DocumentSequence], packer: Packer
) -> None:
    for _ in packer.rows(stream):
        waits = sum(len(s) for _, s in packer.waiting)
        assert len(packer.waiting) < packer.look_ahead or waits < packer.budget + 26


@given(streams(min_size=4), packers, st.data())
def test_a_packer_made_with_what_waits_goes_on_as_the_first_would(
    stream: list[DocumentSequence], packer: Packer, data: st.DataObject
) -> None:
    whole = list(Packer(packer.budget, packer.look_ahead, packer.fill).rows(stream))
    stop = data.draw(st.integers(0, len(whole)))
    rows, made = packer.rows(iter(stream)), []
    for _ in range(stop):
        made.append(next(rows))
    second = Packer(
        packer.budget, packer.look_ahead, packer.fill, "error", list(packer.waiting), packer.arrived
    )
    made += second.rows(stream[packer.arrived :])
    assert [row.arrivals for row in made] == [row.arrivals for row in whole]
    assert [row.tokens.tolist() for row in made] == [row.tokens.tolist() for row in whole]


def test_a_row_with_filler_by_eye() -> None:
    first, second = LAYOUT.sequence(document("ab", [0.0, 1.0])), LAYOUT.sequence(document([0.5], id=7))
    row = join([first, second], length=len(first) + len(second) + 3)
    size, spans = len(first), row.columns["span"]
    assert row.columns["idx"].tolist() == list(range(size + len(second) + 3))
    assert row.columns["doc"].tolist() == [0] * size + [1] * len(second) + [-1] * 3
    assert spans[:size].tolist() == first.columns["span"].tolist()
    assert sorted({*spans.tolist()}) == [-1, 0, 1]
    assert (row.used, len(row)) == (size + len(second), size + len(second) + 3)


# -- which documents make a row


def fullest(lengths: list[int], budget: int) -> int:
    """The oracle: every subset that holds the first."""
    sums = {lengths[0]}
    for length in lengths[1:]:
        sums |= {s + length for s in sums if s + length <= budget}
    return max(sums)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(20, 120))
def test_choose_finds_the_fullest_row_that_holds_the_oldest(lengths: list[int], budget: int) -> None:
    chosen = choose(lengths, budget)
    assert chosen[0] == 0
    assert chosen == sorted(set(chosen))
    assert sum(lengths[i] for i in chosen) == fullest(lengths, budget)


def test_choose_takes_the_earliest_of_equally_full_rows() -> None:
    assert choose([5, 5, 5, 5, 5], 10) == [0, 1]
    assert choose([5, 3, 2, 5], 10) == [0, 1, 2]
    assert choose([1, 1, 1, 1, 3], 5) == [0, 1, 4]


def test_choose_gives_up_first_come_first_served_where_that_leaves_a_gap() -> None:
    # As they come, 1 and 3 leave 12, of which 5 + 5 fill 10; without the 3, 1 + 5 + 5 + 5 fill the row.
    assert choose([1, 3, 5, 5, 5], 16) == [0, 2, 3, 4]
    assert choose([2, 3, 5, 5, 5], 16) == [0, 1, 2, 3], "and never more than fits"


def test_rows_of_a_mixed_stream_are_full() -> None:
    rng = np.random.default_rng(0)
    stream = [LAYOUT.sequence(document("a" * int(n))) for n in rng.integers(1, 60, 3000)]
    packer = Packer(512, look_ahead=64)
    rows = [row for row in packer.rows(stream) if packer.arrived < len(stream)]
    assert sum(row.used for row in rows) / (512 * len(rows)) > 0.998


def test_a_row_that_can_be_filled_does_not_wait_for_the_look_ahead() -> None:
    def arriving() -> Iterator[DocumentSequence]:
        for i in range(200):
            arrived.append(i)
            yield LAYOUT.sequence(document("a"))  # 3 positions

    arrived: list[int] = []
    first = next(iter(Packer(30, look_ahead=150).rows(arriving())))
    assert first.used == 30
    assert len(arrived) < 30


# -- documents that do not fit


def long(*parts: str | list[float]) -> DocumentSequence:
    return LAYOUT.sequence(document(*parts, source="pairs 7"))


def test_a_document_over_the_budget_is_named_with_its_longest_item_and_the_cure() -> None:
    with pytest.raises(
        TransfuseError,
        match=r"pairs 7: 14 positions \(item 1 alone has 8\) do not fit a row of 13: raise train.budget, or shorten",
    ):
        list(Packer(13).rows([long("a", [0.0] * 6, "bcd")]))


def test_a_document_of_just_the_budget_fits() -> None:
    packer = Packer(14)
    assert [row.used for row in packer.rows([long("a", [0.0] * 6, "bcd")])] == [14]


def one(packer: Packer, sequence: DocumentSequence) -> Row:
    (row,) = packer.rows([sequence])
    return row


def test_documents_over_the_budget_are_skipped_if_asked_and_counted_as_arrived() -> None:
    packer = Packer(6, skip=True)
    rows = list(packer.rows([long("ab"), long("abcdefgh"), long("c")]))
    assert sorted(place for row in rows for place in row.arrivals) == [0, 2]
    assert packer.arrived == 3


@pytest.mark.parametrize("excess", [1, 4, 6, 7])
def test_text_is_cut_at_its_end_wherever_it_stands_the_longest_first(excess: int) -> None:
    lay, whole = layout(), document("abc", [0.0, 1.0], "abcdef")
    before = len(lay.sequence(whole))
    for order in (whole, replace(whole, items=whole.items[::-1])):
        payloads = shortened(lay, order, lay.payloads(order), excess)
        assert len(lay.sequence(order, payloads)) == before - excess
        texts = sorted((lay.modalities["letters"].decode(payloads[i]) for i in (0, 2)), key=len)
        cut = min(excess, 5)
        assert sorted(texts) == sorted(["abcdef"[: 6 - cut], "abc"[: 3 - (excess - cut)]])


def test_where_there_is_not_so_much_text_the_document_is_named() -> None:
    lay, whole = layout(), document("abc", [0.0, 1.0])
    with pytest.raises(
        TransfuseError, match="test 0: only text can be cut, and without any of it 2 positions"
    ):
        shortened(lay, whole, lay.payloads(whole), 4)


def test_documents_of_two_layouts_do_not_make_a_row() -> None:
    other = layout(Letters(), Blob()).sequence(document("a", source="other 3"))
    with pytest.raises(
        TransfuseError, match="other 3: laid out with other columns than pairs 7: flag, frame"
    ):
        join([long("a"), other])
