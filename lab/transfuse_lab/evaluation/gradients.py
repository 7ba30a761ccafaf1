"""Whether the losses of modalities pull the weights that they share the same way: gradients compared layer by layer.

A gradient of one row is mostly noise, and two that come from the same row share some of it. So all that is compared
comes from different rows: with the products ``P[m, k] = a_m · b_k`` of the gradients of losses a and b on rows m and k,
the mean over m ≠ k has the product of the expected gradients as its expectation, and the cosine and the ratio of norms
follow. Their errors are jackknifed over rows. Beside them stand cosines as one would find them with half of the rows
a side, and those of two halves of one loss, which say how much of that is noise.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transfuse.modalities import seam
from transfuse.modalities.loss import Loss
from transfuse.model.model import Model
from transfuse.sequences.batch import Batch

from transfuse_lab.evaluation.losses import level_of

SPLITS, SEED = 200, 0  # of the rows in halves, at random
ALL = "all"
"""All shared weights together."""
Vectors = Mapping[str, Sequence[Float[np.ndarray, " n"] | None]]
"""By loss, its gradient on each row; None where the row has nothing of it."""


@dataclass(frozen=True)
class Estimate:
    """A value with its Monte Carlo error (one standard error); None where the rows do not tell it from noise."""

    value: float | None
    error: float | None


@dataclass(frozen=True)
class Compared:
    """Two losses' gradients by the weights of one layer, as training adds them up.

    cosine: between the expected gradients. ratio: of their norms, the first over the second. half: the cosine that
    gradients of half of the rows have, each of other rows. own: of two halves of each loss itself.
    """

    layer: str
    losses: tuple[str, str]
    cosine: Estimate
    ratio: Estimate
    half: float
    own: tuple[float, float]


def layers_of(backbone: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The trained weights that positions of several modalities may go through, by layer; what is in none is ``other``.

    A layer is told by the first number in a weight's name.
    """
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            number = re.search(r"(?:^|\.)(\d+)\.", name)
            found.setdefault(f"layer {number[1]}" if number else "other", []).append(parameter)
    return found


def gradients(
    model: Model, batches: Iterable[Batch], weights: Mapping[str, float]
) -> tuple[dict[str, Vectors], list[str]]:
    """By layer, the gradients of each loss on each batch, and the losses' names.

    A loss is a modality's, as training weighs it (``weights``): the mean over its units in the row; and of modalities
    of spans ``ROLE@k``, the part of it that spans of the k-th noise level make.
    """
    layers = layers_of(model.backbone)
    parameters = [p for own in layers.values() for p in own]
    found: dict[str, dict[str, list[np.ndarray | None]]] = {layer: {} for layer in layers}
    rows = 0
    for rows, batch in enumerate(batches, 1):
        for name, loss in _losses(model, batch, weights):
            each = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            of = iter(each)
            for layer, own in layers.items():
                flat = [(torch.zeros_like(p) if (g := next(of)) is None else g).flatten() for p in own]
                row = found[layer].setdefault(name, [])
                row.extend([None] * (rows - 1 - len(row)))
                row.append(torch.cat(flat).float().cpu().numpy())
    for own in found.values():
        for row in own.values():
            row.extend([None] * (rows - len(row)))
    names = sorted({name for own in found.values() for name in own})
    return {layer: dict(own) for layer, own in found.items()}, names


def _losses(model: Model, batch: Batch, weights: Mapping[str, float]) -> Iterator[tuple[str, Tensor]]:
    """The losses of a row, weighted; all of one graph."""
    hidden, states = model(batch)
    for number, name in enumerate(model.modalities):
        if name in model.token_modalities and weights[name] and (batch.scored == number).any():
            own = torch.from_numpy(np.flatnonzero(batch.scored == number)).to(hidden.device)
            logits = model.logits(hidden[batch.predicted[own]])
            loss = seam.score(model.token_modalities[name], logits, batch.targets[own])
            yield name, weights[name] * loss.sum / loss.count
    spans: dict[str, list[tuple[int, Loss]]] = {}
    for group, state in zip(batch.groups, states, strict=True):
        if not weights[group.modality] or not group.loss.any():
            continue
        modality = model.span_modalities[group.modality]
        prediction = model.predict(hidden, group, state)
        levels = level_of(seam.call(modality, "noise_share", group.t).cpu().numpy())
        for level in np.unique(levels[group.loss]):
            own = torch.from_numpy(np.flatnonzero(group.loss & (levels == level)))
            given = (each[own] for each in (prediction, group.target, group.t))
            loss = seam.score(modality, *given, copy=group.copy)
            spans.setdefault(group.modality, []).append((int(level), loss))
    for name, own in spans.items():
        count = sum(loss.count for _, loss in own)
        for level in sorted({level for level, _ in own}):
            part = torch.stack([loss.sum for at, loss in own if at == level]).sum()
            yield f"{name}@{level + 1}", weights[name] * part / count
        yield name, weights[name] * torch.stack([loss.sum for _, loss in own]).sum() / count


