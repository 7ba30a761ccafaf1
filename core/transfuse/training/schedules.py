"""The learning rate over a run's budget."""

import math

from transfuse.config.recipe import Recipe


def learning_rate(recipe: Recipe, share: float) -> float:
    """Linear warm-up, then a cosine down to ``final_lr``, by share of the budget spent (paper, section 4.1)."""
    train = recipe.train
    if share < train.warmup:
        return train.lr * share / train.warmup
    along = min(1.0, (share - train.warmup) / max(1e-9, 1 - train.warmup))
    return train.lr * (train.final_lr + (1 - train.final_lr) * 0.5 * (1 + math.cos(math.pi * along)))
