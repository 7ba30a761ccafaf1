"""A document is an island: its loss and gradient are the same whatever it is packed with, and wherever it stands."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transfuse import masks
from transfuse.documents import Document, Item
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join

from tests.tiny.models import SECTIONS, TRANSFUSION, WORDS, Kit, picture

CLOSE = {torch.float64: 1e-10, torch.float32: 2e-4}
"""Of the largest number of a gradient: sums over a row's positions are in another order where it holds more."""
CROSSING = masks.parse("le(idx) | same(span)")
BLOCKS: dict[str, Any] = {"llama": "llama", "per-modality": {"name": "per-modality"}}


def item(role: str, seed: int, loss: bool) -> Item:
    data = (
        WORDS[seed % len(WORDS)]
        if role == "text"
        else picture(seed, 8 if role == "image" and seed % 2 else 4)
    )
    return Item(role, data, loss=loss, noised=loss or seed % 3 == 0)


@st.composite
def documents(draw: st.DrawFn, loss: bool) -> Document:
    """One to four items of any built-in modality, in any order."""
    chosen = draw(
        st.lists(st.tuples(st.sampled_from(sorted(SECTIONS)), st.integers(0, 30)), min_size=1, max_size=4)
    )
    items = tuple(item(role, seed, loss) for role, seed in chosen)
    return Document(items, draw(st.integers(1, 10**6)), "drawn")


def cast(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Ids stay ids."""
    return values.to(dtype) if values.is_floating_point() else values


def measured(model: Model, row: Sequence[Document], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The sums of losses by modality, and the gradient of all of them together."""
    model.zero_grad(set_to_none=True)
    made = collate(join([model.layout.sequence(document) for document in row]), model.modalities, Key(0))
    groups = (
        replace(g, x_t=cast(g.x_t, dtype), t=g.t.to(dtype), target=cast(g.target, dtype)) for g in made.groups
    )
    model.predictable[:] = True
    losses = model.losses(replace(made, groups=tuple(groups)))
    found = {name: loss.sum for name, loss in losses.items() if loss.count}
    if found:
        torch.stack(list(found.values())).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    return {**{n: s.detach() for n, s in found.items()}, **gradients}


def model_of(kit: Kit, dtype: torch.dtype, mask: masks.Mask = TRANSFUSION, **settings: Any) -> Model:
    model = kit.model(*SECTIONS, mask=mask, **settings).to(dtype).train()
    for modality in model.modalities.values():
        if isinstance(codec := getattr(modality, "codec", None), nn.Module):
            codec.float()
    for parameter in model.trained():  # heads begin at 0 here and there, and gradients would be 0 behind them
        nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


def apart(alone: dict[str, torch.Tensor], packed: dict[str, torch.Tensor], dtype: torch.dtype) -> str:
    """The first thing that differs, if something does."""
    if alone.keys() != packed.keys():
        return f"{sorted(alone.keys() ^ packed.keys())}"
    for name, there in alone.items():
        size = max(float(there.abs().max()), 1e-3)
        if float((packed[name] - there).abs().max()) > CLOSE[dtype] * size:
            return name
    return ""


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("attention", ["dense", "tiles"])
@pytest.mark.parametrize("block", BLOCKS)
def test_whatever_stands_around_it(kit: Kit, block: str, attention: str, dtype: torch.dtype) -> None:
    model = model_of(kit, dtype, block=BLOCKS[block])
    model.attention = attention

    @settings(max_examples=15)
    @given(documents(True), st.lists(documents(False), max_size=2), st.lists(documents(False), max_size=2))
    def check(document: Document, before: list[Document], behind: list[Document]) -> None:
        alone = measured(model, [document], dtype)
        assert alone, "it has a loss"
        assert not apart(alone, measured(model, [*before, document, *behind], dtype), dtype)

    check()


def test_under_a_mask_that_crosses_it_is_none(kit: Kit) -> None:
    model = model_of(kit, torch.float64, CROSSING)
    document = Document((item("text", 2, True), item("image", 1, True)), 1)
    other = Document((item("text", 3, False),), 2)
    alone = measured(model, [document], torch.float64)
    assert apart(alone, measured(model, [other, document], torch.float64), torch.float64)
    assert np.isfinite(float(alone["text"]))
