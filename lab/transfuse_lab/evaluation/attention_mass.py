"""Where positions look: the share of attention that goes to each modality's positions, layer by layer."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transfuse.model.backbone import Attend
from transfuse.model.model import Model
from transfuse.sequences.batch import Batch

MARKERS = "markers"
"""Begin and end markers, and the marks of documents, whose modality nobody is."""
AT_ONCE = 512  # queries whose attention is held


@dataclass(frozen=True)
class Mass:
    """Of the attention of one kind's queries in a layer, the share that goes to each kind's keys: mean over heads and
    queries. even: the same if each query looked at all it may see alike."""

    layer: int
    query: str
    keys: dict[str, float]
    even: dict[str, float]


def attention_mass(model: Model, batches: Iterable[Batch]) -> list[Mass]:
    """Over rows, each kind of position (a modality's, or markers) in every layer."""
    kinds = [*model.modalities, MARKERS]
    layers = model.settings.layers
    mass, even = np.zeros((layers, len(kinds), len(kinds))), np.zeros((len(kinds), len(kinds)))
    counts = np.zeros(len(kinds))
    with torch.inference_mode():
        for batch in batches:
            kind = np.where(batch.columns["marker"] == 1, len(kinds) - 1, batch.columns["mod"])
            used = np.flatnonzero((batch.columns["doc"] >= 0) & (kind >= 0))
            allowed = torch.from_numpy(model.mask.allowed(batch.columns)).to(model.tokens.weight.device)
            shares = allowed.double() / allowed.sum(1, keepdim=True).clamp(min=1)
            _add(even, kind, used, shares)
            counts += np.bincount(kind[used], minlength=len(kinds))
            found = {layer: torch.zeros_like(shares) for layer in range(layers)}
            attend = [_watched(allowed, layer, found) for layer in range(layers)]
            model.transform(batch, model.prepare(batch), attend)
            for layer, own in found.items():
                _add(mass[layer], kind, used, own)
    return [
        Mass(
            layer,
            kinds[q],
            {kinds[k]: float(mass[layer, q, k] / counts[q]) for k in np.flatnonzero(counts)},
            {kinds[k]: float(even[q, k] / counts[q]) for k in np.flatnonzero(counts)},
        )
        for layer in range(layers)
        for q in np.flatnonzero(counts)
    ]


def _watched(allowed: Tensor, layer: int, found: dict[int, Tensor]) -> Attend:
    """Attention of one layer under a dense mask, whose shares, mean over heads, are kept."""

    def attend(
        q: Float[Tensor, "H T d"], k: Float[Tensor, "G T d"], v: Float[Tensor, "G T d"]
    ) -> Float[Tensor, "H T d"]:
        k, v = (each.repeat_interleave(len(q) // len(each), dim=0) for each in (k, v))
        out = torch.empty_like(q)
        for start in range(0, q.shape[1], AT_ONCE):
            own = slice(start, start + AT_ONCE)
            scores = (q[:, own] @ k.mT).float() / q.shape[-1] ** 0.5
            # A position that sees nothing, as filler does, has no shares.
            shares = scores.masked_fill(~allowed[own], -torch.inf).softmax(-1).nan_to_num(0.0)
            out[:, own] = shares.to(v.dtype) @ v
            found[layer][own] = shares.double().mean(0)
        return out

    return attend


def _add(total: np.ndarray, kind: np.ndarray, used: np.ndarray, shares: Float[Tensor, "T T"]) -> None:
    """Adds the shares of each used query's keys, by their kinds."""
    which = np.zeros((len(kind), total.shape[1]))
    which[used, kind[used]] = 1
    total += which.T @ shares.cpu().numpy() @ which
