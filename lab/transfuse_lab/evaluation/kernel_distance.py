"""Kernel distance of two sets of features: unbiased, so a few hundred pictures do (arXiv 1801.01401)."""

import numpy as np
from transfuse.errors import TransfuseError


def kernel_distance(one: np.ndarray, two: np.ndarray) -> float:
    """Squared maximum mean discrepancy of ``[n, d]`` and ``[m, d]`` under the kernel (x·y / d + 1)³, unbiased.

    Its mean is 0 where both are of one distribution, whatever n and m, so it may fall below; the Fréchet distance
    of as many pictures is biased upwards. Raises TransfuseError where features do not match, are not finite, or are
    fewer than two.
    """
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1] or min(len(one), len(two)) < 2:
        raise TransfuseError(f"kernel distance: features {one.shape} and {two.shape} cannot be compared")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise TransfuseError("kernel distance: a feature is NaN or Inf")
    within = [_mean_apart(_kernel(x, x)) for x in (one, two)]
    return float(sum(within) - 2 * _kernel(one, two).mean())


def _kernel(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    from sklearn.metrics.pairwise import polynomial_kernel

    return polynomial_kernel(np.asarray(one, np.float64), np.asarray(two, np.float64), degree=3, coef0=1)


def _mean_apart(kernel: np.ndarray) -> float:
    """The mean over couples of different pictures."""
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
