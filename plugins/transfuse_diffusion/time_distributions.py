"""The distributions that training times in [0, 1] are drawn from; a shift moves times towards noise."""

from typing import Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from transfuse.plugin import Settings

Number = TypeVar("Number", float, Tensor)


class TimeSettings(Settings):
    """How t is drawn."""

    time: Literal["uniform", "logit-normal", "beta"] = "uniform"
    """its distribution, before the shift"""
    mean: float = Field(0.0, ge=-20, le=20)
    """of the normal whose sigmoid a ``logit-normal`` t is (arXiv 2403.03206, section 3.1)"""
    std: float = Field(1.0, gt=0, le=20)
    """of the same normal"""
    a: float = Field(1.5, gt=0, le=100)
    """of a ``beta`` t: 1.5 in π0 (arXiv 2410.24164)"""
    b: float = Field(1.0, gt=0, le=100)
    """of a ``beta`` t: 1 in π0"""
    shift: float = Field(1.0, gt=0, le=1000)
    """s moves t to s·t / (1 + (s - 1)·t), in training and in sampling"""


def uniform(settings: TimeSettings, generator: torch.Generator) -> float:
    """In [0, 1)."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def logit_normal(settings: TimeSettings, generator: torch.Generator) -> float:
    """sigmoid(z), z normal with ``mean`` and ``std``."""
    normal = torch.randn((), generator=generator, dtype=torch.float64)
    return float(torch.sigmoid(settings.mean + settings.std * normal))


def beta(settings: TimeSettings, generator: torch.Generator) -> float:
    """Beta(a, b): with a > b nearer to 1. torch draws no Beta from a generator of one's own, numpy does."""
    seed = int(torch.randint((1 << 63) - 1, (), generator=generator))
    return float(np.random.default_rng(seed).beta(settings.a, settings.b))


def draw(settings: TimeSettings, generator: torch.Generator) -> float:
    """A time as the settings draw it, before the shift."""
    distribution = {"uniform": uniform, "logit-normal": logit_normal, "beta": beta}[settings.time]
    return distribution(settings, generator)


def shifted(t: Number, shift: float) -> Number:
    """s·t / (1 + (s - 1)·t): 0 and 1 stay; s > 1 moves t towards 1 (arXiv 2403.03206, eq. 23)."""
    return shift * t / (1 + (shift - 1) * t)
