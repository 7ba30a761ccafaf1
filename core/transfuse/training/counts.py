"""What a model is made of and what a step costs: parameters, and FLOPs by formula."""

from collections.abc import Iterable

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


def trained_numbers(parameters: Iterable[Tensor]) -> int:
    return sum(p.numel() for p in parameters if p.requires_grad)


def flops(model: Model, row: Row) -> float:
    """FLOPs of one training pass over a row: forward, and twice that backward.

    What the backbone costs each position is its own to say, by modality; 2 per weight of the output layer where
    a token is predicted, a modality's own layers at its spans, and 4·D a layer for each pair the mask allows:
    queries times keys, weights times values (D: the width of all heads). A frozen weight counts as a trained one.
    """
    s, names = model.settings, model.layout.names
    owner = modality_of_weights(row.columns, names.index(model.marker_modality))[: row.used]
    forward = sum(model.backbone.flops(name) * int((owner == i).sum()) for i, name in enumerate(names))
    forward += 2.0 * model.unembed.weight.numel() * int((row.targets != NONE).sum())
    for place in row.spans:
        forward += seam.call(model.span_modalities[place.modality], "flops", place.span.length)
    forward += 4.0 * s.heads * s.head_width * s.layers * model.mask.pairs(row.columns)
    return 3 * forward
