"""A Llama-style transformer over one packed run of positions; attention itself is handed in.

Letters: ``T`` positions, ``n`` those of one modality, ``D`` width, ``H`` heads, ``G`` key-value heads,
``d`` width of a head. All modalities share the weights, or each position goes through those of its own
modality (experts) and only attention joins them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from transfuse.config.recipe import ModelSettings, RopeScaling
from transfuse.model.expert_routing import Routes

# (layer, q [H T d], k [G T d], v [G T d]) -> [H T d]: masks, caches and kernels live behind it.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
QueryKeyValue = tuple[Float[Tensor, "H n d"], Float[Tensor, "G n d"], Float[Tensor, "G n d"]]


def rotary(
    positions: Int[Tensor, "T axes"], width: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[Float[Tensor, "T d"], Float[Tensor, "T d"]]:
    """Cosine and sine tables (RoPE, arXiv 2104.09864); several axes share the frequencies in turn."""
    axes = positions.shape[1]
    pair = torch.arange(width // 2, device=positions.device)
    frequency = theta ** (-(pair // axes).float() * axes * 2 / width)
    if scaling is not None:
        frequency = stretched(frequency, scaling)
    angle = positions[:, pair % axes].float() * frequency
    return torch.cat([angle.cos()] * 2, dim=-1), torch.cat([angle.sin()] * 2, dim=-1)


def stretched(frequency: Float[Tensor, " pairs"], s: RopeScaling) -> Float[Tensor, " pairs"]:
    """Frequencies under Llama 3.1's scaling: a share of each is kept, by its waves in the original context."""
    waves = s.original * frequency / (2 * math.pi)
    kept = ((waves - s.low) / (s.high - s.low)).clamp(0, 1)
    return frequency * (kept + (1 - kept) / s.factor)


