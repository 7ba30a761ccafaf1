"""What a model is made of and what a step costs: parameters, and FLOPs by formula."""

from collections.abc import Iterable

from torch import Tensor

from transfuse.model.model import Model
from transfuse.sequences.rows import Row


def parameter_counts(model: Model) -> dict[str, int]:
    """Trained parameters of the backbone, the vocabulary and each modality's own layers; frozen ones apart.

    Of a backbone with an expert a modality all are counted, though a position uses one expert's.
    """
    counts = {
        "backbone": trained_numbers(model.backbone.parameters()),
        "vocabulary": trained_numbers({model.tokens.weight, model.unembed.weight}),
    }
    for name, modality in model.parts():
        counts[name] = trained_numbers(modality.parameters())
    counts["frozen"] = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return counts


def trained_numbers(parameters: Iterable[Tensor]) -> int:
    return sum(p.numel() for p in parameters if p.requires_grad)


def flops(model: Model, row: Row) -> float:
    """FLOPs of one training pass over a row: forward, and twice that backward.

    2 per weight at each position that uses it (the backbone everywhere, the output layer where a
    token is predicted, a modality's own layers at its spans) and 4·D a layer for each pair the mask
    allows: queries times keys, weights times values (D: the width of all heads). A position uses one
    expert of the backbone; a frozen weight counts as a trained one.
    """
    s = model.settings
    matrices = sum(p.numel() for _, p in model.backbone.expert(model.marker_modality) if p.dim() == 2)
    forward = 2.0 * matrices * row.used
    forward += 2.0 * model.unembed.weight.numel() * int((row.targets >= 0).sum())
    for place in row.spans:
        forward += model.span_modality(place.modality).flops(place.span.length)
    forward += 4.0 * s.heads * s.head_width * s.layers * model.mask.pairs(row.columns)
    return 3 * forward
