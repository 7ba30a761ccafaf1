"""A row made ready for the model: tensors, and every span corrupted by its own keyed draw."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality, SpanModality
from transfuse.randomness import Key
from transfuse.sequences.rows import Row
from transfuse.sequences.sequence import PlacedSpan


@dataclass(frozen=True, eq=False)
class SpanGroup:
    """B spans of one modality, payload shape and dtype, length and copy.

    index: where their positions stand in the row. loss: which of them are predicted; on the CPU.
    """

    modality: str
    index: Int[Tensor, "B n"]
    x_t: Float[Tensor, "B ..."]
    t: Float[Tensor, " B"]
    target: Float[Tensor, "B ..."]
    loss: Bool[np.ndarray, " B"]
    copy: str = ""


@dataclass(frozen=True, eq=False)
class Batch:
    """One row of T positions as the model takes it.

    columns: integer arrays for the mask, on the CPU. positions: rotary ids, one column an axis.
    predicted: the positions that have a target; targets, scored: the target's id there, and on the CPU its modality.
    counts: units of loss by modality, known before the forward pass.
    """

    columns: dict[str, np.ndarray]
    tokens: Int[Tensor, " T"]
    positions: Int[Tensor, "T axes"]
    predicted: Int[Tensor, " P"]
    targets: Int[Tensor, " P"]
    scored: Int[np.ndarray, " P"]
    groups: tuple[SpanGroup, ...]
    counts: dict[str, float]

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> "Batch":
        """The batch with its tensors there, on their way while the CPU goes on; arrays stay on the CPU."""
        return replace(_moved(self, device), groups=tuple(_moved(group, device) for group in self.groups))


def _moved(part: Any, device: torch.device | str) -> Any:
    pinned = torch.device(device).type == "cuda" and torch.cuda.is_available()  # or the CPU would wait

    def move(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return (value.pin_memory() if pinned and value.is_cpu else value).to(device, non_blocking=True)

    return replace(part, **{name: move(value) for name, value in vars(part).items()})


def collate(
    row: Row,
    modalities: Mapping[str, Modality],
    key: Key,
    rope: tuple[str, ...] = ("pos",),
    clean: bool = False,
) -> Batch:
    """A batch from a row. ``clean``: nothing is corrupted (prompts, and scoring text after an image).

    Raises TransfuseError where a rotary axis names a column the row has not.
    """
    for axis in rope:
        if axis not in row.columns:
            raise TransfuseError(f"model.rope names column {axis!r}, which no modality of the recipe writes")
    predicted = np.flatnonzero(row.targets >= 0)
    scored = row.scored[predicted]
    names = list(modalities)
    counts = {name: float((scored == i).sum()) for i, name in enumerate(names)}
    spanned = {name: m for name, m in modalities.items() if isinstance(m, SpanModality)}
    groups = tuple(_groups(row.spans, spanned, key, clean))
    for group in groups:
        counts[group.modality] += float(group.loss.sum())
    return Batch(
        columns=row.columns,
        tokens=torch.from_numpy(row.tokens),
        positions=torch.from_numpy(np.stack([row.columns[axis] for axis in rope], axis=1)),
        predicted=torch.from_numpy(predicted),
        targets=torch.from_numpy(row.targets[predicted]),
        scored=scored,
        groups=groups,
        counts={name: count for name, count in counts.items() if count},
    )


def _groups(
    spans: tuple[PlacedSpan, ...], modalities: Mapping[str, SpanModality], key: Key, clean: bool
) -> Iterator[SpanGroup]:
    alike: dict[tuple, list[PlacedSpan]] = {}
    for place in spans:
        span = place.span
        kind = (place.modality, span.payload.shape, span.payload.dtype.str, span.length, span.copy)
        alike.setdefault(kind, []).append(place)
    for (name, *_, length, copy), places in alike.items():
        modality = modalities[name]
        x_t = target = torch.from_numpy(np.stack([place.span.payload for place in places]))
        t = torch.full((len(places),), seam.call(modality, "clean_time"))
        noised = [i for i, place in enumerate(places) if place.span.noised and not clean]
        if noised:
            spoilt = [places[i] for i in noised]
            generators = [key.generator("noise", p.visit, p.document, p.item) for p in spoilt]
            drawn = seam.corrupt(modality, x_t[noised], generators, [p.is_context for p in spoilt])
            where = torch.tensor(noised)
            pairs = zip((x_t, t, target), drawn, strict=True)
            x_t, t, target = (full.index_copy(0, where, new) for full, new in pairs)
        starts = torch.tensor([place.start for place in places])
        loss = np.array([place.span.loss and place.span.noised and not clean for place in places], bool)
        yield SpanGroup(name, starts[:, None] + torch.arange(length), x_t, t, target, loss, copy)
