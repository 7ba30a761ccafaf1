"""Heun over σ = n / s against Heun over τ = n / (s + n): mean error on a Gaussian whose score is exact.

``python bench/heun.py``: seconds, one thread. Both start from the same noise; the truth is Euler's path
through all 1000 times. docs/objectives.md quotes it.
"""

import numpy as np
import torch
from torch import Tensor
from transfuse.registry.plugins import Plugins

MEAN, COVARIANCE = np.array([0.3, -0.5]), np.array([[0.5, 0.3], [0.3, 0.4]])


def integrate(timesteps: list[tuple[float, float]], noise: Tensor, space: str | None) -> Tensor:
    """From (s, n) to (s, n) to clean data; ``space``: None is Euler."""

    def estimate(x: Tensor, s: float, n: float) -> tuple[Tensor, Tensor]:
        gain = s * COVARIANCE @ np.linalg.inv(s**2 * COVARIANCE + n**2 * np.eye(2))
        x0 = torch.from_numpy(MEAN) + (x - s * torch.from_numpy(MEAN)) @ torch.from_numpy(gain.T)
        return x0, (x - s * x0) / n

    x = noise
    for (s, n), there in zip(timesteps, [*timesteps[1:], None], strict=True):
        x0, eps = estimate(x, s, n)
        if there is None:
            return x0
        x = there[0] * x0 + there[1] * eps
        if space is not None:
            x0_there, eps_there = estimate(x, *there)
            here, scale = (s, there[0]) if space == "σ" else (s + n, sum(there))
            moved = [scale * (b / scale - a / here) / 2 for a, b in zip((s, n), there, strict=True)]
            x = x + moved[0] * (x0_there - x0) + moved[1] * (eps_there - eps)
    return x


def main() -> None:
    torch.set_num_threads(1)
    plugins = Plugins.load(only=["diffusion"])
    noise = torch.randn(256, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for schedule in ("cosine", "linear"):
        section = {"name": "ddpm", "schedule": schedule}
        objective = plugins.choose("objective", section, "objective").build()

        def timesteps(number: int, objective=objective) -> list[tuple[float, float]]:
            signal, spoil = objective.coefficients(objective.times(number))
            return list(zip(signal.tolist(), spoil.tolist(), strict=True))

        truth = integrate(timesteps(1000), noise, None)
        print(f"{schedule:8}" + "".join(f"{name:>12}" for name in ("Euler", "Heun in σ", "Heun in τ")))
        for evaluations in (9, 19, 49, 99):
            steps = (evaluations + 1) // 2
            made = (
                integrate(timesteps(evaluations), noise, None),
                *(integrate(timesteps(steps), noise, x) for x in "στ"),
            )
            errors = [float((x - truth).abs().mean()) for x in made]
            print(f"{evaluations:8}" + "".join(f"{error:12.5f}" for error in errors))


if __name__ == "__main__":
    main()
