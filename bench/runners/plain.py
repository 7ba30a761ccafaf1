"""The plain baseline: what a good engineer writes in a day. Padded batches, SDPA under a boolean mask, compiled.

It has transfuse's layers under transfuse's names, so that it takes a model's weights and computes the same loss of the
same documents (tests/attention/test_peer.py). Letters: ``B`` documents padded to ``T`` positions, ``N`` positions of
``S`` pictures in all of them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental import _config as shapes
from transfuse import Document
from transfuse.model.model import Model

from runners.in_batches import InBatches
from runners.ours import Ours
from runners.workloads import WIDTH

MULTIPLE = 8  # of the length that a batch is padded to


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # [B, heads, T, width]
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        out = F.scaled_dot_product_attention(q, k, v.to(q.dtype), attn_mask=mask)
        return self.out(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(dim, 2 * hidden, bias=False), nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm, self.feedforward_norm = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.attention, self.feedforward = Attention(dim, heads), FeedForward(dim, hidden)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, mask)
        return x + self.feedforward(self.feedforward_norm(x))


class Time(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(64, dim), nn.Linear(dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        angle = 1000 * t[:, None] * 10_000 ** (-torch.arange(32) / 32)
        return self.out(F.silu(self.into(torch.cat([angle.cos(), angle.sin()], dim=-1))))


@dataclass(frozen=True, eq=False)
class Padded:
    """Documents as a batch: ids, -1 at pictures and padding; ids to predict, -1 for none; each position's picture in
    its document, -1 for none; where pictures stand in ``[B·T]``; their latents; the picture of each; its length."""

    tokens: Tensor  # [B T]
    targets: Tensor  # [B T]
    span: Tensor  # [B T]
    at: Tensor  # [N]
    latents: Tensor  # [N 4]
    owner: Tensor  # [N]
    lengths: Tensor  # [S]


class Plain(nn.Module):
    def __init__(self, vocabulary: int, dim: int, layers: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.tokens, self.unembed = nn.Embedding(vocabulary, dim), nn.Linear(dim, vocabulary, bias=False)
        self.time, self.into, self.out = Time(dim), nn.Linear(WIDTH, dim), nn.Linear(dim, WIDTH)
        self.blocks = nn.ModuleList(Block(dim, heads, hidden) for _ in range(layers))
        self.norm, self.width = nn.RMSNorm(dim), dim // heads

    def forward(self, batch: Padded, t: Tensor, noise: Tensor, weight: float) -> Tensor:
        """The mean over predicted ids, plus ``weight`` times the mean over pictures, of a rectified flow at ``t``."""
        B, T = batch.tokens.shape
        x = self.tokens(batch.tokens.clamp(min=0)).flatten(0, 1)
        each = t[batch.owner, None]
        x_t, velocity = (1 - each) * batch.latents + each * noise, noise - batch.latents
        vectors = self.into(x_t) + self.time(t)[batch.owner]
        x = x.index_copy(0, batch.at, vectors.to(x.dtype)).view(B, T, -1)
        place = torch.arange(T)
        angle = place[:, None] * 10_000 ** (-torch.arange(0, self.width, 2) / self.width)
        cos, sin = torch.cat([angle.cos()] * 2, dim=-1), torch.cat([angle.sin()] * 2, dim=-1)
        same = (batch.span[:, :, None] == batch.span[:, None]) & (batch.span >= 0)[:, None]
        mask = ((place[:, None] >= place) | same)[:, None]  # padding stands last, so none of the rest sees it
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        x = self.norm(x).flatten(0, 1)
        error = (self.out(x[batch.at]) - velocity).float().square().mean(dim=1)
        spans = error.new_zeros(len(t)).index_add(0, batch.owner, error) / batch.lengths
        logits = self.unembed(x).float()
        ids = F.cross_entropy(logits, batch.targets.flatten(), ignore_index=-1, reduction="sum")
        return ids / (batch.targets >= 0).sum().clamp(min=1) + weight * spans.mean()


def from_ours(model: Model) -> Plain:
    """The plain model with the weights of ours."""
    s = model.settings
    plain = Plain(model.vocabulary.size, s.dim, s.layers, s.heads, s.swiglu_width)
    renamed = {"modality_modules.image.patcher.": "", "backbone.": ""}
    state = {}
    for name, tensor in model.state_dict().items():
        for long, short in renamed.items():
            name = name.replace(long, short)
        state[name] = tensor.detach().clone()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain


def padded(documents: list[Document], model: Model, multiple: int = MULTIPLE) -> Padded:
    """The batch of some documents, with the ids that our model gives text and markers."""
    marker = model.vocabulary.marker
    first = model.vocabulary.range("text").start if "text" in model.modalities else 0
    rows, latents, lengths = [], [], []
    for document in documents:
        ids, predicted, span = [marker("<document>")], [False], [-1]
        for number, item in enumerate(document.items):
            if item.modality == "text":
                own = (model.modalities["text"].encode(item.data) + first).tolist()
                ids, predicted, span = ids + own, predicted + [True] * len(own), span + [-1] * len(own)
                continue
            n = item.data[0].size
            ids += [marker(f"<image 1x{n}>"), *[-1] * n, marker("</image>")]
            predicted += [True, *[False] * (n + 1)]
            span += [-1, *[number] * n, -1]
            latents.append(torch.from_numpy(item.data).flatten(1).T * 2 - 1)
            lengths.append(n)
        rows.append(([*ids, marker("</document>")], [*predicted, True], [*span, -1]))
    T = -(-max(len(ids) for ids, _, _ in rows) // multiple) * multiple
    tokens, targets, spans = (torch.full((len(rows), T), -1) for _ in range(3))
    for i, (ids, predicted, span) in enumerate(rows):
        tokens[i, : len(ids)], spans[i, : len(ids)] = torch.tensor(ids), torch.tensor(span)
        if "text" in model.modalities:  # else nothing predicts markers
            after = torch.tensor([id if own else -1 for id, own in zip(ids, predicted, strict=True)])
            targets[i, : len(ids) - 1] = after[1:]
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    at = (spans.flatten() >= 0).nonzero()[:, 0]
    return Padded(tokens, targets, spans, at, torch.cat(latents), owner, torch.tensor(lengths))


class PlainRunner(InBatches):
    """The plain model trained on the groups of documents that are our rows.

    passes: into how many batches a group goes, the documents sorted by length. compiled: by torch.compile.
    """

    name = "plain"

    def __init__(self, ours: Ours, dtype: str = "fp32", passes: int = 1, compiled: bool = True) -> None:
        super().__init__(ours, from_ours(ours.model), dtype, passes)
        self.ours = ours
        shapes.use_duck_shape = (
            False  # or it compiles again where there happen to be as many documents as positions
        )
        self.loss = torch.compile(self.model, dynamic=True) if compiled else self.model
        self.weight = ours.trainer.recipe.loss["image"]

    @property
    def path(self) -> str:
        return f"padded to multiples of {MULTIPLE}, {self.passes} pass(es) a step, SDPA under a boolean mask"

    def batch_loss(self, documents: list[Document]) -> Tensor:
        batch = padded(documents, self.ours.model)
        t, noise = torch.rand(len(batch.lengths)), torch.randn(batch.latents.shape)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == "bf16"):
            return self.loss(batch, t, noise, self.weight)
