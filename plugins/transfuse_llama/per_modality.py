"""Llama's blocks and final norm for each modality; attention joins them (Mixture-of-Transformers, arXiv 2411.04996).

Letters as in `transfuse.model.backbone`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from transfuse.model.model import Model
from transfuse.plugin import (
    Attend,
    Backbone,
    ModelSettings,
    Role,
    RowContext,
    Settings,
    TransfuseError,
    did_you_mean,
)

from transfuse_llama.fused import RMSNorm
from transfuse_llama.llama import LlamaBlock, draw_weights, rotary_tables
from transfuse_llama.position_groups import PositionGroups
from transfuse_llama.pretrained import load_pretrained
from transfuse_llama.saved import save_pretrained


class PerModalitySettings(Settings):
    """Which modalities have weights of their own, and how they come by them."""

    own: tuple[Role, ...] | None = Field(default=None, min_length=1, max_length=64)
    """The modalities that have; all others share those that markers go through. None: each has its own."""
    start: Literal["fresh", "copied"] = "fresh"
    """They are drawn ``fresh``, or ``copied`` from those that markers go through."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A row's positions by modality, and the rotary tables in that order."""

    groups: PositionGroups
    cos: Float[Tensor, "T d"]
    sin: Float[Tensor, "T d"]


class PerModality(Backbone):
    """Every weight is some modality's; a position goes through its own modality's, or those that markers go through."""

    def __init__(
        self,
        settings: PerModalitySettings,
        model: ModelSettings,
        modalities: Sequence[str],
        marker_modality: str,
    ) -> None:
        super().__init__()
        self.settings, self.model = settings, model
        self.marker_modality = marker_modality
        own = modalities if settings.own is None else settings.own
        if strange := set(own) - set(modalities):
            raise TransfuseError(
                f"model.block.own names {min(strange)!r}, which is no role of this recipe; "
                f"{did_you_mean(min(strange), modalities)}"
            )
        self.expert_of = {name: name if name in own else marker_modality for name in modalities}
        experts = tuple(dict.fromkeys(self.expert_of.values()))
        self.group_of = np.array([experts.index(expert) for expert in self.expert_of.values()])
        self.blocks = nn.ModuleList(ModalityBlocks(model, experts) for _ in range(model.layers))
        self.norm = ModalityNorms(model, experts)
        draw_weights(self, model)
        self._start()

    def prepare(self, row: RowContext) -> Prepared:
        groups = PositionGroups.of(
            self.group_of[row.modality], int(self.group_of.max()) + 1, row.positions.device
        )
        cos, sin = (groups.to_groups(table) for table in rotary_tables(row, self.model))
        return Prepared(groups, cos, sin)

    def forward(
        self, x: Float[Tensor, "T D"], prepared: Prepared, t: Float[Tensor, " S"], attend: Sequence[Attend]
    ) -> Float[Tensor, "T D"]:
        groups = prepared.groups
        cos, sin = (groups.split(table.to(x.dtype)) for table in (prepared.cos, prepared.sin))
        parts = groups.split(groups.to_groups(x))
        for block, attend_here in zip(self.blocks, attend, strict=True):
            parts = block(parts, cos, sin, groups, attend_here)
        return groups.to_row(torch.cat(self.norm(parts)))

    def weights(self, modality: str) -> Iterator[tuple[str, nn.Parameter]]:
        inside = f"experts.{self.expert_of[modality]}."
        return ((name.replace(inside, ""), p) for name, p in self.named_parameters() if inside in name)

    def load_pretrained(self, model: Model, folder: Path) -> None:
        load_pretrained(model, folder)
        self._start()

    def save_pretrained(self, model: Model, folder: Path, longest: int) -> None:
        save_pretrained(model, folder, longest)

    @torch.no_grad()
    def begin(self, modality: str) -> None:
        if self.settings.start == "copied":
            source = dict(self.weights(self.marker_modality))
            for name, parameter in self.weights(modality):
                parameter.copy_(source[name])

    def _start(self) -> None:
        for modality in self.expert_of:
            self.begin(modality)


class ModalityBlocks(nn.Module):
    """A layer: a block a modality, and attention among all positions."""

    def __init__(self, model: ModelSettings, modalities: Sequence[str]) -> None:
        super().__init__()
        self.experts = nn.ModuleDict({modality: LlamaBlock(model) for modality in modalities})

    def forward(
        self,
        parts: Sequence[Float[Tensor, "n D"]],
        cos: Sequence[Tensor],
        sin: Sequence[Tensor],
        groups: PositionGroups,
        attend: Attend,
    ) -> list[Float[Tensor, "n D"]]:
        """A modality without positions runs on none: its gradient is 0, and every rank runs the same layers."""
        blocks: list[LlamaBlock] = list(self.experts.values())  # type: ignore[arg-type]
        before = [b.before_attention(*part) for b, *part in zip(blocks, parts, cos, sin, strict=True)]
        q, k, v = (groups.to_row(torch.cat(each, dim=1), dim=1) for each in zip(*before, strict=True))
        attended = groups.split(groups.to_groups(attend(q, k, v), dim=1), dim=1)
        return [b.after_attention(x, a) for b, x, a in zip(blocks, parts, attended, strict=True)]


class ModalityNorms(nn.Module):
    """The norm behind the last layer, one a modality."""

    def __init__(self, model: ModelSettings, modalities: Sequence[str]) -> None:
        super().__init__()
        self.experts = nn.ModuleDict({name: RMSNorm(model.dim, model.norm_eps) for name in modalities})

    def forward(self, parts: Sequence[Float[Tensor, "n D"]]) -> list[Float[Tensor, "n D"]]:
        return [norm(part) for norm, part in zip(self.experts.values(), parts, strict=True)]
