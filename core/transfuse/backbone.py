"""A Llama-style transformer over one packed run of positions; attention itself is handed in.

Letters: ``T`` positions, ``D`` width, ``H`` heads, ``G`` key-value heads, ``d`` width of a head.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from transfuse.recipes import ModelSettings

# (layer, q [H T d], k [G T d], v [G T d]) -> [H T d]: masks, caches and kernels live behind it.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def rotary(
    positions: Int[Tensor, "T axes"], width: int, theta: float
) -> tuple[Float[Tensor, "T d"], Float[Tensor, "T d"]]:
    """Cosine and sine tables (RoPE, arXiv 2104.09864); several axes share the frequencies in turn."""
    axes = positions.shape[1]
    pair = torch.arange(width // 2, device=positions.device)
    frequency = theta ** (-(pair // axes).float() * axes * 2 / width)
    angle = positions[:, pair % axes].float() * frequency
    return torch.cat([angle.cos()] * 2, dim=-1), torch.cat([angle.sin()] * 2, dim=-1)


def rotate(x: Float[Tensor, "heads T d"], cos: Tensor, sin: Tensor) -> Float[Tensor, "heads T d"]:
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = s.heads, s.key_value_heads, s.head_width
        self.qkv = nn.Linear(s.dim, (self.heads + 2 * self.kv_heads) * self.width, bias=False)
        self.out = nn.Linear(s.dim, s.dim, bias=False)
        self.q_norm = nn.RMSNorm(self.width) if s.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(self.width) if s.qk_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "T D"], cos: Tensor, sin: Tensor, layer: int, attend: Attend
    ) -> Float[Tensor, "T D"]:
        qkv = self.qkv(x).view(len(x), -1, self.width).transpose(0, 1)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads])
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        return self.out(attend(layer, q, k, v).transpose(0, 1).reshape(len(x), -1))


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
        self.attention_norm, self.feedforward_norm = nn.RMSNorm(s.dim), nn.RMSNorm(s.dim)
        self.attention, self.feedforward = Attention(s), FeedForward(s)

    def forward(
        self, x: Float[Tensor, "T D"], cos: Tensor, sin: Tensor, layer: int, attend: Attend
    ) -> Float[Tensor, "T D"]:
        if self.post:
            x = x + self.attention_norm(self.attention(x, cos, sin, layer, attend))
            return x + self.feedforward_norm(self.feedforward(x))
        x = x + self.attention(self.attention_norm(x), cos, sin, layer, attend)
        return x + self.feedforward(self.feedforward_norm(x))


class Backbone(nn.Module):
    """RMSNorm, SwiGLU, RoPE; every parameter shared by all modalities (paper, section 4.1)."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.settings = s
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.norm = nn.RMSNorm(s.dim)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                depth = (2 * s.layers) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=s.dim**-0.5 * depth)

    def forward(
        self, x: Float[Tensor, "T D"], positions: Int[Tensor, "T axes"], attend: Attend
    ) -> Float[Tensor, "T D"]:
        cos, sin = rotary(positions, self.settings.head_width, self.settings.rope_theta)
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        for layer, block in enumerate(self.blocks):
            x = block(x, cos, sin, layer, attend)
        return self.norm(x)
