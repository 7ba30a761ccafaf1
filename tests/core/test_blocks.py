"""A block is a part: throw-away kinds do what papers change, and core has no line for any of them.

That decoding over a cache is what training computes, in context and in guidance's view, is tested for each
in test_cached_decoding.py; that a kind with more weights than Llama's starts from a language model, in
test_pretrained.py.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from transfuse.config.parts import Chosen, Part, Settings
from transfuse.config.recipe import ModelSettings, Recipe
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.masks import NONE
from transfuse.model.backbone import RowContext
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.rows import join
from transfuse.training.counts import flops
from transfuse.training.parameter_groups import factor_by_parameter, parameter_groups

from tests.tiny import models as tiny
from tests.tiny.models import SECTIONS, TRANSFUSION, Kit, captioned

KINDS = ("timed", "routed", "narrow", "axes")


def batch_of(model: Model, *documents: Document, length: int | None = None) -> Batch:
    row = join([model.layout.sequence(document) for document in documents], length=length)
    return collate(row, model.modalities, Key(0))


def hidden(model: Model, batch: Batch) -> Tensor:
    with torch.no_grad():
        return model(batch)[0]


def moved(before: Tensor, after: Tensor) -> list[int]:
    """The positions whose output is not the same bits."""
    return (before != after).any(dim=1).nonzero().flatten().tolist()


def at_time(batch: Batch, t: float) -> Batch:
    """The same spans, said to be at another time."""
    return replace(batch, groups=tuple(replace(g, t=torch.full_like(g.t, t)) for g in batch.groups))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_every_weight_that_is_trained(kit: Kit, kind: str) -> None:
    model = kit.model(block=kind, layers=2)
    losses = model.losses(
        batch_of(model, *(captioned(i, first=f) for i, f in enumerate(("text", "image") * 2)))
    )
    sum((loss.sum for loss in losses.values()), torch.zeros(())).backward()
    for name, parameter in model.backbone.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == parameter.requires_grad, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_is_the_same_beside_another_and_before_filler(kit: Kit, kind: str) -> None:
    model = kit.model(block=kind, layers=2)
    one, two = captioned(0), captioned(1, first="image")
    alone = hidden(model, batch_of(model, two))
    shared = hidden(model, batch_of(model, one, two, length=60))
    start = len(model.layout.sequence(one))
    torch.testing.assert_close(shared[start : start + len(alone)], alone, rtol=0, atol=1e-5)


def test_what_is_built_must_be_a_backbone(kit: Kit) -> None:
    part = Part("bare", Settings, lambda settings, model: torch.nn.Identity())
    with pytest.raises(TransfuseError, match="block 'bare' builds Identity, and here must be Backbone"):
        kit.model(block=Chosen("block", part, Settings()))


# -- what blocks are told of a row


def test_what_a_row_says_by_eye(kit: Kit) -> None:
    """Spans of two shapes in two documents, and filler; each position of a span has that span's value."""
    model = kit.model()
    batch = batch_of(model, captioned(0, first="image"), captioned(1, first="image", side=8), length=50)
    row = RowContext.of(batch, marker_modality=0)
    first, second = (group.index.flatten().tolist() for group in batch.groups)
    assert (len(first), len(second)) == (4, 16)
    assert {i: int(s) for i, s in enumerate(row.span) if s != NONE} == {
        **dict.fromkeys(first, 0),
        **dict.fromkeys(second, 1),
    }
    assert np.flatnonzero(row.modality).tolist() == [*first, *second]
    spread = row.by_span(torch.tensor([[2.0, 3.0], [4.0, 5.0]]))
    assert spread[first].eq(torch.tensor([2.0, 3.0])).all()
    assert spread[second].eq(torch.tensor([4.0, 5.0])).all()
    assert float(spread.sum()) == 4 * (2 + 3) + 16 * (4 + 5)


# -- scale and shift by time


def test_time_moves_its_spans_and_what_sees_them_and_nothing_before(kit: Kit) -> None:
    model = kit.model(block="timed", layers=2)
    with torch.no_grad():  # the patcher's own time embedding says nothing
        for parameter in model.get_submodule("modality_modules.image.patcher.time").parameters():
            parameter.zero_()
    batch = batch_of(model, captioned(0), captioned(1, first="image"))
    begin = int(batch.groups[0].index.min())
    states = [hidden(model, at_time(batch, t)) for t in (10.0, 500.0)]
    found = moved(*states)
    assert set(batch.groups[0].index.flatten().tolist()) <= set(found)
    assert min(found) == begin
    later = int(batch.groups[0].index.max()) + 1
    assert set(range(later, len(batch))) <= set(found)


def test_where_no_span_stands_it_is_llamas_block(kit: Kit) -> None:
    timed, plain = kit.model(block="timed", layers=2), kit.model(layers=2)
    for model in (timed, plain):
        assert {"blocks.0.attention.qkv.weight", "norm.weight"} <= dict(model.backbone.weights("text")).keys()
    plain.backbone.load_state_dict(timed.backbone.state_dict(), strict=False)
    batch = batch_of(plain, Document((Item("text", "a cat and a dog"),), id=0))
    plain.tokens.load_state_dict(timed.tokens.state_dict())
    torch.testing.assert_close(hidden(timed, batch), hidden(plain, batch), rtol=0, atol=1e-5)


