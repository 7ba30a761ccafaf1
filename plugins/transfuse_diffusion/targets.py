"""What a diffusion model predicts: ε, x0, v or the velocity, each a linear form of x0 and ε.

y = a·x0 + b·ε, and x_t = s·x0 + n·ε (s: signal, n: noise). The two equations give x0 back from a
prediction, with the determinant d = s·b - n·a:

| target   | y                | a  | b | d       | source |
|----------|------------------|----|---|---------|--------|
| eps      | ε                | 0  | 1 | s       | arXiv 2006.11239 |
| x0       | x0               | 1  | 0 | -n      | |
| v        | s·ε - n·x0       | -n | s | s² + n² | arXiv 2202.00512, appendix D |
| velocity | ε - x0, dx/dt of the straight path | -1 | 1 | s + n | arXiv 2209.03003, 2210.02747 |
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transfuse.plugin import broadcast_like

Target = Literal["eps", "v", "x0", "velocity"]


def linear_form(
    target: Target, signal: Float[Tensor, " B"], noise: Float[Tensor, " B"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """(a, b) of the target."""
    zero, one = torch.zeros_like(signal), torch.ones_like(signal)
    return {
        "eps": (zero, one),
        "x0": (one, zero),
        "v": (-noise, signal),
        "velocity": (-one, one),
    }[target]


def determinant(
    target: Target, signal: Float[Tensor, " B"], noise: Float[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """d: an error δ of the prediction is an error of n/d·δ in x0 and of s/d·δ in ε, of opposite signs."""
    a, b = linear_form(target, signal, noise)
    return signal * b - noise * a


def make_target(
    target: Target,
    x0: Float[Tensor, "B ..."],
    eps: Float[Tensor, "B ..."],
    signal: Float[Tensor, " B"],
    noise: Float[Tensor, " B"],
) -> Float[Tensor, "B ..."]:
    """y: what a perfect model predicts."""
    if target in ("eps", "x0"):
        return eps if target == "eps" else x0
    a, b = (broadcast_like(c, x0) for c in linear_form(target, signal, noise))
    return a * x0 + b * eps


def x0_from(
    target: Target,
    x_t: Float[Tensor, "B ..."],
    prediction: Float[Tensor, "B ..."],
    signal: Float[Tensor, " B"],
    noise: Float[Tensor, " B"],
) -> Float[Tensor, "B ..."]:
    """The x0 of a prediction: (b·x_t - n·y) / d. Undefined for ε where the signal is 0."""
    if target == "x0":
        return prediction
    _, b = (broadcast_like(c, x_t) for c in linear_form(target, signal, noise))
    n, d = (broadcast_like(c, x_t) for c in (noise, determinant(target, signal, noise)))
    return (b * x_t - n * prediction) / d
