"""The learning rate over a run's budget."""

import math

from transfuse.config.recipe import Recipe


def learning_rate(recipe: Recipe, share: float) -> float:
    """Linear warm-up, then a cosine down to ``final_lr``, by share of the budget spent (paper, section 4.1).

    The cosine begins where the last ``cooldown`` of the budget does; until then the rate is constant, so that runs of
    several budgets have one beginning.
    """
    train = recipe.train
    if share < train.warmup:
        return train.lr * share / train.warmup
    start = max(train.warmup, 1 - train.cooldown)
    along = min(1.0, max(0.0, share - start) / max(1e-9, 1 - start))
    return train.lr * (train.final_lr + (1 - train.final_lr) * 0.5 * (1 + math.cos(math.pi * along)))
