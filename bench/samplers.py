"""Which sampler suits which objective, after short and long training: how far what is drawn is off the data.

``python bench/samplers.py``: minutes, one thread. Data are waves of 16 values at any phase, of one or three turns; the
model is an MLP of 128 units. *Off* is the root mean squared distance from what is drawn to the nearest wave, a value,
as a mean over three seeds of training. docs/objectives.md quotes it.
"""

import math

import torch
from torch import Tensor, nn
from transfuse.modalities.objective import Sampler, SpanObjective
from transfuse.registry.plugins import Plugins

POINTS, BATCH, DRAWN, BOUND, TIME = 16, 64, 256, 1.5, 32
SEEDS = (0, 1, 2)
OBJECTIVES = {
    "ddpm eps": {"name": "ddpm"},
    "ddpm v": {"name": "ddpm", "target": "v"},
    "flow": {"name": "flow"},
}
SAMPLERS = {
    f"{name} {evaluations}": {"name": name, "evaluations": evaluations}
    for name, evaluations in (
        ("euler", 25), ("euler", 100), ("heun", 49), ("ancestral", 25), ("ancestral", 100), ("ancestral", 250),
    )
}  # fmt: skip
STEPS = (300, 2000)


def waves(count: int, generator: torch.Generator) -> Tensor:
    """float32 ``[count, POINTS]``."""
    turns = torch.tensor([1.0, 3.0])[torch.randint(2, (count,), generator=generator)]
    phase = torch.rand(count, generator=generator)
    return torch.sin(2 * math.pi * (turns[:, None] * torch.arange(POINTS) / POINTS + phase[:, None]))


def off(drawn: Tensor) -> float:
    """Root mean squared distance to the nearest wave, a value."""
    least = torch.full((len(drawn),), torch.inf)
    for turns in (1, 3):
        angle = 2 * math.pi * turns * torch.arange(POINTS) / POINTS
        basis = torch.stack([angle.sin(), angle.cos()]) * math.sqrt(2 / POINTS)
        inside = drawn @ basis.T
        nearest = nn.functional.normalize(inside) * math.sqrt(POINTS / 2)
        least = torch.minimum(least, (drawn - nearest @ basis).square().mean(1))
    return float(least.mean().sqrt())


class Net(nn.Module):
    """Values and a time to a prediction of their shape."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(POINTS + TIME, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, POINTS)
        )

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        frequencies = torch.exp(-math.log(1e4) * torch.arange(TIME // 2) / (TIME // 2))
        angles = 1000 * share[:, None] * frequencies
        return self.layers(torch.cat([x, angles.sin(), angles.cos()], dim=1))


def trained(objective: SpanObjective, seed: int, steps: int) -> Net:
    """By Adam at 1e-3 that falls to nothing."""
    torch.manual_seed(seed)
    net, draw = Net(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / steps)
        generators = [torch.Generator().manual_seed(hash((seed, step, i))) for i in range(BATCH)]
        x_t, t, target = objective.corrupt(waves(BATCH, draw), generators, [False] * BATCH)
        loss = objective.score(net(x_t, objective.share(t).float()), target, t)
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
    return net


def drawn(net: Net, objective: SpanObjective, sampler: Sampler, seed: int) -> Tensor:
    """float32 ``[DRAWN, POINTS]``."""
    generators = [torch.Generator().manual_seed(1000 * seed + i) for i in range(DRAWN)]
    noise = torch.stack([torch.randn(POINTS, generator=one) for one in generators])
    with torch.no_grad():
        return sampler.sample(
            lambda x, t: net(x, objective.share(t).float()), objective, noise, generators, BOUND
        )


def main() -> None:
    torch.set_num_threads(1)
    plugins = Plugins.load(only=["diffusion"])
    samplers = {name: plugins.choose("sampler", section).build() for name, section in SAMPLERS.items()}
    print(f"{'':18}" + "".join(f"{name:>14}" for name in samplers))
    for name, section in OBJECTIVES.items():
        objective = plugins.choose("objective", section).build()
        for steps in STEPS:
            nets = [trained(objective, seed, steps) for seed in SEEDS]
            means = [
                sum(off(drawn(net, objective, one, seed)) for seed, net in zip(SEEDS, nets, strict=True))
                / len(SEEDS)
                for one in samplers.values()
            ]
            print(f"{name:10}{steps:6}  " + "".join(f"{mean:14.3f}" for mean in means), flush=True)


if __name__ == "__main__":
    main()
