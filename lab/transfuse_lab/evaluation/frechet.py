"""The Fréchet distance between two sets of feature vectors, as if each were a Gaussian."""

import numpy as np
from transfuse.errors import TransfuseError


def frechet_distance(one: np.ndarray, two: np.ndarray) -> float:
    """|m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½) of features ``[n1, F]`` and ``[n2, F]``.

    S are sample covariances (n - 1). Heusel et al. 2017 (arXiv 1706.08500), eq. 6, and what the letters
    FID stand for when the features are Inception's; here they never are, so it is never called that.
    The distance shrinks as n grows even where the distributions are equal: compare at equal n.
    Raises TransfuseError for fewer than two vectors, unlike widths, NaN or Inf.
    """
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1] or min(len(one), len(two)) < 2:
        raise TransfuseError(f"Fréchet distance: features {one.shape} and {two.shape} cannot be compared")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise TransfuseError("Fréchet distance: a feature is NaN or Inf")
    one, two = one.astype(np.float64), two.astype(np.float64)
    gap = one.mean(axis=0) - two.mean(axis=0)
    first, second = np.cov(one, rowvar=False).reshape(2 * one.shape[1:]), np.cov(two, rowvar=False)
    root = _root(first)
    # tr (S1 S2)^½ = tr (S1^½ S2 S1^½)^½, which is symmetric: no complex numbers, no failing sqrtm.
    crossed = _root(root @ second.reshape(first.shape) @ root)
    distance = gap @ gap + np.trace(first) + np.trace(second.reshape(first.shape)) - 2 * np.trace(crossed)
    return max(0.0, float(distance))


def _root(matrix: np.ndarray) -> np.ndarray:
    """The square root of a symmetric matrix without negative eigenvalues (rounding apart)."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T
