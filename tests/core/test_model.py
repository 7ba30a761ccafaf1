"""The model over packed rows: documents do not touch each other, nothing idles, nothing leaks, FLOPs by hand."""

import types

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transfuse import masks
from transfuse.attention import Backend, Dense, Request
from transfuse.config.parts import Part, Settings
from transfuse.config.recipe import Recipe
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.masks import NONE
from transfuse.modalities.modality import Column
from transfuse.model.build import backends
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.registry.hooks import hookimpl
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.rows import Row, join
from transfuse.sequences.vocabulary import Vocabulary, vocabulary_for
from transfuse.testing.modalities import Blob, Letters, document
from transfuse.training.counts import flops, parameter_counts
from transfuse.training.mask_checks import check_leak
from transfuse_tiles.backend import Tiles

from tests.tiny.models import CAUSAL, SECTIONS, TRANSFUSION, WORDS, Kit, captioned, plugins

MIXED = [
    captioned(0), captioned(1, side=8), captioned(2, first="image"), captioned(3, image="image_vq"),
    Document((Item("text", WORDS[2]),), id=4), captioned(5, image="image_vq", first="image_vq"),
]  # fmt: skip


def batch_of(model: Model, documents: list[Document], filler: int = 0) -> tuple[Row, Batch]:
    sequences = [model.layout.sequence(d) for d in documents]
    row = join(sequences, length=sum(map(len, sequences)) + filler)
    return row, collate(row, model.modalities, Key(0), tuple(model.settings.rope))


def outputs(model: Model, documents: list[Document], filler: int = 0) -> dict[int, Tensor]:
    """The transformer's output for each document, by id."""
    row, batch = batch_of(model, documents, filler)
    with torch.no_grad():
        hidden, _ = model(batch)
    return {
        d.id: hidden[start:stop]
        for d, start, stop in zip(documents, row.bounds, row.bounds[1:], strict=False)
    }


@pytest.fixture(scope="module")
def model(kit: Kit) -> Model:
    return kit.model("text", "image", "image_vq", layers=2, heads=4, kv_heads=2)


def test_a_documents_outputs_are_the_same_alone_and_in_a_row(model: Model) -> None:
    together = outputs(model, MIXED, filler=9)
    for one in MIXED:
        torch.testing.assert_close(outputs(model, [one])[one.id], together[one.id], rtol=0, atol=1e-5)


def test_permuting_the_documents_of_a_row_permutes_its_outputs(model: Model) -> None:
    together = outputs(model, MIXED)
    for order in ([5, 4, 3, 2, 1, 0], [2, 0, 5, 1, 4, 3]):
        permuted = outputs(model, [MIXED[i] for i in order])
        for id, expected in together.items():
            torch.testing.assert_close(permuted[id], expected, rtol=0, atol=1e-5)


def test_losses_of_a_row_are_the_sums_over_its_documents(model: Model) -> None:
    _, batch = batch_of(model, MIXED)
    whole = model.losses(batch)
    parts = [model.losses(batch_of(model, [one])[1]) for one in MIXED]
    for name, loss in whole.items():
        mine = [part[name] for part in parts if name in part]
        assert loss.count == sum(part.count for part in mine)
        torch.testing.assert_close(loss.sum, sum(part.sum for part in mine), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("setting", [{}, {"qk_norm": True}, {"post_norm": True}])
def test_no_trained_weight_is_idle_and_no_frozen_one_moves(kit: Kit, setting: dict[str, bool]) -> None:
    model = kit.model("text", "image", "image_vq", **setting).train()
    _, batch = batch_of(model, MIXED)
    sum(loss.sum for loss in model.losses(batch).values()).backward()  # type: ignore[union-attr]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None
    counts = parameter_counts(model)
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())
    assert counts["frozen"] > 0  # the VQ codec
    assert counts["text"] == counts["image_vq"] == 0


