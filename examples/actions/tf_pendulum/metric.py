"""How far chunks of actions are from the expert's, beside what needs no model: always its mean."""

import numpy as np
from transfuse.plugin import AppliesTo, Figure, Metric


class ActionError(Metric):
    name = "action_error"
    figures = (
        Figure(
            "action_error",
            "Torques off the expert's",
            "N·m",
            "lower",
            meaning="root mean squared, over whole chunks",
        ),
        Figure(
            "action_error_mean",
            "Mean torque off the expert's",
            "N·m",
            meaning="what a policy that never acts is off",
        ),
    )
    applies_to = AppliesTo(want="action", axes=2)

    def compute(self, evaluation):
        made, truth = (np.stack(list(chunks)) for chunks in (evaluation.made, evaluation.truth))
        off = {"action_error": made - truth, "action_error_mean": truth.mean() - truth}
        return {name: float(np.sqrt(np.square(each).mean())) for name, each in off.items()}
