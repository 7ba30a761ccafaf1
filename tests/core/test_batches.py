"""The law of batches: what is made of a prompt does not depend on what it is continued with, nor on chunks."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transfuse.documents import Document, Item, View
from transfuse.errors import TransfuseError
from transfuse.generation import GenerationConfig, generate, generate_chunks
from transfuse.generation.incremental import IncrementalModel
from transfuse.generation.prompts import LaidPrompt, pack_prompts
from transfuse.masks import parse
from transfuse.modalities import seam
from transfuse.modalities.modality import TokenModality
from transfuse.model.model import Model
from transfuse.testing.modalities import Blob, Letters, document

from tests.tiny.models import CAUSAL, WORDS, Kit, draw_blindly, picture
from tests.tiny.strange_modalities import MaskedIds, Skip, Twins

CLOSE = 1e-4
"""Kernels add up in another order for another number of rows."""


@lru_cache
def kit_of_all() -> Kit:
    return Kit()


@lru_cache
def models() -> dict[str, Model]:
    """Built-in modalities of every kind, guided, and strangers with samplers of their own."""
    kit = kit_of_all()
    two = {"views": [{"drop": ["text"], "scale": 4}, {"drop": ["text", "image"], "scale": 1.5}]}
    image = kit.modality("image", guidance=two, sampler={"name": "ddim", "evaluations": 3, "eta": 1})
    masked = kit.modality("image_masked", guidance={"scale": 2}, sampler={"evaluations": 3})
    codes = kit.modality("image_vq", temperature=0.7, guidance={"scale": 2, "interval": [0.3, 1]})
    blob = Blob()
    blob.views = (View(frozenset({"letters"})),)
    made = {
        "diffused": kit.model(modalities={"text": kit.modality("text"), "image": image}, layers=2),
        "masked": kit.model(modalities={"text": kit.modality("text"), "image": masked}),
        "codes": kit.model(modalities={"text": kit.modality("text"), "image": codes}, mask=CAUSAL, kv_heads=1),
        "three roles": kit.model("text", "image", "image_vq", block="per-modality"),
        "strangers": kit.model(
            modalities={"letters": Letters(), "blob": blob, "twins": Twins("twins"), "ids": MaskedIds("ids"),
                        "skip": Skip("skip")}
        ),
    }  # fmt: skip
    patch = pytest.MonkeyPatch()
    for model in made.values():
        model.eval()
        model.predictable[:] = True
        draw_blindly(model, patch)  # of text and codes what is drawn rests on the sample's own generator
    return made


@st.composite
def prompts(draw: st.DrawFn, roles: dict[str, st.SearchStrategy], most: int = 3) -> Document:
    """Items of any roles in any order, some of them droppable, texts of various lengths; or none."""
    names = draw(st.lists(st.sampled_from(sorted(roles)), max_size=most))
    return Document(tuple(Item(name, draw(roles[name]), droppable=draw(st.booleans())) for name in names))


TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
GREY = st.integers(0, 5).map(picture)
ROLES: dict[str, dict[str, st.SearchStrategy]] = {
    "diffused": {"text": TEXTS, "image": GREY | st.integers(0, 5).map(lambda i: picture(i, 8))},
    "masked": {"text": TEXTS, "image": GREY},
    "codes": {"text": TEXTS, "image": GREY},
    "three roles": {"text": TEXTS, "image": GREY, "image_vq": GREY},
    "strangers": {
        "letters": st.text("abcdefgh", min_size=1, max_size=9), "blob": st.sampled_from([[0.5, 0.1], [0.3, 1.0, -1.0]]),
        "twins": st.sampled_from([[0.5, 0.1], [0.3, 1.0, -1.0]]), "ids": st.sampled_from([[1, 2], [0, 4, 3]]),
    },
}  # fmt: skip


def alike(one: Document, two: Document) -> None:
    assert [item.modality for item in one.items] == [item.modality for item in two.items]
    for a, b in zip(one.items, two.items, strict=True):
        if isinstance(a.data, str):
            assert a.data == b.data
        else:
            np.testing.assert_allclose(a.data, b.data, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("name", ROLES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_sample_is_its_prompts_whatever_that_is_continued_with(name: str, data: st.DataObject) -> None:
    """One by one, together, and in chunks of a drawn budget, some prompts standing there twice."""
    model = models()[name]
    asked = data.draw(st.lists(prompts(ROLES[name]), min_size=2, max_size=5))
    asked += data.draw(st.lists(st.sampled_from(asked), max_size=2))
    want = data.draw(st.sampled_from([None, *model.modalities]))
    config = GenerationConfig(want=want, tokens=5, items=3, seed=data.draw(st.integers(0, 99)))
    together = generate(model, asked, config)
    parts = generate(model, asked, config, budget=data.draw(st.integers(1, 600)))
    for i, (prompt, one, two) in enumerate(zip(asked, together, parts, strict=True)):
        (alone,) = generate(model, [prompt], config, indices=[i])
        alike(one, alone)
        alike(two, alone)


# -- what is computed


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many positions go through the model, call by call."""
    seen: list[int] = []
    run = Model.transform
    monkeypatch.setattr(
        Model, "transform", lambda self, batch, *rest: (seen.append(len(batch)), run(self, batch, *rest))[1]
    )
    return seen


