"""What trains on nothing is said: roles with a weight and no loss, weights that no gradient reaches."""

import warnings
from collections.abc import Iterable

from transfuse.config.recipe import Recipe
from transfuse.model.model import Model

NAMED = 6
"""So many weights are named."""


class Silence:
    """The roles that had no loss so far though the recipe weighs them, and the weights that had no gradient."""

    def __init__(self, recipe: Recipe, model: Model) -> None:
        self.roles = {role: weight for role, weight in recipe.loss.items() if weight}
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.documents = 0

    def heard(self, roles: Iterable[str], documents: int) -> None:
        """A step had losses of these roles, and its gradients are there."""
        for role in roles:
            self.roles.pop(role, None)
        for name in [name for name, weight in self.weights.items() if weight.grad is not None]:
            del self.weights[name]
        self.documents += documents

    def say(self) -> None:
        """Warns of what is left, a line each."""
        for role, weight in self.roles.items():
            warnings.warn(
                f"role {role!r} weighs {weight:g} in the loss and had none in {self.documents:,} documents: no item of "
                f"it was to be predicted (loss=True, and noised where it is diffused); mend the data, or say "
                f"loss.{role}: 0",
                stacklevel=2,
            )
        if self.weights:
            named = ", ".join(list(self.weights)[:NAMED]) + (", …" if len(self.weights) > NAMED else "")
            warnings.warn(
                f"no gradient reached {len(self.weights)} trained weights in {self.documents:,} documents: {named}; "
                f"they are as they were drawn, since no loss depends on them",
                stacklevel=2,
            )
