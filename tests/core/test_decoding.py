"""Decoding's manners: limits, what is asked for, prompts with nothing, and errors that name the prompt's place."""

import numpy as np
import pytest
import torch
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.generation import GenerationConfig, generate
from transfuse.model.model import Model
from transfuse.testing.modalities import Blob, Letters, document

from tests.tiny.models import Kit, captioned
from tests.tiny.strange_modalities import Scripted

DOCUMENT, END, A, BEGIN = 0, 1, 2, 10  # ids: two marks, eight letters, then <blob 2>, <blob 3>, </blob>


def model_of(kit: Kit, script: list[int], blob: Blob | None = None) -> Model:
    model = kit.model(modalities={"letters": Scripted(script), "blob": blob or Blob()})
    model.predictable[:] = True
    return model


def shape(made: Document) -> list[object]:
    """Texts as they are, blobs as their length."""
    return [item.data if item.modality == "letters" else len(item.data) for item in made.items]


def test_a_document_goes_on_until_the_model_ends_it(kit: Kit) -> None:
    model = model_of(kit, [A, A + 1, BEGIN, A + 2, BEGIN + 1, END])
    (made,) = generate(model, [document("a")])
    assert shape(made) == ["a", "ab", 2, "c", 3]
    assert [item.droppable for item in made.items] == [False, True, False, True, False]


def test_tokens_limit_all_the_text_of_a_document(kit: Kit) -> None:
    greedy = [A] * 3 + [BEGIN] + [A] * 2
    model = model_of(kit, [*greedy, END])
    (made,) = generate(model, [Document(())], tokens=5)
    assert shape(made) == ["aaa", 2, "aa"]
    said = model.modalities["letters"]
    assert isinstance(said, Scripted)
    assert not said.heard[-1][A : A + 8].isfinite().any()  # after five letters only markers are left
    assert said.heard[-1][END].isfinite()


def test_items_limit_what_is_made_text_included(kit: Kit) -> None:
    model = model_of(kit, [A, BEGIN, END])
    (made,) = generate(model, [document("b", [1.0, 2.0])], items=2)
    assert shape(made) == ["b", 2, "a", 2]
    model = model_of(kit, [A, A, END])
    (made,) = generate(model, [Document(())], items=1)
    assert shape(made) == ["aa"]
    letters = model.modalities["letters"]
    assert isinstance(letters, Scripted)
    assert letters.heard[0][BEGIN].isfinite()
    assert not letters.heard[1][BEGIN].isfinite()  # the text is the one item


def test_the_longest_document_that_the_limits_allow_fits_the_cache(kit: Kit) -> None:
    model = model_of(kit, [A, BEGIN + 1, A, BEGIN + 1])
    (made,) = generate(model, [Document(())], tokens=2, items=4)
    assert shape(made) == ["a", 3, "a", 3]


def test_nothing_but_text_markers_and_the_end_can_be_said(kit: Kit) -> None:
    model = model_of(kit, [END])
    generate(model, [Document(())])
    letters = model.modalities["letters"]
    assert isinstance(letters, Scripted)
    assert letters.heard[0].isfinite().nonzero().flatten().tolist() == [
        END,
        *range(A, A + 8),
        BEGIN,
        BEGIN + 1,
    ]


# -- want


def test_wanting_text_gives_one_text_of_at_least_a_token(kit: Kit) -> None:
    model = model_of(kit, [A, A + 1, END])
    (made,) = generate(model, [document([1.0, 2.0])], want="letters")
    assert shape(made) == [2, "ab"]
    letters = model.modalities["letters"]
    assert isinstance(letters, Scripted)
    assert not letters.heard[0][[END, BEGIN, BEGIN + 1]].isfinite().any()
    assert letters.heard[1][END].isfinite()


def test_wanting_an_image_gives_one_and_ends(kit: Kit) -> None:
    model = model_of(kit, [])
    model.predictable[BEGIN] = False  # only <blob 3> was trained
    for prompt in (Document(()), document("ab"), document([1.0, 2.0])):
        (made,) = generate(model, [prompt], want="blob")
        assert shape(made) == [*shape(prompt), 3]
        assert not made.items[-1].noised


