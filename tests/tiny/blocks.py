"""Throw-away kinds of block, each of what papers change: time, routing, narrower and frozen experts, rotary axes."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transfuse.config.parts import Part, Settings
from transfuse.config.recipe import ModelSettings
from transfuse.model.backbone import Attend, Backbone, RowContext
from transfuse.registry.hooks import hookimpl
from transfuse_llama.llama import Attention, FeedForward, draw_weights, rotary, rotary_tables
from transfuse_llama.pretrained import load_pretrained


class Layer(nn.Module):
    """Llama's block around any feed-forward."""

    def __init__(self, model: ModelSettings, feedforward: nn.Module) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(model.dim, model.norm_eps)
        self.feedforward_norm = nn.RMSNorm(model.dim, model.norm_eps)
        self.attention, self.feedforward = Attention(model), feedforward

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend, *more: Any) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, attend)
        return x + self.feedforward(self.feedforward_norm(x), *more)


class Stack(Backbone):
    """Layers that take ``(x, cos, sin, attend, *more)``, and a last norm."""

    def __init__(self, model: ModelSettings, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.model = model
        self.blocks = nn.ModuleList(layers)
        self.norm = nn.RMSNorm(model.dim, model.norm_eps)
        draw_weights(self, model)

    def prepare(self, row: RowContext) -> Any:
        return rotary_tables(row, self.model)

    def forward(self, x: Tensor, prepared: Any, t: Tensor, attend: Any) -> Tensor:
        return self.run(x, prepared, attend)

    def load_pretrained(self, model: Any, folder: Path) -> None:
        load_pretrained(model, folder)

    def run(self, x: Tensor, tables: Any, attend: Any, *more: Any) -> Tensor:
        for block, attend_here in zip(self.blocks, attend, strict=True):
            x = block(x, *tables, attend_here, *more)
        return self.norm(x)


class TimedLayer(Layer):
    """AdaLN (DiT, arXiv 2212.09748): scale, shift and gate of both halves; where the condition c is 0, Llama's."""

    def __init__(self, model: ModelSettings) -> None:
        super().__init__(model, FeedForward(model))
        self.modulation = nn.Linear(model.dim, 6 * model.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend, *more: Any) -> Tensor:
        (c,) = more
        scale, shift, gate, scale2, shift2, gate2 = self.modulation(c).chunk(6, dim=-1)
        inner = self.attention_norm(x) * (1 + scale) + shift
        x = x + (1 + gate) * self.attention(inner, cos, sin, attend)
        inner = self.feedforward_norm(x) * (1 + scale2) + shift2
        return x + (1 + gate2) * self.feedforward(inner)


class Timed(Stack):
    """The condition is made once a span, and spread over its positions."""

    def __init__(self, settings: Settings, model: ModelSettings) -> None:
        super().__init__(model, (TimedLayer(model) for _ in range(model.layers)))
        self.time = nn.Linear(1, model.dim)

    def prepare(self, row: RowContext) -> Any:
        return row, rotary_tables(row, self.model)

    def forward(self, x: Tensor, prepared: Any, t: Tensor, attend: Any) -> Tensor:
        row, tables = prepared
        return self.run(x, tables, attend, row.by_span(F.silu(self.time(t[:, None].to(x.dtype)))))


class Top1(nn.Module):
    """Each position goes through the one feed-forward that a router likes best (Switch, arXiv 2101.03961)."""

    def __init__(self, model: ModelSettings, experts: int) -> None:
        super().__init__()
        self.router = nn.Linear(model.dim, experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(model) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        share, chosen = self.router(x).softmax(dim=-1).max(dim=-1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            (own,) = (chosen == i).nonzero(as_tuple=True)
            out = out.index_copy(0, own, share[own, None] * expert(x[own]))
        return out


class RoutedSettings(Settings):
    experts: int = 2
    """Feed-forwards of a layer."""


class Routed(Stack):
    def __init__(self, settings: RoutedSettings, model: ModelSettings) -> None:
        super().__init__(model, (Layer(model, Top1(model, settings.experts)) for _ in range(model.layers)))

    def flops(self, modality: str) -> float:
        """A position goes through one of them."""
        idle = [p for name, p in self.named_parameters() if "experts." in name and "experts.0." not in name]
        return super().flops(modality) - 2.0 * sum(p.numel() for p in idle)


class OwnFeedForward(nn.Module):
    """A feed-forward a modality, of half the width but for the first."""

    def __init__(self, model: ModelSettings, modalities: tuple[str, ...]) -> None:
        super().__init__()
        narrow = model.model_copy(update={"hidden": model.swiglu_width // 2})
        self.experts = nn.ModuleDict(
            {m: FeedForward(narrow if i else model) for i, m in enumerate(modalities)}
        )

    def forward(self, x: Tensor, *where: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for own, expert in zip(where, self.experts.values(), strict=True):
            out = out.index_copy(0, own, expert(x[own]))
        return out


class Narrow(Stack):
    """Attention and norms are shared; the marker modality's feed-forward is frozen, the others' are narrow."""

    def __init__(
        self, settings: Settings, model: ModelSettings, modalities: tuple[str, ...], marker_modality: str
    ) -> None:
        super().__init__(
            model, (Layer(model, OwnFeedForward(model, modalities)) for _ in range(model.layers))
        )
        self.modalities = modalities
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(f"experts.{marker_modality}." not in name)

    def prepare(self, row: RowContext) -> Any:
        own = (np.flatnonzero(row.modality == i) for i in range(len(self.modalities)))
        where = [torch.from_numpy(each).to(row.positions.device) for each in own]
        return rotary_tables(row, self.model), where

    def forward(self, x: Tensor, prepared: Any, t: Tensor, attend: Any) -> Tensor:
        tables, where = prepared
        return self.run(x, tables, attend, *where)

    def weights(self, modality: str) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.named_parameters():
            if "experts." not in name or f"experts.{modality}." in name:
                yield name.replace(f"experts.{modality}.", ""), parameter


class AxesSettings(Settings):
    """axes: the columns that turn an equal share of each head, one after another."""

    axes: tuple[str, ...] = ("pos", "mod")


class Axes(Stack):
    """Each axis turns pairs of its own by all the frequencies, as vision transformers do."""

    def __init__(self, settings: AxesSettings, model: ModelSettings) -> None:
        super().__init__(model, (Layer(model, FeedForward(model)) for _ in range(model.layers)))
        self.axes = settings.axes

    def prepare(self, row: RowContext) -> Any:
        width = self.model.head_width // len(self.axes)
        turned = [torch.from_numpy(row.columns[axis]).to(row.positions.device) for axis in self.axes]
        tables = [rotary(each[:, None], width, self.model.rope_theta) for each in turned]
        return [torch.cat(each, dim=1) for each in zip(*tables, strict=True)]


@hookimpl
def transfuse_blocks() -> list[Part]:
    return [
        Part("timed", Settings, Timed),
        Part("routed", RoutedSettings, Routed),
        Part("narrow", Settings, Narrow),
        Part("axes", AxesSettings, Axes),
    ]
