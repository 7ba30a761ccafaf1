"""Which of the four shapes a drawn series has: the one that some template of it resembles most."""

import numpy as np
from transfuse.plugin import AppliesTo, Figure, Metric

from tf_series.data import SHAPES, shape


def read(series: np.ndarray) -> str:
    """The name of the shape whose template has the highest correlation with the series."""
    places = np.arange(20) / 20
    best = {name: max(_alike(series, shape(name, len(series), p)) for p in places) for name in SHAPES}
    return max(best, key=lambda name: best[name])


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


class ShapeAccuracy(Metric):
    name = "shape_accuracy"
    figures = (
        Figure(
            "shape_accuracy",
            "Series drawn as asked",
            better="higher",
            form="percent",
            meaning="the share of drawn series that resemble a template of the shape in the caption",
        ),
    )
    applies_to = AppliesTo(given=("text",), want="series", axes=1)

    def compute(self, evaluation):
        asked = evaluation.given("text")
        right = [read(made) == name for made, name in zip(evaluation.made, asked, strict=True)]
        return {"shape_accuracy": float(np.mean(right))}

    def notes(self, evaluation):
        return [read(made) for made in evaluation.made]