def test_what_views_share_and_what_is_asked_twice_is_computed_once(kit: Kit, computed: list[int]) -> None:
    blob = Blob(sizes=(3,))
    blob.views = (View(), View(frozenset({"letters"})))
    model = kit.model(modalities={"letters": Letters(), "blob": blob}).eval()
    model.predictable[:] = True
    dropped = Item("letters", "abcd", droppable=True)
    shared, other = document([0.5, 0.6, 0.7], "ab", dropped, "c"), document("h")
    generate(model, [shared, other, shared, shared], want="blob")
    # <document>, an image with its markers and two letters; then by view four or no letters, and one more.
    assert computed[0] == (1 + 5 + 2) + (5 + 1 + 1) + 2
    assert computed[1] == 4 * 3  # a begin marker a view
    assert (
        computed[2:-1] == [4 * 3 * 3] * 2 or computed[2:-1] == [4 * 3] * 2
    )  # views that the sampler asks for


def test_a_mask_under_which_the_beginning_sees_what_follows_shares_nothing(
    kit: Kit, computed: list[int]
) -> None:
    """Prefix language models: a prompt is seen both ways."""
    blob = Blob(sizes=(3,))
    blob.views = (View(),)
    model = kit.model(
        modalities={"letters": Letters(), "blob": blob}, mask=parse("same(doc) & (le(idx) | k.letters)")
    )
    model.predictable[:] = True
    laid = LaidPrompt.of(
        document("a", Item("letters", "b", droppable=True)), model.layout, (View(frozenset()), View())
    )
    assert laid.shared() == 2
    packed = pack_prompts([laid], model.mask)
    assert len(packed.row) == 3 + 2
    assert len(pack_prompts([laid], CAUSAL).row) == 3


def test_views_that_begin_with_different_data_of_one_shape_share_the_marker_before_them(kit: Kit) -> None:
    """An image is dropped, and another that looks alike stands where it stood."""
    views = (View(frozenset()), View())
    model = kit.model()
    for second, shared in ((2, 2), (1, 1 + 4 + 2)):
        asked = Document((shown(1, droppable=True), shown(second, droppable=False)))
        assert LaidPrompt.of(asked, model.layout, views).shared() == shared


def shown(i: int, droppable: bool) -> Item:
    return Item("image", picture(i), noised=False, droppable=droppable)


@pytest.mark.parametrize("droppable", [False, True])
def test_the_packed_prompts_leave_what_each_view_alone_would(kit: Kit, droppable: bool) -> None:
    """Logits and keys of three views, shared and not, as when every view is a document of its own."""
    model = kit.model(layers=2).eval()
    views = (View(frozenset()), View(), View(frozenset({"text"})))
    asked = [
        Document((Item("text", "a cat"), shown(i, droppable), Item("text", WORDS[i], droppable=True)))
        for i in range(2)
    ]  # fmt: skip
    laid = [LaidPrompt.of(one, model.layout, views) for one in asked]
    with torch.no_grad():
        together = IncrementalModel(model, 2, 40, views=3)
        logits = together.prefill(pack_prompts(laid, model.mask))
        for d, prompt in enumerate(laid):
            for v, sequence in enumerate(prompt.sequences):
                alone = IncrementalModel(model, 1, 40)
                last = alone.append([0], [sequence])[0]
                row, n = v * 2 + d, len(sequence)
                assert together.cache.length[row] == alone.cache.length[0] == n
                mine, own = together.cache._store[:, :, row, :n], alone.cache._store[:, :, 0, :n]
                torch.testing.assert_close(mine, own, rtol=0, atol=1e-5)
                if v == 0:
                    torch.testing.assert_close(logits[d], last, rtol=0, atol=1e-5)