def rotate(x: Float[Tensor, "heads T d"], cos: Tensor, sin: Tensor) -> Float[Tensor, "heads T d"]:
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class Attention(nn.Module):
    """What stands before and behind attention; who attends to whom is known elsewhere."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = s.heads, s.key_value_heads, s.head_width
        self.qkv = nn.Linear(s.dim, (self.heads + 2 * self.kv_heads) * self.width, bias=s.qkv_bias)
        self.out = nn.Linear(self.heads * self.width, s.dim, bias=False)
        self.q_norm = nn.RMSNorm(self.width, s.norm_eps) if s.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(self.width, s.norm_eps) if s.qk_norm else nn.Identity()

    def read(self, x: Float[Tensor, "n D"], cos: Tensor, sin: Tensor) -> QueryKeyValue:
        qkv = self.qkv(x).view(len(x), self.heads + 2 * self.kv_heads, self.width).transpose(0, 1)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads])
        return rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin), v

    def write(self, attended: Float[Tensor, "H n d"]) -> Float[Tensor, "n D"]:
        return self.out(attended.transpose(0, 1).flatten(1))


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.up = nn.Linear(s.dim, 2 * s.swiglu_width, bias=False)
        self.down = nn.Linear(s.swiglu_width, s.dim, bias=False)

    def forward(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class Block(nn.Module):
    """Norm before each half (Llama), or after it (Chameleon's 34B, Swin): ``post_norm``."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.post = s.post_norm
        self.attention_norm = nn.RMSNorm(s.dim, s.norm_eps)
        self.feedforward_norm = nn.RMSNorm(s.dim, s.norm_eps)
        self.attention, self.feedforward = Attention(s), FeedForward(s)

    def forward(
        self, x: Float[Tensor, "T D"], cos: Tensor, sin: Tensor, layer: int, attend: Attend
    ) -> Float[Tensor, "T D"]:
        return self.write(x, attend(layer, *self.read(x, cos, sin)))

    def read(self, x: Float[Tensor, "n D"], cos: Tensor, sin: Tensor) -> QueryKeyValue:
        """Up to attention, position by position."""
        return self.attention.read(x if self.post else self.attention_norm(x), cos, sin)

    def write(self, x: Float[Tensor, "n D"], attended: Float[Tensor, "H n d"]) -> Float[Tensor, "n D"]:
        """From attention on, position by position."""
        if self.post:
            x = x + self.attention_norm(self.attention.write(attended))
            return x + self.feedforward_norm(self.feedforward(x))
        x = x + self.attention.write(attended)
        return x + self.feedforward(self.feedforward_norm(x))


class MixedBlock(nn.Module):
    """A block of which each modality has its own; attention is among all positions (arXiv 2411.04996)."""

    def __init__(self, s: ModelSettings, roles: Sequence[str]) -> None:
        super().__init__()
        self.experts = nn.ModuleDict({role: Block(s) for role in roles})

    def forward(
        self, x: Float[Tensor, "T D"], cos: Tensor, sin: Tensor, layer: int, attend: Attend, routes: Routes
    ) -> Float[Tensor, "T D"]:
        """x, cos, sin: in the order of ``routes``, each expert's positions together.

        An expert without positions runs on none: its gradient is 0, and every rank runs the same layers.
        """
        blocks = cast(list[Block], list(self.experts.values()))
        parts = routes.split(x)
        read = [
            block.read(*part)
            for block, *part in zip(blocks, parts, routes.split(cos), routes.split(sin), strict=True)
        ]
        q, k, v = (routes.to_row(torch.cat(each, dim=1), dim=1) for each in zip(*read, strict=True))
        attended = routes.split(routes.to_groups(attend(layer, q, k, v), dim=1), dim=1)
        return torch.cat([b.write(part, a) for b, part, a in zip(blocks, parts, attended, strict=True)])


class Backbone(nn.Module):
    """RMSNorm, SwiGLU, RoPE.

    roles: the modalities that have weights of their own, in the order of ``Routes``; none: every
    parameter is shared by all (paper, section 4.1).
    """

    def __init__(self, s: ModelSettings, roles: Sequence[str] = ()) -> None:
        super().__init__()
        self.settings, self.roles = s, tuple(roles)
        self.blocks = nn.ModuleList(MixedBlock(s, roles) if roles else Block(s) for _ in range(s.layers))
        final = [nn.RMSNorm(s.dim, s.norm_eps) for _ in roles or "1"]
        self.norm = nn.ModuleDict(dict(zip(roles, final, strict=True))) if roles else final[0]
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                depth = (2 * s.layers) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=s.dim**-0.5 * depth)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self,
        x: Float[Tensor, "T D"],
        positions: Int[Tensor, "T axes"],
        attend: Attend,
        routes: Routes | None = None,
    ) -> Float[Tensor, "T D"]:
        """routes: which positions go through whose weights, where modalities have their own."""
        s = self.settings
        cos, sin = rotary(positions, s.head_width, s.rope_theta, s.rope_scaling)
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        if not self.roles:
            for layer, block in enumerate(self.blocks):
                x = block(x, cos, sin, layer, attend)
            return self.norm(x)
        assert routes is not None
        assert isinstance(self.norm, nn.ModuleDict)
        x, cos, sin = (routes.to_groups(tensor) for tensor in (x, cos, sin))
        for layer, block in enumerate(self.blocks):
            x = block(x, cos, sin, layer, attend, routes)
        parts = zip(self.norm.values(), routes.split(x), strict=True)
        return routes.to_row(torch.cat([norm(part) for norm, part in parts]))

    def expert(self, role: str) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights that positions of a modality go through, by the name they have where all share them."""
        inside = f"experts.{role}."
        for name, parameter in self.named_parameters():
            if not self.roles:
                yield name, parameter
            elif inside in name:
                yield name.replace(inside, ""), parameter
            elif name == f"norm.{role}.weight":
                yield "norm.weight", parameter

    @torch.no_grad()
    def copy_experts(self, source: str) -> None:
        """Every expert becomes a copy of one of them."""
        weights = dict(self.expert(source))
        for role in self.roles:
            for name, parameter in self.expert(role):
                parameter.copy_(weights[name])
