"""What a model is made of and what a step costs: parameters, and FLOPs by formula."""

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from transfuse.masks import NONE
from transfuse.modalities import seam
from transfuse.model.backbone import modality_of_weights
from transfuse.model.model import Model
from transfuse.sequences.rows import Row


def parameter_counts(model: Model) -> dict[str, int]:
    """Trained parameters of the backbone, the vocabulary and each modality's own layers; frozen ones apart.

    Of a backbone with experts all are counted, though a position uses few of them.
    """
    counts = {
        "backbone": trained_numbers(model.backbone.parameters()),
        "vocabulary": trained_numbers({model.tokens.weight, model.unembed.weight}),
    }
    for name, modality in model.modalities.items():
        counts[name] = trained_numbers(modality.parameters())
    counts["frozen"] = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return counts


def row_counts(row: Row, names: Sequence[str]) -> dict[str, float]:
    """A row's units of loss by modality, as its batch has them (`Batch.counts`), before any noise is drawn."""
    scored = np.bincount(row.scored[row.targets >= 0], minlength=len(names))
    counts = dict(zip(names, scored.astype(float).tolist(), strict=True))
    for place in row.spans:
        counts[place.modality] += float(place.span.loss and place.span.noised)
    return {name: count for name, count in counts.items() if count}


def trained_numbers(parameters: Iterable[Tensor]) -> int:
    return sum(p.numel() for p in parameters if p.requires_grad)


class Costs:
    """What a model's rows cost; what depends on the model alone is counted once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.of_position = [model.backbone.flops(name) for name in model.layout.names]
        self._of_span: dict[tuple[str, int], float] = {}

    def flops(self, row: Row) -> float:
        """FLOPs of one training pass over a row: forward, and twice that backward.

        What the backbone costs each position is its own to say, by modality; 2 per weight of the output layer where
        a token is predicted, a modality's own layers at its spans, and 4·D a layer for each pair the mask allows:
        queries times keys, weights times values (D: the width of all heads). A frozen weight counts as a trained one,
        and what is computed again instead of kept is not counted.
        """
        model, s = self.model, self.model.settings
        owner = modality_of_weights(row.columns, model.layout.names.index(model.marker_modality))[: row.used]
        own = np.bincount(owner, minlength=len(self.of_position)).tolist()
        forward = sum(cost * count for cost, count in zip(self.of_position, own, strict=True))
        forward += sum(self._span(place.modality, place.span.length) for place in row.spans)
        forward += 4.0 * s.heads * s.head_width * s.layers * model.mask.pairs(row.columns)
        return 3 * forward + self.output_flops(row)

    def output_flops(self, row: Row) -> float:
        """Those of the output layer among them, which grow with the vocabulary."""
        return 6.0 * self.model.unembed.weight.numel() * int((row.targets != NONE).sum())

    def _span(self, modality: str, length: int) -> float:
        if (modality, length) not in self._of_span:
            own = seam.call(self.model.span_modalities[modality], "flops", length)
            self._of_span[modality, length] = own
        return self._of_span[modality, length]


def flops(model: Model, row: Row) -> float:
    """FLOPs of one training pass over a row, see `Costs.flops`."""
    return Costs(model).flops(row)
