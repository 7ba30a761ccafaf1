"""What is decoded with the cache equals the training pass without it: text, spans, codes, guidance's view."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transfuse import masks
from transfuse.documents import Document, Item, View
from transfuse.generation.decoding import generate
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join
from transfuse.testing.modalities import Blob, document

from tests.tiny.models import CAUSAL, WORDS, Kit, bare, captioned
from tests.tiny.strange_modalities import Probe, Scripted

SETTINGS: Mapping[str, dict[str, Any]] = {
    "plain": {},
    "two layers, shared key-value heads": {"layers": 2, "heads": 4, "kv_heads": 2},
    "qk-norm and post-norm": {"layers": 2, "qk_norm": True, "post_norm": True},
    **{
        block: {"layers": 2, "block": block}
        for block in ("per-modality", "timed", "routed", "narrow", "axes")
    },
}
CLEAN = [0.3, -0.7, 0.1]
X_T, T = torch.tensor([[1.5, -2.0, 0.4]]), torch.tensor([0.6])


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def uncached(model: Model, whole: Document) -> tuple[list[int], Tensor]:
    """Tokens and logits at every position of a document, in one pass, its images clean."""
    row = join([model.layout.sequence(whole)])
    with torch.no_grad():
        hidden, _ = model(collate(row, model.modalities, Key(0), clean=True))
        return row.tokens.tolist(), model.logits(hidden)


def span_in_training(model: Model, whole: Document) -> Tensor:
    """The prediction for the document's last span at (X_T, T), in the pass that training runs."""
    batch = collate(join([model.layout.sequence(whole)]), model.modalities, Key(0), clean=True)
    (group,) = batch.groups
    x_t, t = group.x_t.clone(), group.t.clone()
    x_t[-1:], t[-1:] = X_T, T
    group = replace(group, x_t=x_t, t=t)
    with torch.no_grad():
        hidden, states = model(replace(batch, groups=(group,)))
        return model.predict(hidden, group, states[0])[-1:]


def made_of(kit: Kit, script: Scripted, blob: Blob, **settings: Any) -> Model:
    model = kit.model(modalities={"letters": script, "blob": blob}, **settings).eval()
    model.predictable[:] = True
    return model


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("attention", ["dense", "tiles"])
@pytest.mark.parametrize("inside", [False, True])
def test_text_after_text_and_after_a_finished_image(
    kit: Kit, name: str, attention: str, inside: bool
) -> None:
    script = Scripted([])
    model = made_of(kit, script, Blob(inside=inside), **SETTINGS[name])
    model.attention = attention
    begin, a = model.vocabulary.marker("<blob 3>"), model.vocabulary.range("letters").start
    whole = document([0.5, 0.6], "abb", CLEAN, "ca")
    tokens, logits = uncached(model, whole)
    script.script = [a + 1, a + 1, begin, a + 2, a, model.vocabulary.marker("</document>")]
    model.modalities["blob"].sample = Probe(X_T, T, torch.tensor([CLEAN]))  # type: ignore[assignment]
    (made,) = generate(model, [document([0.5, 0.6], "a")])
    assert [item.data for item in made.items[2:]] == ["bb", pytest.approx(CLEAN), "ca"]
    n = len(tokens)
    assert n == 16
    for heard, position in zip(script.heard, (5, 6, 7, n - 4, n - 3, n - 2), strict=True):
        allowed = heard.isfinite()
        assert int(allowed.sum()) == model.vocabulary.size - 2  # all but <document> and </blob>
        close(heard[allowed], logits[position][allowed])


def test_masks_may_read_items_which_decoding_counts_as_training_does(kit: Kit) -> None:
    near = masks.parse("same(doc) & (le(idx) | same(span)) & delta(item, lo=-1, hi=1)")
    script = Scripted([])
    model = made_of(kit, script, Blob(), mask=near)
    begin, a = model.vocabulary.marker("<blob 3>"), model.vocabulary.range("letters").start
    _, logits = uncached(model, document([0.5, 0.6], "bb", CLEAN, "ca"))
    script.script = [a + 1, a + 1, begin, a + 2, a, model.vocabulary.marker("</document>")]
    model.modalities["blob"].sample = Probe(X_T, T, torch.tensor([CLEAN]))  # type: ignore[assignment]
    generate(model, [document([0.5, 0.6])])
    for heard, position in zip(script.heard, (4, 5, 6, 11, 12, 13), strict=True):
        close(heard[heard.isfinite()], logits[position][heard.isfinite()])


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("inside", [False, True])
def test_a_span_in_its_context_and_in_guidances_view(kit: Kit, name: str, inside: bool) -> None:
    blob = Blob(inside=inside)
    blob.views = (View(),)
    model = made_of(kit, Scripted([]), blob, **SETTINGS[name])
    prompt = document([0.5, 0.6, 0.7], Item("letters", "abc", droppable=True))
    probe = Probe(X_T, T, torch.tensor([CLEAN]))
    model.modalities["blob"].sample = probe  # type: ignore[assignment]
    model.predictable[model.vocabulary.marker("<blob 2>")] = False
    generate(model, [prompt], want="blob")
    whole = replace(prompt, items=(*prompt.items, Item("blob", CLEAN)))
    full, bare = probe.seen[0]
    close(full, span_in_training(model, whole))
    close(bare, span_in_training(model, whole.seen(View())))
    assert not torch.allclose(full, bare, atol=1e-4)


