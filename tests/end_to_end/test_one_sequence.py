"""One layout in training and decoding, patches that differ by place, ids that never move."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from transfuse.documents import Document, Item, View
from transfuse.generation.decoding import generate
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join
from transfuse.sequences.vocabulary import begin_marker, vocabulary_for
from transfuse.training.stream import Stream
from transfuse.training.trainer import Trainer

from tests.tiny.models import draw_blindly
from tests.tiny.streams import watch


def trained(recipe, fitted: Callable, data) -> Model:
    trainer = Trainer(recipe, fitted(recipe, data), data)
    trainer.step()
    return trainer.model


@pytest.mark.parametrize("name", ["transfusion", "chameleon"])
def test_a_prompt_has_one_token_sequence(
    small_recipe: Callable,
    fitted: Callable,
    shapes: Callable,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = shapes()
    model = trained(small_recipe(name), fitted, data)
    draw_blindly(model, monkeypatch)
    document = data.document("train", 0)
    prompt = replace(document, items=document.items[:1])
    longer = Document((Item("text", "right right up", droppable=True),))
    seen = watch(monkeypatch)

    def written(view: int, row: int) -> tuple[list[int], list[int]]:
        return seen[view, row]["tokens"], seen[view, row]["pos"]

    single = generate(model, [prompt], want="image", indices=[5])[0]
    alone, unguided = written(0, 0), written(1, 0)
    seen.clear()
    batched = generate(model, [longer, prompt, longer], want="image", indices=[3, 5, 4])[1]
    assert (written(0, 1), written(1, 1)) == (alone, unguided)
    np.testing.assert_allclose(batched.items[-1].data, single.items[-1].data, atol=1e-4)

    # As training lays the same document out, up to the end of the document, which is predicted.
    payloads = model.layout.payloads(single)
    if name == "chameleon":  # what an autoencoder makes of the picture of some codes need not be those codes
        codes = np.array(alone[0][-17:-1]) - model.vocabulary.range("image").start
        payloads[1] = codes.reshape(payloads[1].shape)
    whole = model.layout.sequence(single, payloads)
    assert alone == (whole.tokens[:-1].tolist(), whole.columns["pos"][:-1].tolist())
    # The guidance branch is the document of a dropped visit, not one with a padding in place of the prompt.
    dropped = model.layout.sequence(single.seen(View()), payloads[1:])
    assert unguided == (dropped.tokens[:-1].tolist(), dropped.columns["pos"][:-1].tolist())


@pytest.mark.parametrize("name", ["transfusion", "chameleon"])
def test_training_reads_what_sampling_writes(
    small_recipe: Callable, fitted: Callable, shapes: Callable, name: str
) -> None:
    data = shapes(reversed_share=0.0)
    model = fitted(small_recipe(name), data)
    stream = Stream(data, model.layout, Key(0), drop=0.5)
    seen = set()
    for place in range(2 * data.size("train")):
        document, _, dropped = stream.document(place)
        plain = data.document("train", document.id)
        expected = model.layout.sequence(plain.seen(View()) if dropped else plain)
        np.testing.assert_array_equal(stream.sequence(place).tokens, expected.tokens)
        seen.add(dropped)
    assert seen == {True, False}


def test_patches_can_be_told_apart(small_recipe: Callable, fitted: Callable, shapes: Callable) -> None:
    """With the default settings the output is not permutation-equivariant over patches."""
    data = shapes()
    model = fitted(small_recipe(), data).eval()
    row = join([model.layout.sequence(data.document("train", 0))])
    batch = collate(row, model.modalities, Key(0), model.settings.rope)
    (group,) = batch.groups
    # Swap the first and the last patch of 2x2 pixels.
    swapped = group.x_t.clone()
    swapped[..., :2, :2], swapped[..., -2:, -2:] = group.x_t[..., -2:, -2:], group.x_t[..., :2, :2]

    def predict(x_t: torch.Tensor) -> torch.Tensor:
        own = replace(group, x_t=x_t)
        with torch.no_grad():
            hidden, states = model(replace(batch, groups=(own,)))
            return model.predict(hidden, own, states[0])

    one, two = predict(group.x_t), predict(swapped)
    back = two.clone()
    back[..., :2, :2], back[..., -2:, -2:] = two[..., -2:, -2:], two[..., :2, :2]
    assert float((back - one).abs().max()) > 1e-3 * float(one.abs().max())
    # And two equal patches at different places are predicted differently.
    flat = predict(torch.ones_like(group.x_t)).unfold(2, 2, 2).unfold(3, 2, 2).flatten(2, 3)[0, 0]
    assert float((flat[0] - flat[-1]).abs().max()) > 1e-4


def test_another_modality_renumbers_nothing(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    data = shapes()
    for name in ("transfusion", "chameleon"):
        model = fitted(small_recipe(name), data)
        parts = model.modalities
        before = vocabulary_for(parts)
        extra = {"twin": parts["image"], "speech": parts["text"]}
        after = vocabulary_for(parts | extra)
        assert after.ranges[: len(before.ranges)] == before.ranges
        assert after.size > before.size
        for r in before.ranges:
            assert after.range(r.name) == r
        assert after.marker(begin_marker("image", "4x4")) == before.marker(begin_marker("image", "4x4"))
        # A model grown by it reads and predicts a document of the old modalities as the same ids.
        grown = replace(model.layout, modalities=parts | extra, vocabulary=after)
        document = data.document("train", 0)
        one, two = model.layout.sequence(document), grown.sequence(document)
        np.testing.assert_array_equal(one.tokens, two.tokens)
        np.testing.assert_array_equal(one.targets, two.targets)
