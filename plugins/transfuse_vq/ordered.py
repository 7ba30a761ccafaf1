"""Images as codes that are predicted one after another in an order that is drawn anew each time (or row by row).

Random order is what lies between next id and masked ids: one code at a time, each predicted once a visit and in one
pass, from codes at any places. Each position is told the place of the code that it is to predict, as in RAR (arXiv
2411.00776) and σ-GPT (arXiv 2404.09562), and holds the code before it; so the mask is the causal one.
Letters: ``n = h·w`` codes of an image, ``V`` codes of the codebook, ``D`` model width.
"""

from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from transfuse.plugin import (
    Chosen,
    Codec,
    Evaluate,
    GuidanceSettings,
    Item,
    Loss,
    PartOf,
    Settings,
    Span,
    SpanModality,
    TokenObjective,
)

from transfuse_vq.modality import CodeGrid, drawn


class OrderedVQSettings(Settings):
    """Codes drawn in turn, in any order."""

    fit_by = ("codec",)
    sampled_by = ("temperature", "top_p", "guidance")

    codec: Annotated[Chosen[Codec], PartOf("codec")] = Field(default={"name": "vq"}, validate_default=True)
    """Pixels to codes and back."""
    order: Literal["random", "rows"] = "random"
    """Of the codes of an image: drawn anew at each visit and for each sample, or row by row."""
    objective: Annotated[Chosen[TokenObjective], PartOf("objective")] = Field(
        default={"name": "next-token"}, validate_default=True
    )
    """How codes are scored."""
    temperature: float = Field(1.0, ge=0, le=10)
    """Of the codes drawn; 0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Codes are drawn from the likeliest, which together have this probability."""
    guidance: GuidanceSettings = GuidanceSettings()
    """Of log-probabilities; its interval is one of the share of codes still to be drawn, 1 at the first."""


class OrderedVQ(CodeGrid, SpanModality):
    """What is embedded are n numbers ``place · V + code``, in the order of prediction, and of n + 1 positions the last
    holds the last code, so that what follows the image sees all of it."""

    clean_time = 0.0

    def __init__(self, settings: OrderedVQSettings, name: str) -> None:
        super().__init__(settings.codec, settings.guidance, name)
        self.settings = settings
        self.scorer = settings.objective.build()

    def connect(self, dim: int) -> None:
        places = max(int(np.prod(size)) for size in self.sizes)
        self.table = nn.Embedding(self.codec.codes + 1, dim)  # the last stands before the first code
        self.held = nn.Embedding(places + 1, dim)
        self.wanted = nn.Embedding(places + 1, dim)
        for table in (self.table, self.held, self.wanted):
            nn.init.normal_(table.weight, std=dim**-0.5)
        self.out = nn.Linear(dim, self.codec.codes, bias=False)

    # -- layout

    def columns(self) -> dict:
        """None: which place a position is of is drawn later."""
        return {}

    def length_of(self, payload: np.ndarray) -> int:
        return payload.size + 1

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        placed = payload + self.codec.codes * np.arange(payload.size).reshape(payload.shape)
        label, loss = self.label_of(payload), item.loss and item.noised
        return [Span(placed, self.length_of(payload), label, noised=item.noised, loss=loss)]

    # -- in the model

    def corrupt(
        self, clean: Int[Tensor, "B h w"], generators: list[torch.Generator], is_context: list[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """In an order of each span's own; the target is the codes in that order, and there is no noise."""
        flat = clean.flatten(1)
        placed = flat.gather(1, self._orders(flat.shape[1], generators)).view_as(clean)
        return placed, torch.zeros(len(clean)), placed % self.codec.codes

    def _orders(self, n: int, generators: list[torch.Generator]) -> Int[Tensor, "B n"]:
        if self.settings.order == "rows":
            return torch.arange(n).expand(len(generators), n)
        return torch.stack([torch.randperm(n, generator=generator) for generator in generators])

    def embed(self, x_t: Int[Tensor, "B h w"], t: Float[Tensor, " B"]) -> tuple[Float[Tensor, "B m D"], Any]:
        """m = n + 1: each position's own code and place, and the place of the next."""
        codes, places = x_t.flatten(1) % self.codec.codes, x_t.flatten(1) // self.codec.codes
        none = places.new_full((len(places), 1), self.held.num_embeddings - 1)
        start = codes.new_full((len(codes), 1), self.codec.codes)
        own = self.table(torch.cat([start, codes], 1)) + self.held(torch.cat([none, places], 1))
        return own + self.wanted(torch.cat([places, none], 1)), None

    def head(
        self, hidden: Float[Tensor, "B m D"], state: Any, t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B n V"]:
        return self.out(hidden[:, :-1])

    def objective(self, prediction: Tensor, target: Tensor, t: Float[Tensor, " B"]) -> Loss:
        """A sum over spans of a mean over a span's codes."""
        scored = self.scorer.score(prediction.flatten(0, 1), target.flatten())
        return Loss(scored.sum / prediction.shape[1], float(len(target)))

    def sample(
        self, evaluate: Evaluate, label: str, generators: list[torch.Generator]
    ) -> Int[Tensor, "B h w"]:
        """One code a call of the model, at the next place of each sample's own order."""
        shape, guidance, device = self.blank(label).shape, self.settings.guidance, self.table.weight.device
        batch, n = len(generators), int(np.prod(shape))
        orders = self._orders(n, generators)
        codes, t = torch.zeros_like(orders), torch.zeros(batch, device=device)
        for i in range(n):
            guided = bool(self.views) and guidance.within(1 - i / n)
            x = (orders * self.codec.codes + codes).reshape(batch, *shape).to(device)
            views = [one[:, i].cpu().double().log_softmax(1) for one in evaluate(x, t, guided=guided)]
            logits = guidance.mix(views) if guided else views[0]
            codes[:, i] = drawn(logits, self.settings.temperature, self.settings.top_p, generators)
        return torch.zeros_like(codes).scatter(1, orders, codes).reshape(batch, *shape)

    def flops(self, span_length: int) -> float:
        """The head's alone: tables are looked up."""
        return 2.0 * (span_length - 1) * self.out.weight.numel()
