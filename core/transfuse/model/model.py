"""The model: embeds a batch, runs the backbone under the mask, and lets each modality score its own."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from transfuse.attention import BUILT_IN, Backend, Plan, Request, select
from transfuse.config.parts import Chosen
from transfuse.config.recipe import ModelSettings
from transfuse.masks import Columns, Mask
from transfuse.modalities import seam
from transfuse.modalities.loss import Loss
from transfuse.modalities.modality import Modality, SpanModality, TokenModality
from transfuse.model.backbone import Attend, Backbone, RowContext
from transfuse.randomness import Key
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import Batch, SpanGroup
from transfuse.sequences.item_checks import check_items
from transfuse.sequences.layout import Layout
from transfuse.sequences.vocabulary import Vocabulary

LOGITS = 2**24
"""Of so many numbers are the logits that are held at once."""

named_block = cache(lambda name: Plugins.load(only=(name,)).choose("block", name))
"""The block that a recipe names without settings, looked up once in a process: reading entry points takes 10 ms."""


class Model(nn.Module):
    """One transformer for all modalities of a recipe.

    modalities: by name, in the order of the ``mod`` column; fitted or restored, and here connected. Those of
        ids and those of spans are also ``token_modalities`` and ``span_modalities``.
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
        # Layers draw their first weights from torch's global state: lend it one seeded for each part by name, so that
        # models with other modalities have the same backbone.
        named = lambda part: torch.manual_seed(Key(seed).number(f"weights {part}"))  # noqa: E731
        with torch.random.fork_rng(devices=[]):
            for name, modality in modalities.items():
                named(name)
                seam.call(modality, "connect", settings.dim)
            self.modality_modules = nn.ModuleDict(modalities)
            named("tokens")
            self.tokens = nn.Embedding(vocabulary.size, settings.dim)
            nn.init.normal_(self.tokens.weight, std=settings.dim**-0.5)
            self.modalities: Mapping[str, Modality] = dict(modalities)
            self.layout = Layout(self.modalities, vocabulary)
            check_items(self.modalities)
            named("backbone")
            self.backbone = self._backbone()
            named("unembed")
            self.unembed = nn.Linear(settings.dim, vocabulary.size, bias=False)
        self.token_modalities = {n: m for n, m in modalities.items() if isinstance(m, TokenModality)}
        self.span_modalities = {n: m for n, m in modalities.items() if isinstance(m, SpanModality)}
        if settings.tied:
            self.unembed.weight = self.tokens.weight
        elif not self.token_modalities:
            self.unembed.requires_grad_(False)  # nothing is predicted by it
        # A begin marker that was never a target must not be predicted (its logit is -inf).
        predictable = torch.ones(vocabulary.size, dtype=torch.bool)
        for r in vocabulary.ranges:
            if r.labels and r.name != "document":
                predictable[r.start : r.stop] = False
        self.register_buffer("predictable", predictable)
        self.predictable: Tensor
        # Set while it computes in mixed precision (`precision.computing_in`).
        self.mixed_dtype: torch.dtype | None = None

    def _backbone(self) -> Backbone:
        chosen, names = self.settings.block, tuple(self.modalities)
        if not isinstance(chosen, Chosen):
            chosen = named_block(chosen)
        return replace(chosen, builds=Backbone).build(
            model=self.settings, modalities=names, marker_modality=self.marker_modality
        )

    @property
    def marker_modality(self) -> str:
        """The modality whose weights markers go through: the one that predicts them, else the first."""
        return self.layout.marker_modality or next(iter(self.modalities))

    def trained(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p.requires_grad]

    @property
    def compute_dtype(self) -> torch.dtype:
        """Of queries, keys and values: the weights', or bfloat16 in mixed precision."""
        return self.mixed_dtype or self.tokens.weight.dtype

    def mixed(self, enabled: bool = True) -> AbstractContextManager[Any]:
        """While it is entered, matrix products are computed in `compute_dtype`."""
        if self.mixed_dtype is None or not enabled:
            return nullcontext()
        return torch.autocast(self.tokens.weight.device.type, self.mixed_dtype)

    # -- forward, in steps that decoding takes one by one

    def prepare(self, batch: Batch) -> Any:
        """What the backbone needs of a row besides vectors and times: made once, however often it is run."""
        return self.backbone.prepare(RowContext.of(batch, self.layout.names.index(self.marker_modality)))

    def plan(
        self, columns: Columns, keys: Columns | None = None, mask: Mask | None = None
    ) -> tuple[Backend, Plan]:
        """The attention backend for queries of these columns, and its plan, which serves all layers.

        keys: those of the keys, in decoding; then it is the model's own backend where that can, else the best that
        can. mask: instead of the model's.
        """
        s, weight, length = self.settings, self.tokens.weight, len(columns["doc"])
        request = Request(
            weight.device, self.compute_dtype, s.heads, s.key_value_heads, s.head_width, length,
            length if keys is None else len(keys["doc"]), keys is None and torch.is_grad_enabled(),
        )  # fmt: skip
        name, own = self.attention, self.backends.get(self.attention)
        if keys is not None and (own is None or own.supports(request)):
            name = "auto"
        backend = select(name, request, self.backends)
        return backend, backend.plan(self.mask if mask is None else mask, columns, keys, request)

    def attend(self, columns: Columns) -> list[Attend]:
        """Attention among the positions of one row, a callable a layer."""
        backend, plan = self.plan(columns)
        return [lambda q, k, v: backend.attend(q, k, v, plan)] * self.settings.layers

    def transform(
        self, batch: Batch, prepared: Any, attend: Sequence[Attend]
    ) -> tuple[Float[Tensor, "T D"], list[Any]]:
        """The transformer's output at every position, and for each span group what its own head needs."""
        x = self.tokens(batch.tokens.clamp(min=0))
        states, spans = [], []
        for group in batch.groups:
            modality, n = self.span_modalities[group.modality], group.index.shape[1]
            with self.mixed(modality.mixed_precision):
                vectors, state = seam.embed(modality, group.x_t, group.t, group.copy, n, x.shape[1])
            spans.append(vectors.flatten(0, 1).to(x.dtype))
            states.append(state)
        if spans:
            where = torch.cat([group.index.flatten() for group in batch.groups])
            x = x.index_copy(0, where, torch.cat(spans))
        t = torch.cat([x.new_empty(0), *(group.t for group in batch.groups)])
        with self.mixed():
            return self.backbone(x, prepared, t, attend).to(x.dtype), states

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "T D"], list[Any]]:
        return self.transform(batch, self.prepare(batch), self.attend(batch.columns))

    def losses(self, batch: Batch) -> dict[str, Loss]:
        """Each modality's loss over the batch, as a sum with its count."""
        hidden, states = self(batch)
        losses: dict[str, Loss] = {}

        def add(name: str, loss: Loss) -> None:
            losses[name] = losses[name] + loss if name in losses else loss

        if self.training:
            self.predictable[batch.targets] = True
        asked = [group for group in batch.groups if group.loss.any()]
        # One gather of all that is predicted, so that its backward pass goes over the row once.
        index = torch.cat([batch.predicted, *(group.index.flatten() for group in asked)])
        ids, *spans = hidden.index_select(0, index).split(
            [len(batch.predicted), *(group.index.numel() for group in asked)]
        )
        for name, modality in self.token_modalities.items():
            own = torch.from_numpy(np.flatnonzero(batch.scored == self.layout.names.index(name)))
            if len(own):  # known to the CPU, so that nobody waits for the device to say
                some = slice(None) if len(own) == len(ids) else own
                add(name, self._score_ids(modality, ids[some], batch.targets[some]))
        state_of = dict(zip(batch.groups, states, strict=True))
        for group, vectors in zip(asked, spans, strict=True):
            own = torch.from_numpy(np.flatnonzero(group.loss))
            modality = self.span_modalities[group.modality]
            prediction = self._head(vectors.unflatten(0, group.index.shape), group, state_of[group])
            given = prediction, group.target, group.t
            if len(own) < len(group.t):
                given = [each[own] for each in given]
            add(group.modality, seam.score(modality, *given, copy=group.copy))
        return losses

    def _score_ids(self, modality: TokenModality, hidden: Float[Tensor, "n D"], targets: Tensor) -> Loss:
        """A modality's loss; in parts, whose logits are computed again backward, where these would be many."""

        dtype = self.compute_dtype  # of this pass, also when it is computed again

        def part(hidden: Tensor, targets: Tensor) -> Tensor:
            return seam.score(modality, self.logits(hidden, dtype), targets).sum

        size = max(1, LOGITS // self.vocabulary.size)
        if len(hidden) <= size:
            return seam.score(modality, self.logits(hidden), targets)
        parts = zip(hidden.split(size), targets.split(size), strict=True)
        sums = [checkpoint(part, *each, use_reentrant=False, early_stop=False) for each in parts]
        return Loss(torch.stack(sums).sum(), float(len(targets)))

    def logits(self, hidden: Float[Tensor, "n D"], dtype: torch.dtype | None = None) -> Float[Tensor, "n V"]:
        """Logits over the whole vocabulary, -inf where an id may not be predicted yet.

        dtype: of the product, `compute_dtype` by default; what is returned is of ``hidden``'s own.
        """
        dtype = dtype or self.compute_dtype  # autocast would add up the gradients of all parts in bfloat16
        logits = F.linear(hidden.to(dtype), self.unembed.weight.to(dtype)).to(hidden.dtype)
        return logits.masked_fill_(~self.predictable, -torch.inf)

    def predict(self, hidden: Float[Tensor, "T D"], group: SpanGroup, state: Any) -> Float[Tensor, "B ..."]:
        return self._head(hidden[group.index], group, state)

    def _head(self, hidden: Float[Tensor, "B n D"], group: SpanGroup, state: Any) -> Float[Tensor, "B ..."]:
        modality = self.span_modalities[group.modality]
        with self.mixed(modality.mixed_precision):
            prediction = seam.head(modality, hidden, state, group.t, group.copy)
        return prediction if self.mixed_dtype is None else prediction.to(hidden.dtype)
