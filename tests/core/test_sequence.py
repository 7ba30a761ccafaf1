"""Documents as sequences, by eye: tokens, what is predicted where and for whom, and every column."""

from textwrap import dedent

import numpy as np
import pytest
from transfuse.documents import Document, Item
from transfuse.modalities.modality import Column
from transfuse.sequences.layout import DocumentCursor, Layout
from transfuse.sequences.sequence import DocumentSequence
from transfuse.testing.modalities import Blob, Letters, document, layout, show


def picture(sequence: DocumentSequence, lay: Layout, *, only: str = "") -> str:
    rows = show(sequence, lay).splitlines()
    return "\n".join(row for row in rows if not only or row.split()[0] in only.split())


def eye(text: str) -> str:
    return "\n".join(line.rstrip() for line in dedent(text).strip().splitlines())


def test_caption_first_by_eye() -> None:
    lay = layout()
    assert picture(lay.sequence(document("ab", [1.0, 2.0])), lay) == eye("""
        token   <document> a       b        <blob 2> ~ ~ </blob>     </document>
        target  a          b       <blob 2> .        . . </document> .
        scored  letters    letters letters  .        . . letters     .
        blob    0          0       0        0        1 1 0           0
        item    .          0       0        1        1 1 1           .
        letters 0          1       1        0        0 0 0           0
        marker  1          0       0        1        0 0 1           1
        mod     .          0       0        1        1 1 1           .
        noised  0          0       0        1        1 1 1           0
        pos     0          1       2        3        4 5 6           7
        span    .          .       .        .        0 0 .           .
        """)


def test_image_first_by_eye() -> None:
    lay = layout()
    assert picture(lay.sequence(document([1.0, 2.0], "ab")), lay) == eye("""
        token   <document> <blob 2> ~ ~ </blob> a       b           </document>
        target  <blob 2>   .        . . a       b       </document> .
        scored  letters    .        . . letters letters letters     .
        blob    0          0        1 1 0       0       0           0
        item    .          0        0 0 0       1       1           .
        letters 0          0        0 0 0       1       1           0
        marker  1          1        0 0 1       0       0           1
        mod     .          1        1 1 1       0       0           .
        noised  0          1        1 1 1       0       0           0
        pos     0          1        2 3 4       5       6           7
        span    .          .        0 0 .       .       .           .
        """)


def test_context_only_a_clean_image_with_its_markers_inside_and_a_column_of_its_own() -> None:
    lay = layout(Letters(), Blob(inside=True, extra={"frame": Column.ID, "flag": Column.FLAG}))
    given = document(Item("letters", "ab", loss=False), Item("blob", [1.0, 2.0], noised=False), "c")
    assert picture(lay.sequence(given), lay, only="token target scored flag frame noised span marker") == eye("""
        token   <document> a b <blob 2> ~ ~ </blob> c           </document>
        target  .          . . .        . . c       </document> .
        scored  .          . . .        . . letters letters     .
        flag    0          0 0 0        1 2 3       0           0
        frame   .          . . 0        1 2 3       .           .
        marker  1          0 0 1        0 0 1       0           1
        noised  0          0 0 0        0 0 0       0           0
        span    .          . . 0        0 0 0       .           .
        """)


def test_an_item_without_loss_is_not_predicted_nor_the_end_after_it() -> None:
    lay = layout()
    given = document("a", Item("blob", [1.0, 2.0], loss=False), Item("letters", "b", loss=False))
    assert picture(lay.sequence(given), lay, only="token target") == eye("""
        token   <document> a <blob 2> ~ ~ </blob> b </document>
        target  a          . .        . . .       . .
        """)
    (place,) = lay.sequence(given).spans
    assert place.span.noised
    assert not place.span.loss


def test_without_a_modality_that_predicts_markers_nothing_does() -> None:
    lay = layout(Blob())
    sequence = lay.sequence(document([1.0, 2.0, 3.0]))
    assert (sequence.targets == -1).all()
    assert (sequence.scored == -1).all()
    assert [lay.vocabulary.name(t) for t in sequence.tokens if t >= 0] == [
        "<document>", "<blob 3>", "</blob>", "</document>",
    ]  # fmt: skip


def test_tokens_that_predict_no_markers_are_scored_as_their_own() -> None:
    lay = layout(Letters(), Letters("other", codes=3, predicts_markers=False))
    assert picture(
        lay.sequence(document("a", Item("other", np.array([2, 0])))), lay, only="token target scored"
    ) == eye("""
        token   <document> a        other[2] other[0]    </document>
        target  a          other[2] other[0] </document> .
        scored  letters    other    other    letters     .
        """)