def compare(by_layer: Mapping[str, Vectors], names: Sequence[str]) -> list[Compared]:
    """All pairs of modalities' losses, and of each noise level with each loss of another modality, layer by layer and
    for all layers together."""
    pairs = [pair for pair in combinations(names, 2) if _asked(*pair)]
    products = {layer: _products(own, names) for layer, own in by_layer.items()}
    products[ALL] = sum(products.values(), np.zeros_like(next(iter(products.values()))))
    missing = np.array([[row is None for row in next(iter(by_layer.values()))[name]] for name in names])
    return [
        _compared(layer, (one, two), own, missing, [names.index(one), names.index(two)])
        for layer, own in products.items()
        for one, two in pairs
    ]


def _asked(one: str, two: str) -> bool:
    levels = [name for name in (one, two) if "@" in name]
    return len(levels) < 2 and one.partition("@")[0] != two.partition("@")[0]


def _products(own: Vectors, names: Sequence[str]) -> Float[np.ndarray, "a b rows rows"]:
    """``P[a, b, m, k]``: of loss a's gradient on row m with loss b's on row k; 0 where one is missing."""
    rows = len(own[names[0]])
    size = next(len(v) for name in names for v in own[name] if v is not None)
    stacked = np.stack([np.zeros(size, np.float32) if v is None else v for name in names for v in own[name]])
    gram = (stacked @ stacked.T).astype(np.float64)
    return gram.reshape(len(names), rows, len(names), rows).transpose(0, 2, 1, 3)


def _compared(
    layer: str, losses: tuple[str, str], products: np.ndarray, missing: np.ndarray, at: Sequence[int]
) -> Compared:
    rows = np.flatnonzero(~missing[at[0]] & ~missing[at[1]])
    both = np.asarray(at)
    own = products[np.ix_(both, both, rows, rows)]
    cosine, ratio = (jackknifed(own, index) for index in (0, 1))
    half = halves(own, np.random.default_rng(SEED))
    return Compared(layer, losses, cosine, ratio, half[0, 1], (half[0, 0], half[1, 1]))


def expected(products: Float[np.ndarray, "2 2 rows rows"]) -> tuple[float, float]:
    """The cosine between the expected gradients of two losses, and the ratio of their norms, first over second.

    NaN where a squared norm is not found to be over 0.
    """
    rows = products.shape[-1]
    others = (products.sum((2, 3)) - np.trace(products, axis1=2, axis2=3)) / max(1, rows * (rows - 1))
    one, two = others[0, 0], others[1, 1]
    if rows < 2 or one <= 0 or two <= 0:
        return float("nan"), float("nan")
    return float((others[0, 1] + others[1, 0]) / 2 / np.sqrt(one * two)), float(np.sqrt(one / two))


def jackknifed(products: Float[np.ndarray, "2 2 rows rows"], index: int) -> Estimate:
    """One of `expected`, with its error over rows, each left out in turn."""
    rows = products.shape[-1]
    value = expected(products)[index]
    kept = [np.delete(np.arange(rows), m) for m in range(rows)]
    each = np.array([expected(products[:, :, k][:, :, :, k])[index] for k in kept])
    if not np.isfinite(value) or not np.isfinite(each).all() or rows < 3:
        return Estimate(None, None)
    error = np.sqrt((rows - 1) / rows * np.square(each - each.mean()).sum())
    return Estimate(value, float(error))


def halves(
    products: Float[np.ndarray, "2 2 rows rows"], rng: np.random.Generator
) -> Float[np.ndarray, "2 2"]:
    """The mean cosine of the gradients of one loss on half of the rows, at random, and of another on the other half."""
    rows = products.shape[-1]
    total = np.zeros((2, 2))
    if rows < 2:
        return np.full((2, 2), np.nan)
    for _ in range(SPLITS):
        one = np.zeros(rows)
        one[rng.permutation(rows)[: rows // 2]] = 1
        two = 1 - one
        length = [np.sqrt(np.einsum("i,aij,j->a", side, np.stack([products[a, a] for a in (0, 1)]), side))
                  for side in (one, two)]  # fmt: skip
        total += np.einsum("i,abij,j->ab", one, products, two) / np.outer(*length)
    return total / SPLITS
