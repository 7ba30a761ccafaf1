"""What trains on nothing is said: roles with a weight and no loss, weights that no gradient reaches."""

import warnings
from collections.abc import Iterable, Iterator

from torch import nn

from transfuse.config.recipe import Recipe
from transfuse.model.model import Model

NAMED = 6
"""So many weights are named."""
ENOUGH = 100
"""So many documents, or all there are if those are more, show whether a role has a loss in some."""


class Silence:
    """The roles that had no loss so far though the recipe weighs them, and the weights that had no gradient."""

    def __init__(self, recipe: Recipe, model: Model) -> None:
        self.roles = {role: weight for role, weight in recipe.loss.items() if weight}
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.documents, self.model = 0, model

    def heard(self, roles: Iterable[str], documents: int) -> None:
        """A step had losses of these roles, and its gradients are there."""
        for role in roles:
            self.roles.pop(role, None)
        for name in [name for name, weight in self.weights.items() if weight.grad is not None]:
            del self.weights[name]
        self.documents += documents

    def enough(self, documents: int) -> bool:
        """Whether as many were heard as show it, of so many that there are."""
        return self.documents >= max(ENOUGH, documents)

    def say(self) -> None:
        """Warns of what is left, a line each."""
        for role, weight in self.roles.items():
            warnings.warn(
                f"role {role!r} weighs {weight:g} in the loss and had none in {self.documents:,} documents: no item of "
                f"it was to be predicted (loss=True, and noised where it is diffused); train for longer, mend the "
                f"data, or say loss.{role}: 0",
                stacklevel=2,
            )
        if self.weights:
            named = ", ".join(list(self.weights)[:NAMED]) + (", …" if len(self.weights) > NAMED else "")
            warnings.warn(
                f"no gradient reached {len(self.weights)} trained weights in {self.documents:,} documents: {named}; "
                f"they are as they were drawn, since no loss depends on them",
                stacklevel=2,
            )
        for place in _astray(self.model):
            warnings.warn(
                f"the weights in {place} have a gradient and are neither trained nor saved, since torch does not "
                f"look there: use nn.ModuleList, nn.ModuleDict or nn.ParameterList",
                stacklevel=2,
            )


def _astray(model: Model) -> Iterator[str]:
    """Attributes that hold weights with a gradient in plain lists and dicts, where ``parameters`` finds none."""
    known = set(model.parameters())
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            held = (
                value.values()
                if isinstance(value, dict)
                else value
                if isinstance(value, list | tuple)
                else ()
            )
            weights = [p for one in held for p in (one.parameters() if isinstance(one, nn.Module) else [one])]
            if any(isinstance(p, nn.Parameter) and p.grad is not None and p not in known for p in weights):
                yield f"{name}.{attribute}"