def test_a_model_is_fixed_by_its_seed_and_draws_nothing_from_the_global_state(kit: Kit) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = kit.model(seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = kit.model(seed=3).state_dict(), kit.model(seed=4).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(
        first["backbone.blocks.0.attention.qkv.weight"], other["backbone.blocks.0.attention.qkv.weight"]
    )


def test_a_rotary_axis_that_no_modality_writes_is_an_error(kit: Kit) -> None:
    model = kit.model(rope=("pos", "frame"))
    with pytest.raises(TransfuseError, match=r"model.rope names column 'frame', which no modality"):
        batch_of(model, MIXED[:1])


def test_a_rotary_axis_may_be_a_column_of_a_plugin(kit: Kit) -> None:
    def hidden(rope: tuple[str, ...]) -> Tensor:
        model = kit.model(
            modalities={"letters": Letters(), "blob": Blob(extra={"frame": Column.FLAG})}, rope=rope
        )
        return outputs(model, [document("a", [1.0, 2.0], "b")])[0]

    assert not torch.allclose(hidden(("pos",)), hidden(("pos", "frame")), atol=1e-3)


# -- markers


def test_a_begin_marker_cannot_be_said_until_it_was_a_target(kit: Kit) -> None:
    model = kit.model().train()
    vocabulary = model.vocabulary
    seen, unseen = vocabulary.marker("<image 2x2>"), vocabulary.marker("<image 4x4>")
    hidden = torch.randn(3, 32)
    shut = [*range(vocabulary.range("image_markers").start, vocabulary.range("image_markers").stop)]
    assert (model.logits(hidden)[:, shut] == -torch.inf).all()
    assert model.logits(hidden)[:, : shut[0]].isfinite().all()
    _, batch = batch_of(model, [captioned(0, side=4)])
    model.eval().losses(batch)
    assert (model.logits(hidden)[:, seen] == -torch.inf).all()  # evaluation opens nothing
    model.train().losses(batch)
    assert model.logits(hidden)[:, seen].isfinite().all()
    assert (model.logits(hidden)[:, unseen] == -torch.inf).all()
    assert (model.logits(hidden)[:, vocabulary.marker("</image>")] == -torch.inf).all()


def test_extending_the_vocabulary_renumbers_nothing(kit: Kit) -> None:
    small = vocabulary_for(kit.modalities("text"))
    large = vocabulary_for(kit.modalities("text", "image", "image_vq"))
    assert large.ranges[: len(small.ranges)] == small.ranges
    assert [large.name(i) for i in range(small.size)] == [small.name(i) for i in range(small.size)]
    assert Vocabulary.from_dump(large.dump()) == large


def test_a_recorded_vocabulary_is_extended_at_its_end_wherever_the_recipe_puts_the_new_modality(
    kit: Kit,
) -> None:
    recorded = vocabulary_for(kit.modalities("text", "image_vq"))
    grown = vocabulary_for(kit.modalities("image", "text", "image_vq"), recorded)
    assert grown.ranges[: len(recorded.ranges)] == recorded.ranges
    assert grown.ranges[-1].name == "image_markers"
    assert vocabulary_for(kit.modalities("text", "image_vq"), recorded) == recorded
    with pytest.raises(TransfuseError, match=r"records 280 ids of 'text'.*now has 300"):
        vocabulary_for({"text": kit.modality("text", vocab=300)}, recorded)


def test_vocabulary_errors_help() -> None:
    vocabulary = (
        Vocabulary().extended("text", 3).extended("image_markers", labels=("<image 4x4>", "</image>"))
    )
    with pytest.raises(TransfuseError, match="no range 'txt'; did you mean 'text'"):
        vocabulary.range("txt")
    with pytest.raises(TransfuseError, match="no marker '<image 4x5>'; did you mean '<image 4x4>'"):
        vocabulary.marker("<image 4x5>")
    with pytest.raises(TransfuseError, match="id 7 is outside the vocabulary of 7"):
        vocabulary.name(7)
    with pytest.raises(TransfuseError, match="has a range 'text' already"):
        vocabulary.extended("text", 2)


# -- leaks


LEAKS = {
    "everything": "same(doc)",
    "codes that see each other": "same(doc) & (le(idx) | same(span))",
    "one step ahead": "same(doc) & delta(idx, lo=-1)",
    "a prefix": "same(doc) & (le(idx) | (q.text & k.text))",
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_mask_that_shows_a_target_is_refused(kit: Kit, name: str) -> None:
    row, _ = batch_of(kit.model("text", "image", "image_vq"), MIXED)
    with pytest.raises(TransfuseError, match=r"sees position .*, the token it is to predict"):
        check_leak(masks.parse(LEAKS[name]), row)


def test_the_leaks_own_document_is_named(kit: Kit) -> None:
    model = kit.model("text", "image", "image_vq")
    row, _ = batch_of(model, MIXED)
    begin = model.layout.sequence(MIXED[3]).tokens.tolist().index(model.vocabulary.marker("<image_vq 2x2>"))
    with pytest.raises(TransfuseError, match=f"pairs 3: position {begin + 1} sees position {begin + 2}"):
        check_leak(TRANSFUSION, row)


def test_a_target_that_is_seen_through_another_position_is_a_leak_too(kit: Kit) -> None:
    """Images see all the document, and later text sees them: with two layers each token sees the next."""
    row, _ = batch_of(kit.model("text", "image"), [captioned(2, first="image")])
    with pytest.raises(TransfuseError, match=r"pairs 2: position .* through position"):
        check_leak(masks.parse("same(doc) & (le(idx) | q.image)"), row)


def test_masks_without_a_leak_pass(kit: Kit) -> None:
    mixed, _ = batch_of(kit.model("text", "image", "image_vq"), MIXED, filler=3)
    check_leak(CAUSAL, mixed)
    plain, _ = batch_of(kit.model("text", "image"), [d for d in MIXED if d.id not in (3, 5)], filler=3)
    check_leak(TRANSFUSION, plain)


# -- FLOPs


def test_flops_of_a_tiny_model_by_hand(kit: Kit) -> None:
    model = kit.model(modalities={"letters": Letters(), "blob": Blob()}, dim=4, heads=2, layers=2, hidden=6)
    row = join([model.layout.sequence(document("a", [1.0, 2.0]))], length=20)
    # <document> a <blob 2> ~ ~ </blob> </document>: 7 positions, 3 targets, 13 filler
    block = 4 * 12 + 4 * 4 + 4 * 12 + 6 * 4  # q k v, out, SwiGLU up, down
    tokens = 2 + 8 + 3  # marks, letters, <blob 2>, <blob 3>, </blob>
    blob = 2 * (4 + 4) + (4 + 1)  # into, time and out, with biases
    pairs = 1 + 2 + 3 + 5 + 5 + 6 + 7  # causal, but the image's two positions see each other
    forward = 2 * 2 * block * 7 + 2 * 4 * tokens * 3 + 2 * blob * 2 + 4 * 4 * 2 * pairs
    assert flops(model, row) == 3 * forward
    assert np.isclose(flops(model, join([model.layout.sequence(document("a", [1.0, 2.0]))])), 3 * forward)


def test_an_image_modality_counts_its_own_work(kit: Kit) -> None:
    image = kit.model().span_modalities["image"]
    payload = torch.from_numpy(image.blank("2x2"))[None]
    with FlopCounterMode(display=False) as counted:
        hidden, state = image.embed(payload, torch.zeros(1))
        image.head(hidden, state, torch.zeros(1))
    assert image.flops(hidden.shape[1]) == counted.get_total_flops()


class Refusing(Dense):
    def supports(self, request: Request) -> list[str]:
        return ["no"] if request.queries != request.keys else []


@pytest.mark.parametrize("own", [Dense(), Refusing()])
def test_over_a_cache_the_models_own_backend_attends_or_the_best_that_can(kit: Kit, own: Backend) -> None:
    model = kit.model()
    model.attention, model.backends = "own", {"own": own, "tiles": Tiles()}
    three, five = (
        {"doc": np.zeros(n, np.int64), "idx": np.arange(n), "span": np.full(n, NONE)} for n in (3, 5)
    )
    assert model.plan(three)[0] is own
    assert (model.plan(three, five)[0] is own) == (type(own) is Dense)


def test_attention_backends_are_built_when_they_are_asked_for() -> None:
    asked: list[str] = []

    def build(settings: Settings) -> Backend:
        asked.append("slow")
        return Dense()

    slow = types.SimpleNamespace(
        transfuse_attention_backends=hookimpl(lambda: [Part("slow", Settings, build)])
    )
    section = {
        "name": "r", "modalities": {"text": SECTIONS["text"]}, "mask": str(CAUSAL), "loss": {"text": 1},
        "train": {"steps": 1},
    }  # fmt: skip
    both = Plugins([*plugins().loaded, *Plugins.of({"slow": slow}).loaded])
    for attention in ("auto", "slow"):
        name, offered = backends(Recipe.from_dump({**section, "attention": attention}, both), both)
        assert name == attention
        assert set(offered) == {"dense", "tiles", "slow"}
        assert not asked
        assert isinstance(offered["dense"], Dense)
    assert offered["slow"] is offered["slow"]
    assert asked == ["slow"]
