"""The model: embeds a batch, runs the backbone under the mask, and lets each modality score its own."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from transfuse.attention import BUILT_IN, Backend, Request, select
from transfuse.config.recipe import ModelSettings
from transfuse.masks import Mask
from transfuse.modalities.loss import Loss
from transfuse.modalities.modality import Modality, SpanModality, TokenModality
from transfuse.model.backbone import Attend, Backbone
from transfuse.model.expert_routing import Routes, routes
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, SpanGroup
from transfuse.sequences.layout import Layout
from transfuse.sequences.vocabulary import Vocabulary

Embedded = tuple[Float[Tensor, "T D"], list[Any]]


class Model(nn.Module):
    """One transformer for all modalities of a recipe.

    modalities: by name, in the order of the ``mod`` column; fitted or restored, and here connected.
    mask: which key each query may see, in training and decoding alike.
    attention: a backend's name, or ``auto``.
    """

    def __init__(
        self,
        settings: ModelSettings,
        modalities: Mapping[str, Modality],
        vocabulary: Vocabulary,
        mask: Mask,
        *,
        seed: int = 0,
        attention: str = "auto",
        backends: Mapping[str, Backend] = BUILT_IN,
    ) -> None:
        super().__init__()
        self.settings, self.vocabulary, self.mask = settings, vocabulary, mask
        self.attention, self.backends = attention, backends
        # Layers draw their first weights from torch's global state: lend it a seeded one.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(Key(seed).number("weights"))
            for modality in modalities.values():
                modality.connect(settings.dim)
            self.modalities = nn.ModuleDict(modalities)
            self.tokens = nn.Embedding(vocabulary.size, settings.dim)
            nn.init.normal_(self.tokens.weight, std=settings.dim**-0.5)
            own = settings.experts == "per-modality"
            self.backbone = Backbone(settings, tuple(modalities) if own else ())
            self.unembed = nn.Linear(settings.dim, vocabulary.size, bias=False)
        if settings.tied:
            self.unembed.weight = self.tokens.weight
        if settings.experts_start == "copied":
            self.backbone.copy_experts(self.marker_modality)
        # A begin marker that was never a target must not be predicted (its logit is -inf).
        opened = torch.ones(vocabulary.size, dtype=torch.bool)
        for r in vocabulary.ranges:
            if r.labels and r.name != "document":
                opened[r.start : r.stop] = False
        self.register_buffer("opened", opened)
        self.opened: Tensor

    @property
    def layout(self) -> Layout:
        return Layout(dict(self.parts()), self.vocabulary)

    def parts(self) -> Iterator[tuple[str, Modality]]:
        """The modalities by name, in order."""
        for name, modality in self.modalities.items():
            assert isinstance(modality, Modality)
            yield name, modality

    @property
    def marker_modality(self) -> str:
        """The modality whose weights markers go through: the one that predicts them, else the first."""
        return self.layout.marker_modality or next(iter(self.modalities))

    def trained(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p.requires_grad]

    # -- forward, in three steps that decoding takes one by one

    def embed(self, batch: Batch) -> Embedded:
        """Vectors at every position, and for each span group what its own head needs later."""
        x = self.tokens(batch.tokens.clamp(min=0))
        states = []
        for group in batch.groups:
            vectors, state = self.span_modality(group.modality).embed(group.x_t, group.t)
            x = x.index_copy(0, group.index.flatten(), vectors.flatten(0, 1).to(x.dtype))
            states.append(state)
        return x, states

    def attend(self, columns: Mapping[str, np.ndarray], device: torch.device, dtype: torch.dtype) -> Attend:
        """Attention among the positions of one row, planned once for all layers."""
        s, length = self.settings, len(columns["doc"])
        request = Request(
            device, dtype, s.heads, s.key_value_heads, s.head_width, length, length,
            torch.is_grad_enabled(),
        )  # fmt: skip
        backend = select(self.attention, request, self.backends)
        plan = backend.plan(self.mask, columns, None, request)
        return lambda layer, q, k, v: backend.attend(q, k, v, plan)

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "T D"], list[Any]]:
        """The transformer's output at every position, and the span groups' states."""
        x, states = self.embed(batch)
        attend = self.attend(batch.columns, x.device, x.dtype)
        return self.backbone(x, batch.positions, attend, self.routes(batch.columns, x.device)), states

    def routes(self, columns: Mapping[str, np.ndarray], device: torch.device) -> Routes | None:
        """Which positions go through whose weights; None where modalities share all."""
        names = self.layout.names
        if not self.backbone.roles:
            return None
        return routes(columns, len(names), names.index(self.marker_modality), device)

    def losses(self, batch: Batch) -> dict[str, Loss]:
        """Each modality's loss over the batch, as a sum with its count."""
        hidden, states = self(batch)
        losses: dict[str, Loss] = {}

        def add(name: str, loss: Loss) -> None:
            losses[name] = losses[name] + loss if name in losses else loss

        if self.training:
            self.opened[batch.targets] = True
        if len(batch.predicted):
            logits = self.logits(hidden[batch.predicted])
            for i, (name, modality) in enumerate(self.parts()):
                if isinstance(modality, TokenModality) and (own := batch.scored == i).any():
                    add(name, modality.objective(logits[own], batch.targets[own]))
        for group, state in zip(batch.groups, states, strict=True):
            if group.loss.any():
                prediction = self.predict(hidden, group, state)
                own = group.loss
                modality = self.span_modality(group.modality)
                add(group.modality, modality.objective(prediction[own], group.target[own], group.t[own]))
        return losses

    def logits(self, hidden: Float[Tensor, "n D"]) -> Float[Tensor, "n V"]:
        """Logits over the whole vocabulary, -inf where a marker is not open yet."""
        return self.unembed(hidden).masked_fill(~self.opened, -torch.inf)

    def predict(self, hidden: Float[Tensor, "T D"], group: SpanGroup, state: Any) -> Float[Tensor, "B ..."]:
        return self.span_modality(group.modality).head(hidden[group.index], state, group.t)

    def span_modality(self, name: str) -> SpanModality:
        modality = self.modalities[name]
        assert isinstance(modality, SpanModality)
        return modality