def test_an_image_after_an_image_sees_the_finished_one_in_both_views(kit: Kit) -> None:
    script, blob = Scripted([]), Blob(sizes=(3,))
    blob.views = (View(),)
    model = made_of(kit, script, blob)
    begin, end = model.vocabulary.marker("<blob 3>"), model.vocabulary.marker("</document>")
    script.script = [begin, begin, end]
    probe = Probe(X_T, T, torch.tensor([CLEAN]))
    model.modalities["blob"].sample = probe  # type: ignore[assignment]
    prompt = document(Item("letters", "ab", droppable=True))
    generate(model, [prompt])
    whole = replace(prompt, items=(*prompt.items, Item("blob", CLEAN), Item("blob", CLEAN)))
    for view, given in zip(probe.seen[1], (whole, whole.seen(View())), strict=True):
        close(view, span_in_training(model, given))


def test_text_the_model_said_itself_is_a_prompt_that_guidance_drops(kit: Kit) -> None:
    script, blob = Scripted([]), Blob(sizes=(3,))
    blob.views = (View(),)
    model = made_of(kit, script, blob)
    v = model.vocabulary
    script.script = [v.range("letters").start + 2, v.marker("<blob 3>"), v.marker("</document>")]
    probe = Probe(X_T, T, torch.tensor([CLEAN]))
    model.modalities["blob"].sample = probe  # type: ignore[assignment]
    generate(model, [document(CLEAN, "a")])
    full, bare = probe.seen[0]
    close(full, span_in_training(model, document(CLEAN, "a", "c", CLEAN)))
    close(bare, span_in_training(model, document(CLEAN, "a", CLEAN)))


def test_codes_in_their_context_and_in_guidances_view(kit: Kit) -> None:
    model = kit.model("text", "image_vq", mask=CAUSAL).eval()
    model.predictable[:] = True
    heard: list[Tensor] = []

    def choose(logits: Tensor, generator: torch.Generator, left: float) -> int:
        heard.append(logits.clone())
        return r.start + len(heard)

    r = model.vocabulary.range("image_vq")
    model.modalities["image_vq"].choose = choose  # type: ignore[assignment]
    prompt = Document((Item("text", WORDS[0], droppable=True),))
    (made,) = generate(model, [prompt], want="image_vq")
    assert made.items[1].data.shape == (1, 4, 4)
    for view, given in enumerate((prompt, prompt.seen(View()))):
        writing, cursor = model.layout.prompt(given)
        codes = np.array([[1, 2], [3, 4]])
        item, _ = model.layout.continuation(given, Item("image_vq", None), codes, cursor)
        expected = causal_logits(model, [*writing.tokens, *item.tokens])
        for i in range(4):
            mine = heard[i][view]
            assert mine.isfinite().nonzero().flatten().tolist() == list(range(r.start, r.stop))
            close(mine[r.start : r.stop], expected[len(writing) + i][r.start : r.stop])


def causal_logits(model: Model, tokens: list[int]) -> Tensor:
    """Logits of plain tokens under a causal mask, in one pass."""
    columns = {"doc": np.zeros(len(tokens), np.int64), "idx": np.arange(len(tokens))}
    with torch.no_grad():
        x = model.tokens(torch.tensor(tokens))
        prepared = model.backbone.prepare(bare(torch.arange(len(tokens))[:, None]))
        return model.logits(model.backbone(x, prepared, torch.zeros(0), model.attend(columns)))


# -- documents together and apart


def test_documents_decoded_together_are_as_when_decoded_alone(kit: Kit) -> None:
    model = kit.model("text", "image", "image_vq", layers=2).eval()
    model.predictable[:] = True
    prompts = [
        Document(()), Document((Item("text", WORDS[1], droppable=True),)), captioned(2), captioned(3, side=8),
        captioned(4, first="image"),
    ]  # fmt: skip
    together = generate(model, prompts, tokens=6, items=3, seed=5)
    assert {item.modality for d in together for item in d.items} > {"text", "image"}
    for i, prompt in enumerate(prompts):
        (alone,) = generate(model, [prompt], tokens=6, items=3, seed=5, indices=[i])
        assert len(alone.items) == len(together[i].items)
        for a, b in zip(alone.items, together[i].items, strict=True):
            assert a.modality == b.modality
            if a.modality == "text":
                assert a.data == b.data
            else:
                torch.testing.assert_close(a.data, b.data, rtol=0, atol=1e-4)


def test_greedy_text_after_an_image_is_fixed_by_the_image(kit: Kit) -> None:
    model = kit.model(layers=2).eval()
    question = Document(captioned(5, first="image").items[:1])
    answers = {
        generate(model, prompts, want="text", seed=seed, tokens=8)[at].items[-1].data
        for seed, prompts, at in [
            (0, [question], 0),
            (7, [question], 0),
            (0, [captioned(1), question], 1),
            (3, [question, Document(()), captioned(2, side=8)], 0),
        ]
    }
    assert len(answers) == 1


def test_a_seed_and_an_index_fix_what_is_drawn(kit: Kit) -> None:
    model = kit.model().eval()
    model.predictable[:] = True

    def image(seed: int, index: int) -> list[float]:
        (made,) = generate(model, [Document(())], want="image", seed=seed, indices=[index])
        return made.items[0].data.ravel().tolist()

    assert image(0, 0) == image(0, 0)
    assert image(0, 0) != image(1, 0)
    assert image(0, 0) != image(0, 1)
