"""Where a prompt's own picture ranks among all real ones, seen from the picture that was drawn for it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from transfuse.errors import TransfuseError

AT_ONCE = 512  # real images compared together
ROUNDING = 1e-9  # mean squared error a pixel, below which two distances are the same


def own_image_ranks(
    images: Float[np.ndarray, "N c h w"],
    captions: Sequence[str],
    generated: Float[np.ndarray, "n c h w"],
    prompts: Sequence[str],
) -> Int[np.ndarray, " n"]:
    """For each generated image, how many real images are strictly nearer to it than its prompt's own.

    Nearness is the mean squared difference of pixels, clipped to [0, 1]; NaN counts as black. So 0 says that
    no real image is nearer, and twins of the own image do not push it back. Where several images have the
    prompt's caption, the nearest of them is its own.
    Raises TransfuseError where no image has a prompt's caption, or the images have two shapes.
    """
    if images.shape[1:] != generated.shape[1:]:
        raise TransfuseError(f"own_image_rank: images {generated.shape[1:]} among real {images.shape[1:]}")
    lost = sorted(set(prompts) - set(captions))
    if lost:
        raise TransfuseError(f"own_image_rank: no real image is captioned {lost[0]!r:.80}")
    drawn = _flat(generated)
    distances = np.empty((len(generated), len(images)))
    for start in range(0, len(images), AT_ONCE):
        real = _flat(images[start : start + AT_ONCE])
        squares = (drawn**2).sum(1)[:, None] + (real**2).sum(1) - 2 * drawn @ real.T
        distances[:, start : start + len(real)] = squares / real.shape[1]
    own = np.asarray(prompts)[:, None] == np.asarray(captions)
    nearest = np.where(own, distances, np.inf).min(axis=1)
    return (distances < nearest[:, None] - ROUNDING).sum(axis=1)


def _flat(images: np.ndarray) -> Float[np.ndarray, "n p"]:
    return np.nan_to_num(images.astype(np.float64), nan=0.0).clip(0, 1).reshape(len(images), -1)
