"""Tiny models of the real plugins, fit once, and documents for them."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
import transfuse_diffusion.plugin
import transfuse_image.plugin
import transfuse_llama.plugin
import transfuse_text.plugin
import transfuse_tiles.plugin
import transfuse_vq.plugin
from torch import Tensor
from transfuse import masks
from transfuse.attention import BUILT_IN
from transfuse.config.recipe import ModelSettings
from transfuse.documents import Document, Item
from transfuse.masks import NONE, Mask
from transfuse.modalities.modality import Modality, TokenModality
from transfuse.model.backbone import RowContext
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins
from transfuse.sequences.vocabulary import vocabulary_for
from transfuse_tiles.backend import Tiles

from tests.tiny import blocks
from tests.tiny.recipes import CODES, MODEL, PIXELS, TEXT

CAUSAL = masks.parse("same(doc) & le(idx)")
TRANSFUSION = masks.parse("same(doc) & (le(idx) | same(span))")
WORDS = ("cat", "dog", "a cat and a dog", "two dogs")

SECTIONS: Mapping[str, dict[str, Any]] = {
    "text": {"kind": "text", **TEXT},
    "image": {"kind": "image", **PIXELS},
    "image_vq": {"kind": "vq", **CODES},
    "image_masked": {"kind": "masked_vq", **CODES},
}


def picture(seed: int, side: int = 4) -> np.ndarray:
    """A grey image [1, side, side] of random values in [0, 1]."""
    return np.random.default_rng(seed).random((1, side, side), dtype=np.float32)


@lru_cache(maxsize=1)
def plugins() -> Plugins:
    modules = {
        "blocks": blocks,
        "image": transfuse_image.plugin,
        "diffusion": transfuse_diffusion.plugin,
        "llama": transfuse_llama.plugin,
        "text": transfuse_text.plugin,
        "tiles": transfuse_tiles.plugin,
        "vq": transfuse_vq.plugin,
    }
    return Plugins.of(modules)


class Kit:
    """Modalities are fit once; each model gets fresh ones, restored."""

    def __init__(self) -> None:
        self._facts: dict[str, dict[str, Any]] = {}
        self._weights: dict[str, dict[str, Any]] = {}

    def modality(self, name: str, **settings: Any) -> Modality:
        """The modality of this name in SECTIONS, fit, not yet connected; settings laid over its section."""
        if name not in self._facts:
            first = self._build(name, {})
            raws = (
                WORDS
                if name == "text"
                else [picture(i, side) for i in range(8) for side in self._sides(name)]
            )
            first.fit(raws, 0, lambda line: None, effort=0.0)
            self._facts[name], self._weights[name] = first.facts(), first.state_dict()
        modality = self._build(name, settings)
        modality.restore(self._facts[name])
        modality.load_state_dict(self._weights[name])
        return modality

    def modalities(self, *names: str) -> dict[str, Modality]:
        return {name: self.modality(name) for name in names}

    def model(
        self,
        *names: str,
        mask: Mask = TRANSFUSION,
        modalities: Mapping[str, Modality] | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> Model:
        """A model of the named modalities (or of those given); settings laid over `MODEL`."""
        made = modalities or self.modalities(*(names or ("text", "image")))
        s = ModelSettings.model_validate({**MODEL, **settings}, context=plugins())
        offered = {**BUILT_IN, "tiles": Tiles()}
        return Model(s, made, vocabulary_for(made), mask, seed=seed, backends=offered)

    def _build(self, name: str, settings: dict[str, Any]) -> Modality:
        return plugins().choose("modality", {**SECTIONS[name], **settings}, name).build(name=name)

    @staticmethod
    def _sides(name: str) -> tuple[int, ...]:
        return (4, 8) if name == "image" else (4,)  # two shapes, two begin markers; a VQ codec takes one


def bare(positions: Tensor) -> RowContext:
    """A row of which nothing is known but its rotary positions [T, axes]: one modality, no span."""
    n = len(positions)
    return RowContext({}, positions, np.zeros(n, np.int64), torch.full((n,), NONE))


def draw_blindly(model: Model, patch: pytest.MonkeyPatch) -> None:
    """Ids are drawn evenly from those allowed, by the sample's own generator and whatever the logits say.

    So what is drawn rests on no last bit of the weights, nor on how many documents are decoded at once.
    """

    def choose(logits: Tensor, generator: torch.Generator, left: float) -> int:
        allowed = logits[0].isfinite().nonzero().flatten()
        return int(allowed[torch.randint(len(allowed), (), generator=generator)])

    for modality in model.modalities.values():
        if isinstance(modality, TokenModality):
            patch.setattr(modality, "choose", choose)


def captioned(i: int = 0, side: int = 4, image: str = "image", first: str = "text") -> Document:
    """A caption and an image, in either order; the first is droppable."""
    items = [Item("text", WORDS[i % len(WORDS)]), Item(image, picture(i, side))]
    if first != "text":
        items.reverse()
    lead = Item(items[0].modality, items[0].data, droppable=True)
    return Document((lead, items[1]), id=i, source=f"pairs {i}")