def test_finished_documents_leave_the_batch(
    kit: Kit, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = kit.model("text", layers=1).eval()
    end, words = model.vocabulary.marker("</document>"), model.vocabulary.range("text").start
    said_by = (3, 1, 5, 2)

    def choose_each(logits: torch.Tensor, keys: list[tuple[int, ...]], left: float) -> torch.Tensor:
        assert len(logits) == len(keys)
        return torch.tensor([end if said == said_by[i] else words + i for i, _, said in keys])

    monkeypatch.setattr("transfuse.randomness.Key.generator", lambda self, stream, *place: place)
    monkeypatch.setattr(model.modalities["text"], "choose_each", choose_each)
    made = generate(model, [Document(())] * 4, tokens=9)
    assert computed == [1, 4, 3, 2, 1, 1]
    said = [model.modalities["text"].encode(one.items[0].data).tolist() for one in made]
    assert said == [[i] * said_by[i] for i in range(4)]


@given(seed=st.integers(0, 99), many=st.integers(1, 4), left=st.floats(0, 1))
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_ids_chosen_together_are_those_chosen_one_by_one(
    temperature: float, seed: int, many: int, left: float
) -> None:
    codes = {"temperature": temperature, "top_p": 0.9, "guidance": {"scale": 2, "interval": [0.3, 1]}}
    for name, section in (("text", {"temperature": temperature}), ("image_vq", codes)):
        modality = kit_of_all().modality(name, **section)
        assert isinstance(modality, TokenModality)
        views = 1 + len(modality.views)
        logits = torch.randn(many, views, 20, generator=torch.Generator().manual_seed(seed))
        logits[:, :, 5:9] = -torch.inf

        def keys() -> list[torch.Generator]:
            return [torch.Generator().manual_seed(seed + i) for i in range(many)]

        together = seam.choose_each(modality, logits, keys(), left)
        alone = [seam.choose(modality, own, key, left) for own, key in zip(logits, keys(), strict=True)]
        assert together.tolist() == alone


def test_a_class_that_says_choose_alone_is_asked_one_by_one(kit: Kit) -> None:
    class Third(type(kit.modality("text"))):
        def choose(self, logits: torch.Tensor, generator: torch.Generator, left: float) -> int:
            return 3

    third = kit.modality("text")
    third.__class__ = Third
    assert isinstance(third, TokenModality)
    assert seam.choose_each(third, torch.zeros(2, 1, 9), [torch.Generator()] * 2, 1.0).tolist() == [3, 3]


def test_chunks_are_as_large_as_the_budget_allows_and_come_as_they_are_done(
    kit: Kit, computed: list[int]
) -> None:
    model = kit.model("text", layers=1).eval()
    asked = [Document(())] * 7  # a position each, and two tokens: three to a document
    made = generate_chunks(model, asked, tokens=2, budget=9, greedy=True)
    next(made)
    assert len(computed) == 3
    assert len(list(made)) == 6
    generate(model, asked[:1], tokens=2, budget=1)  # one at least
    for wrong in ({"budget": 0}, {"dtype": "float16"}):
        with pytest.raises(TransfuseError, match=next(iter(wrong))):
            generate(model, asked, **wrong)  # type: ignore[arg-type]


def test_in_bfloat16_weights_come_back_and_samples_stay_near(kit: Kit) -> None:
    model = kit.model(layers=2).eval()
    model.predictable[model.vocabulary.marker("<image 4x4>")] = True
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    asked = [Document((Item("text", word, droppable=True),)) for word in WORDS]
    one, two = (generate(model, asked, want="image", dtype=dtype) for dtype in ("float32", "bfloat16"))
    apart = np.abs(np.stack([a.items[-1].data - b.items[-1].data for a, b in zip(one, two, strict=True)]))
    assert 0 < apart.mean() < 0.1
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
