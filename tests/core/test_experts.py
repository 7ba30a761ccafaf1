"""Experts: equal weights are shared weights, each position goes through its own, text alone moves no image."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from transfuse.documents import Document, Item
from transfuse.generation.incremental import IncrementalModel
from transfuse.model.backbone import modality_of_weights
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.rows import join
from transfuse.training.counts import flops, parameter_counts
from transfuse_llama.position_groups import PositionGroups

from tests.tiny.models import Kit, captioned

OWN = {"block": {"name": "per-modality"}, "layers": 2}
COPIED = {"block": {"name": "per-modality", "start": "copied"}, "layers": 2}


def batch_of(model: Model, *documents: Document) -> Batch:
    row = join([model.layout.sequence(document) for document in documents])
    return collate(row, model.modalities, Key(0))


def expert(model: Model, role: str) -> dict[str, nn.Parameter]:
    return dict(model.backbone.weights(role))


def test_who_goes_where_by_eye() -> None:
    """Text 0, image 1: the image's vectors to its weights; markers, text and filler to the marker modality's."""
    columns = {
        "mod": np.array([-1, 0, 1, 1, 1, 1, -1, -1]),
        "marker": np.array([1, 0, 1, 0, 0, 1, 1, 0]),
    }
    assert modality_of_weights(columns, 0).tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    assert modality_of_weights(columns, 2).tolist() == [2, 0, 2, 1, 1, 2, 2, 2]


def test_positions_in_groups_by_eye() -> None:
    found = PositionGroups.of(np.array([0, 0, 2, 0, 2]), 3, torch.device("cpu"))
    assert found.order.tolist() == [0, 1, 3, 2, 4]
    assert found.sizes == (3, 0, 2)
    row = torch.arange(5)
    assert torch.equal(found.to_row(found.to_groups(row)), row)


@pytest.mark.parametrize("settings", [{}, {"qk_norm": True}, {"post_norm": True, "kv_heads": 1}])
def test_copied_experts_are_one_shared_backbone(kit: Kit, settings: dict) -> None:
    own = kit.model(**COPIED, **settings)
    shared = kit.model(layers=2, **settings)
    with torch.no_grad():
        for module in own.modules():
            if isinstance(module, nn.RMSNorm):
                module.weight.fill_(1.5)
        weights = dict(own.backbone.weights("text"))
        for name, parameter in shared.backbone.weights("text"):
            parameter.copy_(weights[name])
        shared.tokens.load_state_dict(own.tokens.state_dict())
        shared.modality_modules.load_state_dict(own.modality_modules.state_dict())
        batch = batch_of(own, captioned(0), captioned(1, first="image"))
        assert (own(batch)[0] - shared(batch)[0]).abs().max() < 1e-5


def test_each_position_goes_through_its_own(kit: Kit) -> None:
    """What the last layer does to the image's positions is its expert's, and no other position sees it."""
    model = kit.model(**OWN)
    batch = batch_of(model, captioned(0))
    (vectors,) = (group.index.flatten() for group in batch.groups)
    with torch.no_grad():
        before = model(batch)[0]
        expert(model, "image")["blocks.1.feedforward.down.weight"].mul_(2)
        changed = (model(batch)[0] - before).abs().amax(dim=1) > 0
    assert changed[vectors].all()
    assert int(changed.sum()) == len(vectors)


def test_attention_joins_the_experts(kit: Kit) -> None:
    model = kit.model(**OWN)
    batch = batch_of(model, captioned(0, first="image"))
    with torch.no_grad():
        before = model(batch)[0]
        expert(model, "image")["blocks.0.attention.qkv.weight"].mul_(2)
        changed = (model(batch)[0] - before).abs().amax(dim=1) > 0
    assert changed[batch.groups[0].index.max() + 1 :].all()  # text that follows the image


def test_text_alone_touches_no_image_expert(kit: Kit) -> None:
    model = kit.model(**OWN)
    batch = batch_of(model, Document((Item("text", "a cat and a dog"),), id=0))
    model.losses(batch)["text"].sum.backward()
    for role, moved in (("text", True), ("image", False)):
        for name, parameter in model.backbone.weights(role):
            assert bool(parameter.grad is not None and parameter.grad.abs().sum() > 0) == moved, (role, name)


def test_the_experts_are_drawn_apart_and_named_by_role(kit: Kit) -> None:
    model = kit.model(**OWN)
    text, image = (dict(model.backbone.weights(role)) for role in ("text", "image"))
    assert text.keys() == image.keys() == dict(kit.model(layers=2).backbone.weights("text")).keys()
    own = {id(p) for part in (text, image) for p in part.values()}
    assert own == {id(p) for p in model.backbone.parameters()}
    assert not torch.equal(text["blocks.0.attention.qkv.weight"], image["blocks.0.attention.qkv.weight"])


def test_a_position_uses_one_expert(kit: Kit) -> None:
    own, shared = kit.model(**OWN), kit.model(layers=2)
    row = join([own.layout.sequence(captioned(0))])
    assert flops(own, row) == flops(shared, row)
    assert parameter_counts(own)["backbone"] == 2 * parameter_counts(shared)["backbone"]


@pytest.mark.parametrize("image", ["image", "image_vq"])
@torch.no_grad()
def test_decoding_over_a_cache_is_the_whole_sequence_at_once(kit: Kit, image: str) -> None:
    """An image, then text one position at a time."""
    model = kit.model("text", image, **OWN).eval()
    shown, said = captioned(2, image=image, first=image).items
    document = Document((Item(image, shown.data, noised=False), Item("text", said.data)), id=0)
    laid, _ = model.layout.prompt(document)
    whole = model.logits(model(collate(join([laid]), model.modalities, Key(0), clean=True))[0])
    first = int(np.flatnonzero(laid.columns["text"])[0])
    cached = IncrementalModel(model, 1, len(laid))
    bounds = [0, *range(first, len(laid) + 1)]
    for start, stop in pairwise(bounds):
        logits = cached.append([0], [laid.slice(start, stop)])[0]
        assert torch.allclose(logits, whole[stop - 1], atol=1e-5)
