"""How well a codec lets anything be drawn: real raw data through it and back, judged as what a model draws would be.

No model can be told from a perfect one beyond that, so where it is low, models with this codec cannot be compared with
others.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from transfuse.config.parts import Chosen
from transfuse.config.recipe import EvalSettings
from transfuse.datasets import DataSet, restrict
from transfuse.metrics import Evaluation, Figure, Metric
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality

from transfuse_lab.evaluation.evaluate import Evaluated
from transfuse_lab.evaluation.measure import measure
from transfuse_lab.evaluation.tasks import Asked, ask, checked_evaluable, examples, roles_of

ENOUGH = 0.99
"""Of what untouched raw data reach."""


@dataclass(frozen=True)
class Ceiling:
    """A figure of raw data through the codec of a role and back (``reached``), and of the same untouched."""

    role: str
    figure: Figure
    reached: float
    untouched: float

    @property
    def too_low(self) -> bool:
        """Whether so much is lost of a share that models with this codec cannot be compared with others."""
        share = self.figure.form == "percent" and self.figure.better == "higher"
        return share and self.reached < ENOUGH * self.untouched


def ceilings(
    modalities: Mapping[str, Modality],
    data: DataSet,
    metrics: Mapping[str, Chosen[Metric]],
    settings: EvalSettings,
) -> list[Ceiling]:
    """Of every metric that reads what is drawn, by role: all that is better one way, for the first of its tasks.

    modalities: fit, or restored. settings: as an evaluation has them. Raises TransfuseError where the data hold no
    task.
    """
    data = restrict(data, modalities)
    tasks = checked_evaluable(data, modalities, settings)
    asked = [ask(data, settings.split, task, settings.prompts) for task in tasks]
    asked = [one for one in asked if len(one) and isinstance(one.truth[0], np.ndarray)]
    found = Evaluated(roles_of(data), tasks)

    def judged(made: Callable[[Asked], list[Any]]) -> Iterator[tuple[str, Evaluated]]:
        for role in dict.fromkeys(one.task.want for one in asked):
            of_role = Evaluated(found.roles, found.tasks)
            for one in (one for one in asked if one.task.want == role):
                drawn = made(one)
                of_role.evaluations.append(
                    Evaluation(
                        one.task, one.prompts, one.truth, drawn, settings.split, drawn,
                        examples=examples(data, one.task),
                    )
                )  # fmt: skip
            measure(modalities, of_role, metrics)
            yield role, of_role

    def through(one: Asked) -> list[Any]:
        modality = modalities[one.task.want]
        return [seam.call(modality, "decode", seam.payload(modality, "encode", raw)) for raw in one.truth]

    untouched = dict(judged(lambda one: list(one.truth)))
    return [
        Ceiling(role, figure, of_role.figures[name], untouched[role].figures[name])
        for role, of_role in judged(through)
        for name, figure in of_role.described.items()
        if figure.better and name in untouched[role].figures
    ]
