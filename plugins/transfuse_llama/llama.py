"""Llama's block: RMSNorm, attention with rotary positions, SwiGLU; and its pieces, for blocks that vary it.

Letters as in `transfuse.model.backbone`; ``n``: some of the positions.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transfuse.config.recipe import RopeScaling
from transfuse.model.model import Model
from transfuse.plugin import Attend, Backbone, ModelSettings, RowContext, Settings

from transfuse_llama.config_json import architecture
from transfuse_llama.fused import RMSNorm, computed_in, project, swiglu
from transfuse_llama.pretrained import load_pretrained
from transfuse_llama.saved import save_pretrained

QueryKeyValue = tuple[Float[Tensor, "H n d"], Float[Tensor, "G n d"], Float[Tensor, "G n d"]]
Tables = tuple[Float[Tensor, "T d/2"], Float[Tensor, "T d/2"]]
"""Cosines and sines of rotary positions, of each pair's angle."""


def rotary(
    positions: Int[Tensor, "T axes"], width: int, theta: float, scaling: RopeScaling | None = None
) -> Tables:
    """Cosine and sine tables (RoPE, arXiv 2104.09864); several axes share the frequencies in turn."""
    axes = positions.shape[1]
    pair = torch.arange(width // 2, device=positions.device)
    frequency = theta ** (-(pair // axes).float() * axes * 2 / width)
    if scaling is not None:
        frequency = stretched(frequency, scaling)
    angle = positions[:, pair % axes].float() * frequency
    return angle.cos(), angle.sin()


def stretched(frequency: Float[Tensor, " pairs"], s: RopeScaling) -> Float[Tensor, " pairs"]:
    """Frequencies under Llama 3.1's scaling: a share of each is kept, by its waves in the original context."""
    waves = s.original * frequency / (2 * math.pi)
    kept = ((waves - s.low) / (s.high - s.low)).clamp(0, 1)
    return frequency * (kept + (1 - kept) / s.factor)


class Attention(nn.Module):
    """The projections before and behind attention; who attends to whom is known elsewhere."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = s.heads, s.key_value_heads, s.head_width
        self.qkv = nn.Linear(s.dim, (self.heads + 2 * self.kv_heads) * self.width, bias=s.qkv_bias)
        self.out = nn.Linear(self.heads * self.width, s.dim, bias=False)
        self.q_norm = RMSNorm(self.width, s.norm_eps) if s.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(self.width, s.norm_eps) if s.qk_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "T D"], cos: Tensor, sin: Tensor, attend: Attend
    ) -> Float[Tensor, "T D"]:
        return self.project_out(attend(*self.project_qkv(x, cos, sin)))

    def project_qkv(
        self, x: Float[Tensor, "n D"], cos: Tensor, sin: Tensor, norm: nn.RMSNorm | None = None
    ) -> QueryKeyValue:
        """norm: of x, where it is not normed yet."""
        q_norm, k_norm = self.q_norm, self.k_norm
        head_norms = (
            (q_norm, k_norm) if isinstance(q_norm, nn.RMSNorm) and isinstance(k_norm, nn.RMSNorm) else None
        )
        return project(x, norm, self.qkv, head_norms, (cos, sin), (self.heads, self.kv_heads), computed_in(x))

    def project_out(self, attended: Float[Tensor, "H n d"]) -> Float[Tensor, "n D"]:
        return self.out(attended.transpose(0, 1).flatten(1))


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.up = nn.Linear(s.dim, 2 * s.swiglu_width, bias=False)
        self.down = nn.Linear(s.swiglu_width, s.dim, bias=False)

    def forward(self, x: Float[Tensor, "n D"], norm: nn.RMSNorm | None = None) -> Float[Tensor, "n D"]:
        """norm: of x, where it is not normed yet."""
        return swiglu(x, norm, self.up.weight, self.down.weight, computed_in(x))


class LlamaBlock(nn.Module):
    """Norm before each half (Llama), or after it (Chameleon's 34B, Swin): ``post_norm``."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.post = s.post_norm
        self.attention_norm = RMSNorm(s.dim, s.norm_eps)
        self.feedforward_norm = RMSNorm(s.dim, s.norm_eps)
        self.attention, self.feedforward = Attention(s), FeedForward(s)

    def forward(
        self, x: Float[Tensor, "T D"], cos: Tensor, sin: Tensor, attend: Attend
    ) -> Float[Tensor, "T D"]:
        return self.after_attention(x, attend(*self.before_attention(x, cos, sin)))

    def before_attention(self, x: Float[Tensor, "n D"], cos: Tensor, sin: Tensor) -> QueryKeyValue:
        """Position by position, as is `after_attention`: so positions may go through different blocks."""
        return self.attention.project_qkv(x, cos, sin, None if self.post else self.attention_norm)

    def after_attention(
        self, x: Float[Tensor, "n D"], attended: Float[Tensor, "H n d"]
    ) -> Float[Tensor, "n D"]:
        if self.post:
            x = x + self.attention_norm(self.attention.project_out(attended))
            return x + self.feedforward_norm(self.feedforward(x))
        x = x + self.attention.project_out(attended)
        return x + self.feedforward(x, self.feedforward_norm)


class LlamaSettings(Settings):
    """All there is to set of Llama's blocks is the model's."""

    @classmethod
    def architecture(cls, folder: Path) -> dict[str, Any]:
        """What the folder under ``model.pretrained`` decides of the model's settings."""
        return architecture(folder)


class Llama(Backbone):
    """Llama's blocks and final RMSNorm; all modalities share every weight (paper, section 4.1)."""

    def __init__(self, settings: LlamaSettings, model: ModelSettings) -> None:
        super().__init__()
        self.settings = s = model
        self.blocks = nn.ModuleList(LlamaBlock(s) for _ in range(s.layers))
        self.norm = RMSNorm(s.dim, s.norm_eps)
        draw_weights(self, s)

    def prepare(self, row: RowContext) -> Tables:
        return rotary_tables(row, self.settings)

    def forward(
        self, x: Float[Tensor, "T D"], prepared: Tables, t: Float[Tensor, " S"], attend: Sequence[Attend]
    ) -> Float[Tensor, "T D"]:
        cos, sin = (table.to(computed_in(x)) for table in prepared)
        for block, attend_here in zip(self.blocks, attend, strict=True):
            x = block(x, cos, sin, attend_here)
        return self.norm(x)

    def load_pretrained(self, model: Model, folder: Path) -> None:
        load_pretrained(model, folder)

    def save_pretrained(self, model: Model, folder: Path, longest: int) -> None:
        save_pretrained(model, folder, longest)


def rotary_tables(row: RowContext, s: ModelSettings) -> Tables:
    """The tables of a row under the model's settings."""
    return rotary(row.positions, s.head_width, s.rope_theta, s.rope_scaling)


def draw_weights(module: nn.Module, s: ModelSettings) -> None:
    """Draw all matrices of a backbone, std D^-1/2, and less by depth where they end a branch; biases are 0."""
    for name, parameter in module.named_parameters():
        if parameter.dim() == 2:
            depth = (2 * s.layers) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1.0
            nn.init.normal_(parameter, std=s.dim**-0.5 * depth)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
