"""Evaluations by hand: prompts, truths and what was made of them, without a model."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from transfuse.documents import Item
from transfuse.metrics import Evaluation, Task
from transfuse_lab.evaluation.evaluate import Evaluated

WORDS = ("a red cat", "a dog", "two cats", "a grey horse", "no cat at all", "a cat and a dog")
MODEL: Any = SimpleNamespace(
    modalities={
        "image": SimpleNamespace(suffixes=(".png", ".npy")),
        "text": SimpleNamespace(suffixes=(".txt",)),
    }
)


def pictures(seed: int, count: int = 6, shape: tuple[int, ...] = (3, 8, 8)) -> list[np.ndarray]:
    """Random pictures in [0, 1]."""
    rng = np.random.default_rng(seed)
    return [rng.random(shape, dtype=np.float32) for _ in range(count)]


def drawn(
    made: Sequence[np.ndarray], truth: Sequence[np.ndarray], texts: Sequence[str] = WORDS
) -> Evaluation:
    """Pictures that were asked for by texts."""
    return Evaluation(Task("image", ("text",)), [(Item("text", text),) for text in texts], truth, made)


def told(made: Sequence[str], truth: Sequence[str], images: Sequence[np.ndarray]) -> Evaluation:
    """Texts that were asked for by pictures."""
    return Evaluation(Task("text", ("image",)), [(Item("image", image),) for image in images], truth, made)


def evaluated(*evaluations: Evaluation) -> Evaluated:
    """As `transfuse_lab.evaluation.measure` takes them."""
    roles = {"text": "a dog", "image": np.zeros((3, 8, 8), np.float32)}
    return Evaluated(roles, [one.task for one in evaluations], list(evaluations))
