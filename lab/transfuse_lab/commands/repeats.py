"""Samples of one prompt that are all the same: which roles' are, and what draws others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transfuse.config.recipe import Recipe
from transfuse.documents import Item


class Repeats:
    """Takes the samples of each prompt, ``n`` one after the other.

    A role's samples are the same where each prompt's are: all its items, all ``n`` times. Raw data that are neither
    texts nor arrays are not compared.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._first: dict[str, list[Any]] = {}
        self._seen, self._differ = dict[str, None](), set[str]()

    def take(self, number: int, new: Sequence[Item]) -> None:
        """What was made in sample ``number``."""
        made: dict[str, list[Any]] = {}
        for item in new:
            made.setdefault(item.modality, []).append(item.data)
        self._seen.update(dict.fromkeys(made))
        if number % self.n == 0:
            self._first = made
        else:
            roles = made.keys() | self._first.keys()
            self._differ |= {role for role in roles if not _equal(made.get(role), self._first.get(role))}

    def lines(self, recipe: Recipe) -> list[str]:
        """What to say of each role whose samples were all the same."""
        same = [role for role in self._seen if role not in self._differ] if self.n > 1 else []
        return [f"the {self.n} samples of {role} are the same: {_others(recipe, role)}" for role in same]


def _equal(one: list[Any] | None, other: list[Any] | None) -> bool:
    if one is None or other is None or len(one) != len(other):
        return False
    texts_or_arrays = all(isinstance(raw, str | np.ndarray) for raw in (*one, *other))
    return texts_or_arrays and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _others(recipe: Recipe, role: str) -> str:
    """Why, where the role's settings tell, and what may be set."""
    settings = recipe.modalities[role].settings
    if "temperature" in settings.sampled_by and settings.temperature == 0:
        return f"its temperature is 0, the likeliest at each place; --set {role}.temperature=1 draws others"
    may = " or ".join(f"--set {role}.{key}" for key in settings.sampled_by)
    return f"the model is sure of it, or draws without chance{f'; try another {may}' if may else ''}"
