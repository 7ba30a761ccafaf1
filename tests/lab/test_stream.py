"""Each document keeps its own data; a dropped visit shows one of the recipe's guidance views, each as often."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from transfuse.documents import Document, Item, View
from transfuse.errors import TransfuseError
from transfuse.modalities.modality import Modality
from transfuse.randomness import Key
from transfuse.training import stream as stream_file
from transfuse.training.stream import Stream

TEXT, IMAGE = View(frozenset({"text"})), View(frozenset({"image"}))
VIEWS = "image.guidance.views=[{drop: [text], scale: 4}, {drop: [image], scale: 2}, {scale: 1.5}]"


def with_a_first_image(document: Document) -> Document:
    """An image before the caption, which guidance may drop as well."""
    image = replace(document.items[-1], droppable=True, noised=False)
    return replace(document, items=(image, *document.items))


@pytest.fixture
def stream(small_recipe: Callable, fitted: Callable, shapes: Callable) -> Callable[..., Stream]:
    def make(*overrides: str, drop: float = 0.9) -> Stream:
        data = shapes(reversed_share=0.0, change=with_a_first_image)
        return Stream(data, fitted(small_recipe("transfusion", *overrides), data).layout, Key(0), drop)

    return make


def roles(document: Document) -> tuple[str, ...]:
    return tuple(item.modality for item in document.items)


def test_each_view_is_shown_as_often_and_a_visit_shows_the_same_again(stream: Callable) -> None:
    one, two = stream(VIEWS), stream(VIEWS)
    assert one.views == (TEXT, IMAGE, View())
    count, shown = 600, []
    for place in range(count):
        document, _, dropped = one.document(place)
        assert roles(two.document(place)[0]) == roles(document)
        if dropped:
            whole = one.data.document("train", document.id)
            assert roles(document) in [roles(whole.seen(view)) for view in one.views]
        shown.append(roles(document) if dropped else None)
    shares = {kind: shown.count(kind) / count for kind in set(shown)}
    expected = {None: 0.1, ("image", "image"): 0.3, ("text", "image"): 0.3, ("image",): 0.3}
    assert shares.keys() == expected.keys()
    for kind, share in expected.items():
        assert shares[kind] == pytest.approx(share, abs=4.5 * np.sqrt(share * (1 - share) / count))


@pytest.mark.parametrize("guidance", ["image.guidance.scale=1", "image.guidance.scale=3"])
def test_without_views_of_its_own_a_dropped_visit_shows_nothing_droppable(
    stream: Callable, guidance: str
) -> None:
    made = stream(guidance)
    assert made.views == (View(),)
    kinds = {roles(made.document(place)[0]) for place in range(100)}
    assert kinds == {("image",), ("image", "text", "image")}


def test_text_and_markers_carry_no_loss_in_a_dropped_visit(stream: Callable) -> None:
    made = stream(VIEWS)
    text = made.layout.names.index("text")
    for place in range(60):
        _, _, dropped = made.document(place)
        sequence = made.sequence(place)
        assert (text in sequence.scored) != dropped
        assert any(span.span.loss for span in sequence.spans)


def test_a_view_that_drops_nothing_of_a_document_leaves_the_visit_as_it_is(stream: Callable) -> None:
    made = stream("image.guidance.views=[{drop: [image], scale: 2}]", drop=0.99)
    plain = Document((Item("text", "up", droppable=True), Item("image", np.zeros((1, 8, 8), np.float32))))
    made.data.change = lambda document: replace(plain, id=document.id)  # type: ignore[attr-defined]
    assert not any(made.document(place)[2] for place in range(40))


def test_a_role_that_the_recipe_has_not_is_refused_before_training(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    recipe = small_recipe("transfusion", "image.guidance.views=[{drop: [txt], scale: 4}]")
    with pytest.raises(TransfuseError, match=r"modality 'image': .* drops 'txt'.* did you mean 'text'"):
        fitted(recipe, shapes())


def spelled(stream: Stream, place: int, text: Modality) -> list[str]:
    """The documents' texts, as the tokens of a place of the stream spell them."""
    sequence = stream.sequence(place)
    start = stream.layout.vocabulary.range("text").start
    items = sequence.columns["item"]
    ids = [
        (int(i), int(t) - start) for i, t in zip(items, sequence.tokens, strict=True) if t >= start and i >= 0
    ]
    return [
        text.decode(np.array([t for j, t in ids if j == i]))
        for i in sorted({i for i, _ in ids if sequence.columns["text"][items == i].all()})
    ]


def test_a_dropped_item_does_not_lend_its_payload_to_the_next(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    def three(document: Document) -> Document:
        return replace(document, items=(*document.items, Item("text", "after")))

    data = shapes(train=8, reversed_share=0.0, change=three)
    model = fitted(small_recipe("transfusion"), data)
    text = model.modalities["text"]
    stream = Stream(data, model.layout, Key(0), drop=0.5)
    told = [(stream.document(place)[2], spelled(stream, place, text)) for place in range(40)]
    assert {words[-1] for _, words in told} == {"after"}
    assert {len(words) for dropped, words in told if dropped} == {1}
    assert {len(words) for dropped, words in told if not dropped} == {2}


@pytest.mark.parametrize(("kept", "size"), [(3, 2**30), (10**6, 2500)])
def test_payloads_are_kept_up_to_a_number_and_a_size_and_are_the_same_when_made_again(
    stream: Callable, monkeypatch: pytest.MonkeyPatch, kept: int, size: int
) -> None:
    whole = [stream(drop=0.0).sequence(place) for place in range(30)]
    monkeypatch.setattr(stream_file, "KEPT", kept)
    monkeypatch.setattr(stream_file, "KEPT_BYTES", size)
    made = stream(drop=0.0)
    for place in range(30):
        sequence = made.sequence(place)
        for span, other in zip(sequence.spans, whole[place].spans, strict=True):
            np.testing.assert_array_equal(span.span.payload, other.span.payload)
        payloads = list(made._payloads.values())
        assert 1 <= len(payloads) <= kept
        assert sum(payload.nbytes for payload in payloads) <= size
    assert len(made._payloads) >= min(kept, 3)
