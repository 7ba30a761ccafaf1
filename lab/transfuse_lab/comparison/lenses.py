"""What a document costs an arm: all FLOPs, and those without the output layer, which grows with the vocabulary."""

from itertools import islice

from transfuse.modalities import seam
from transfuse.modalities.codec import GridModality
from transfuse.modalities.fit_context import FitContext
from transfuse.model.build import build_model
from transfuse.registry.plugins import Plugins
from transfuse.training import Trainer

from transfuse_lab.runs.survey import Surveyed

ROWS = 20
"""That are laid out; documents are drawn alike in all arms, so their mean is near enough after so many."""


def per_document(surveyed: Surveyed, plugins: Plugins) -> dict[str, float]:
    """Training FLOPs a document by lens; a document costs one of ``documents``."""
    for role, modality in surveyed.modalities.items():
        if isinstance(modality, GridModality):
            raws = list(islice(surveyed.data.raw("train", role), 64))
            seam.fit(modality, raws, 0, lambda line: None, 0.0, FitContext("cpu"))
    model = build_model(surveyed.recipe, surveyed.modalities, plugins, start=False)
    trainer = Trainer(surveyed.recipe, model, surveyed.data)
    rows = list(islice(trainer.rows, ROWS))
    documents = sum(len(row.arrivals) for row in rows)
    total = sum(trainer.costs.flops(row) for row in rows)
    output = sum(trainer.costs.output_flops(row) for row in rows)
    return {
        "total": total / documents,
        "without output layer": (total - output) / documents,
        "documents": 1.0,
    }