def test_a_model_in_which_nothing_leads_makes_what_is_wanted(kit: Kit) -> None:
    model = kit.model(modalities={"blob": Blob(sizes=(3,))})
    (made,) = generate(model, [Document(())], want="blob")
    assert shape(made) == [3]
    with pytest.raises(
        TransfuseError, match=r"no modality of this model predicts what comes next.*want= blob"
    ):
        generate(model, [Document(())])
    two = kit.model(modalities={"blob": Blob()})
    with pytest.raises(
        TransfuseError, match=r"predicts which of its shapes 'blob' has \(2, 3\): say it, label= or"
    ):
        generate(two, [Document(())], want="blob")
    for label in ("2", "3"):
        (made,) = generate(two, [Document(())], want="blob", label=label)
        assert shape(made) == [int(label)]


def test_a_shape_that_is_asked_for_is_made_whatever_the_model_would_choose(kit: Kit) -> None:
    model = model_of(kit, [])
    for label in ("2", "3"):
        (made,) = generate(model, [document("ab")], want="blob", label=label)
        assert shape(made) == ["ab", int(label)]
    with pytest.raises(TransfuseError, match="modality 'blob' has no shape '4'; known: 2, 3"):
        generate(model, [document("ab")], want="blob", label="4")
    with pytest.raises(TransfuseError, match="modality 'letters' has no shape '2'; none is known"):
        generate(model, [document("ab")], want="letters", label="2")
    with pytest.raises(TransfuseError, match="label '2' is of an item of one modality: say which, want="):
        generate(model, [document("ab")], label="2")


def test_wanting_what_has_no_begin_marker_or_was_never_trained_is_an_error(kit: Kit) -> None:
    mute = Letters("other", codes=3, predicts_markers=False)
    with pytest.raises(TransfuseError, match="modality 'other' has no begin marker"):
        generate(kit.model(modalities={"letters": Letters(), "other": mute}), [document("a")], want="other")
    with pytest.raises(TransfuseError, match="never trained to begin 'image'"):
        generate(kit.model(), [Document(())], want="image")
    with pytest.raises(TransfuseError, match="no modality 'imgae'; did you mean 'image'"):
        generate(kit.model(), [Document(())], want="imgae")


def test_a_configuration_or_its_fields_say_the_same(kit: Kit) -> None:
    def made(*config: GenerationConfig, **fields: int) -> list[object]:
        model = model_of(kit, [A, BEGIN, A, BEGIN, END])
        return shape(generate(model, [Document(())], *config, **fields)[0])

    two = GenerationConfig(items=2)
    assert made(two) == made(items=2) == ["a", 2]
    assert made(two, items=4) == made(items=4) == ["a", 2, "a", 2]
    with pytest.raises(TypeError, match="wnat"):
        generate(kit.model(), [Document(())], wnat="image")


# -- errors


def test_there_must_be_a_prompt_and_room_for_an_answer(kit: Kit) -> None:
    with pytest.raises(TransfuseError, match="at least one prompt"):
        generate(kit.model(), [])
    for limits in ({"tokens": 0}, {"items": 0}):
        with pytest.raises(TransfuseError, match="at least 1"):
            generate(kit.model(), [Document(())], **limits)  # type: ignore[arg-type]


def test_a_bad_prompt_is_named_with_its_item(kit: Kit) -> None:
    bad = Document(
        (Item("text", "cat"), Item("image", np.full((1, 4, 4), np.nan, np.float32))), source="prompt 2"
    )
    with pytest.raises(TransfuseError, match=r"prompt 2: item 1 \(image\): .*NaN"):
        generate(kit.model(), [captioned(0), bad])


def test_decoding_leaves_the_model_as_it_was_and_the_global_state_alone(kit: Kit) -> None:
    model = kit.model().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.get_rng_state()
    generate(model, [captioned(0)], want="text", tokens=3)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)