def test_spans_remember_their_item_document_visit_and_whether_they_are_context() -> None:
    lay = layout()
    given = document([1.0, 2.0], "a", [3.0, 4.0, 5.0], id=7, source="pairs 7")
    first, second = lay.sequence(given, visit=3).spans
    assert (first.start, first.item, first.is_context, first.document, first.visit) == (2, 0, True, 7, 3)
    assert (second.start, second.item, second.is_context, second.source) == (7, 2, False, "pairs 7")
    assert lay.sequence(given).columns["span"].tolist() == [-1, -1, 0, 0, -1, -1, -1, 1, 1, 1, -1, -1]


def test_a_later_item_without_loss_makes_no_context_of_an_image() -> None:
    (place,) = layout().sequence(document([1.0, 2.0], Item("letters", "a", loss=False))).spans
    assert not place.is_context


def test_every_document_has_every_column_of_the_recipe() -> None:
    lay = layout(Letters(), Blob(extra={"frame": Column.ID, "flag": Column.FLAG}))
    text = lay.sequence(document("ab"))
    assert text.columns.keys() == lay.sequence(document([1.0, 2.0])).columns.keys()
    assert text.columns["frame"].tolist() == [-1] * 4
    assert text.columns["flag"].tolist() == [0] * 4


# -- prompts and what continues them


@pytest.mark.parametrize("inside", [False, True])
def test_a_prompt_is_the_beginning_of_the_whole_document_but_clean(inside: bool) -> None:
    lay = layout(Letters(), Blob(inside=inside, extra={"frame": Column.ID}))
    given = document("ab", [1.0, 2.0], "c", [1.0, 2.0, 3.0])
    whole, (prompt, _) = lay.sequence(given), lay.prompt(given)
    n = len(prompt)
    assert n == len(whole) - 1
    assert prompt.tokens.tolist() == whole.tokens[:n].tolist()
    for name in prompt.columns.keys() - {"noised"}:
        assert prompt.columns[name].tolist() == whole.columns[name][:n].tolist(), name
    assert not prompt.columns["noised"].any()
    assert [p.start for p in prompt.spans] == [p.start for p in whole.spans]
    assert not any(p.span.noised or p.span.loss for p in prompt.spans)


def test_a_prompt_may_hold_nothing() -> None:
    lay = layout()
    prompt, cursor = lay.prompt(Document(()))
    assert picture(prompt, lay, only="token") == "token   <document>"
    assert cursor == DocumentCursor(pos=1, group=0, item=0)


def together(*parts: DocumentSequence) -> dict[str, list[int]]:
    """Tokens and columns of sequences laid one behind the other."""
    joint = {name: np.concatenate([p.columns[name] for p in parts]).tolist() for name in parts[0].columns}
    return {**joint, "token": np.concatenate([p.tokens for p in parts]).tolist()}


@pytest.mark.parametrize("inside", [False, True])
def test_items_that_continue_a_prompt_stand_as_if_laid_out_whole(inside: bool) -> None:
    lay = layout(Letters(), Blob(inside=inside, extra={"frame": Column.ID}))
    items = document("ab", [1.0, 2.0], "c", [1.0, 2.0, 3.0]).items
    whole, whole_pen = lay.prompt(Document(items))
    for given in range(len(items)):
        parts, cursor = [], None
        head, cursor = lay.prompt(Document(items[:given]))
        parts.append(head)
        for item in items[given:]:
            clean = Item(item.modality, item.data, noised=False)
            payload = lay.modalities[item.modality].encode(item.data)
            part, cursor = lay.continuation(Document(()), clean, payload, cursor)
            parts.append(part)
        assert together(*parts) == together(whole)
        assert cursor == whole_pen


def test_text_that_continues_a_prompt_token_by_token_stands_as_if_laid_out_whole() -> None:
    lay = layout()
    whole, _ = lay.prompt(document([1.0, 2.0], "abc"))
    head, cursor = lay.prompt(document([1.0, 2.0]))
    parts = [head]
    for id in range(3):
        part, cursor = lay.continuation(
            Document(()),
            Item("letters", None),
            np.array([id]),
            DocumentCursor(cursor.pos, cursor.group, item=1),
        )
        parts.append(part)
    assert together(*parts) == together(whole)


def test_a_part_keeps_the_spans_that_lie_wholly_inside() -> None:
    whole = layout().sequence(document("ab", [1.0, 2.0], [1.0, 2.0, 3.0]))
    part = whole.slice(3, 8)
    assert len(part) == 5
    assert [p.start for p in part.spans] == [1]
    assert part.columns["pos"].tolist() == [3, 4, 5, 6, 7]


def test_without_loss_takes_the_targets_of_one_modality_away() -> None:
    lay = layout(Letters(), Letters("other", codes=3, predicts_markers=False))
    sequence = lay.sequence(document("a", Item("other", np.array([2, 0]))))
    rest = sequence.without_loss(0)
    assert rest.scored.tolist() == [-1, 1, 1, -1, -1]
    assert rest.targets.tolist() == [-1, *sequence.targets[1:3].tolist(), -1, -1]