# -- routed experts


def test_a_position_goes_through_one_expert_and_pays_for_one(kit: Kit) -> None:
    model, plain = kit.model(block="routed", layers=1), kit.model(layers=1)
    batch = batch_of(model, captioned(0), captioned(1))
    before = hidden(model, batch)
    changed = []
    for expert in model.backbone.get_submodule("blocks.0.feedforward.experts"):  # type: ignore[union-attr]
        with torch.no_grad():
            expert.down.weight.mul_(2)
            changed.append(set(moved(before, hidden(model, batch))))
            expert.down.weight.div_(2)
    assert changed[0]
    assert changed[1]
    assert changed[0].isdisjoint(changed[1])
    assert changed[0] | changed[1] == set(range(len(batch)))
    router = 2.0 * 2 * 32
    assert model.backbone.flops("text") == plain.backbone.flops("text") + router


# -- a narrow expert, and a frozen one


def test_a_narrow_expert_costs_less_and_moves_only_its_own(kit: Kit) -> None:
    model = kit.model(block="narrow", layers=1)
    backbone = model.backbone
    names = [dict(backbone.weights(m)).keys() for m in ("text", "image")]
    assert names[0] == names[1] == dict(kit.model(layers=1).backbone.weights("text")).keys()
    hide = model.settings.swiglu_width
    assert backbone.flops("text") - backbone.flops("image") == 2 * 3 * 32 * (hide - hide // 2)
    row = join([model.layout.sequence(captioned(0))])
    vectors = sum(place.span.length for place in row.spans)
    plain = kit.model(layers=1)
    saved = vectors * (plain.backbone.flops("image") - backbone.flops("image"))
    assert flops(plain, row) - flops(model, row) == 3 * saved
    batch = batch_of(model, captioned(0))
    before = hidden(model, batch)
    with torch.no_grad():
        dict(backbone.weights("image"))["blocks.0.feedforward.down.weight"].mul_(2)
    assert moved(before, hidden(model, batch)) == batch.groups[0].index.flatten().tolist()


def test_what_one_modality_alone_goes_through_is_a_group_of_weights(kit: Kit) -> None:
    model = kit.model(block="narrow", layers=1)
    groups = parameter_groups(model)
    experts = model.backbone.get_submodule("blocks.0.feedforward.experts")
    for name in ("text", "image"):
        own = experts.get_submodule(name).parameters()
        assert {id(p) for p in groups[f"backbone.{name}"]} == {id(p) for p in own}
    assert set(factor_by_parameter(model, {"backbone": {"image": 0.5}}, "train.lr_scale").values()) == {0.5}
    with pytest.raises(TransfuseError, match="has no weights of its own to train"):
        factor_by_parameter(model, {"backbone": {"text": 0.5}}, "train.lr_scale")


# -- rotary axes


def test_each_axis_tells_order_by_differences(kit: Kit) -> None:
    """Attention sees by how much two positions differ on each of the columns that a block reads."""
    model = kit.model(block="axes", layers=2)
    batch = batch_of(model, captioned(0))

    def with_columns(**columns: np.ndarray) -> Tensor:
        return hidden(model, replace(batch, columns=batch.columns | columns))

    before = hidden(model, batch)
    for axis in ("pos", "mod"):
        column = batch.columns[axis]
        torch.testing.assert_close(with_columns(**{axis: column + 7}), before, rtol=0, atol=1e-4)
        bent = np.where(np.arange(len(column)) < 3, column, column + 7)
        assert not torch.allclose(with_columns(**{axis: bent}), before, atol=1e-3)


# -- in a recipe


def section(**model: object) -> dict:
    return {
        "name": "r", "modalities": {"text": SECTIONS["text"]}, "mask": str(TRANSFUSION), "loss": {"text": 1},
        "model": model, "train": {"steps": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("block", "dumped"),
    [
        ("llama", "llama"),
        ({"name": "llama"}, "llama"),
        ("timed", {"name": "timed"}),
        ({"name": "axes", "axes": ["pos"]}, {"name": "axes", "axes": ["pos"]}),
    ],
)
def test_a_recipe_names_it_and_reads_back_as_it_was(block: object, dumped: object) -> None:
    recipe = Recipe.from_dump(section(block=block), tiny.plugins())
    assert recipe.dump()["model"]["block"] == dumped
    assert Recipe.from_dump(recipe.dump(), tiny.plugins()) == recipe
    assert ModelSettings().block == "llama"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("lama", r"model\.block: unknown block 'lama', did you mean 'llama'\?"),
        ({"name": "timd"}, r"model\.block: unknown block 'timd', did you mean 'timed'\?"),
        ({"name": "axes", "axis": ["pos"]}, r"model\.block\.axis: unknown key, did you mean 'axes'\?"),
        ({"name": "llama", "start": "copied"}, r"model\.block\.start: unknown key"),
        (3, r"model\.block: should be the name of a block"),
    ],
)
def test_what_is_no_block_is_named(block: object, message: str) -> None:
    with pytest.raises(TransfuseError, match=message):
        Recipe.from_dump(section(block=block), tiny.plugins())
