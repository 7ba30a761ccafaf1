"""Samplers × objectives: diffusers' schedulers step by step, a perfect predictor's data, a Gaussian's moments."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from transfuse.errors import TransfuseError
from transfuse.modalities.objective import Denoise, Sampler, SpanObjective

OBJECTIVES = {
    "ddpm cosine": {"name": "ddpm"},
    "ddpm linear": {"name": "ddpm", "schedule": "linear"},
    "flow": {"name": "flow"},
    "flow shifted": {"name": "flow", "shift": 3.0},
}
SAMPLERS = {
    "ancestral": {"name": "ancestral"},
    "ddim": {"name": "ddim"},
    "ddim with noise": {"name": "ddim", "eta": 0.5},
    "euler": {"name": "euler"},
    "heun": {"name": "heun"},
}
TARGETS = ("eps", "v", "x0", "velocity")
THEIRS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


@pytest.fixture(scope="module")
def made(make_objective: Callable, make_sampler: Callable):
    """``made("ddpm cosine", "eps")``: an objective; ``made("euler", evaluations=3)``: a sampler."""

    def make(name: str, target: str | None = None, **more: object):
        if target is not None:
            return make_objective(**{**OBJECTIVES[name], "target": target, **more})
        return make_sampler(**{**SAMPLERS[name], **more})

    return make


def seeds(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(n)]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


WEIGHT = normal(4, 4, seed=1) / 4


def network(x: Tensor, t: Tensor) -> Tensor:
    """Some function of x and of the share of noise."""
    return (x @ WEIGHT).sin() * (1 + t.to(x)[:, None])


def on_times(objective: SpanObjective, times: Tensor) -> SpanObjective:
    """The objective, on set times."""
    objective.times = lambda evaluations: times  # type: ignore[method-assign]
    return objective


# -- diffusers, step by step


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("target", THEIRS)
def test_ddim_is_diffusers(made, target: str, eta: float) -> None:
    """On diffusers' times ("leading": 980, 960 … 0). Our own, T-1 to 0 evenly, are its "linspace", for
    which its step would leave for t - T//n, a time it does not visit: there the conventions differ."""
    from diffusers import DDIMScheduler

    schedule = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type=THEIRS[target], clip_sample=True,
        clip_sample_range=1.5, set_alpha_to_one=True, timestep_spacing="leading",
    )  # fmt: skip
    schedule.set_timesteps(50)
    noise = normal(3, 4)
    objective = on_times(made("ddpm cosine", target), schedule.timesteps.float())
    own = made("ddim", eta=eta).sample(lambda x, t: network(x, t / 1000), objective, noise, seeds(3), 1.5)
    draws, x = seeds(3), noise
    for t in schedule.timesteps:
        fresh = torch.stack([torch.randn(4, generator=g) for g in draws]) if eta and t else torch.zeros(3, 4)
        x = schedule.step(
            network(x, t.float().expand(3) / 1000), int(t), x,
            eta=eta, use_clipped_model_output=True, variance_noise=fresh,
        ).prev_sample  # fmt: skip
    torch.testing.assert_close(own, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("target", THEIRS)
@pytest.mark.parametrize("evaluations", [1000, 20])
def test_ancestral_is_diffusers_ddpm(
    made, monkeypatch: pytest.MonkeyPatch, target: str, schedule: str, clip: bool, evaluations: int
) -> None:
    """On our own times, all of them and few: the posterior's mean and variance, x0 clipped or not."""
    from diffusers import DDPMScheduler
    from diffusers.schedulers import scheduling_ddpm

    theirs = DDPMScheduler(
        beta_schedule={"cosine": "squaredcos_cap_v2", "linear": "linear"}[schedule],
        prediction_type=THEIRS[target], clip_sample=clip, clip_sample_range=1.5,
    )  # fmt: skip
    if schedule == "cosine" and target == "eps" and not clip:
        pytest.skip("diffusers' float32 ᾱ at t = 999 is off by 1e-4, which 1/√ᾱ makes 1")
    objective = made(f"ddpm {schedule}", target)
    times = objective.times(evaluations)
    theirs.set_timesteps(timesteps=times.int().tolist())
    noise, draws = normal(2, 4), seeds(2)
    monkeypatch.setattr(
        scheduling_ddpm,
        "randn_tensor",
        lambda shape, **_: torch.stack([torch.randn(shape[1:], generator=g) for g in draws]),
    )
    x = noise
    for t in theirs.timesteps:
        x = theirs.step(network(x, t.float().expand(2) / 1000), int(t), x).prev_sample
    sampler = made("ancestral", evaluations=evaluations, clip=clip)
    own = sampler.sample(lambda x, t: network(x, t / 1000), objective, noise, seeds(2), 1.5)
    torch.testing.assert_close(own, x, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("evaluations", [10, 100])
@pytest.mark.parametrize("target", ["eps", "v"])
def test_euler_on_ddpm_is_diffusers(made, target: str, evaluations: int) -> None:
    """In their coordinates x / signal, from the same noise."""
    from diffusers import EulerDiscreteScheduler

    theirs = EulerDiscreteScheduler(
        beta_schedule="linear", beta_start=1e-4, beta_end=0.02, prediction_type=THEIRS[target]
    )
    objective = made("ddpm linear", target)
    times = objective.times(evaluations)
    theirs.set_timesteps(timesteps=times.tolist())
    noise = normal(3, 4)
    x = noise / float(objective.coefficients(times[:1])[0])
    for t in theirs.timesteps:
        seen = theirs.scale_model_input(x, t)
        x = theirs.step(network(seen, t.expand(3) / 1000), t, x).prev_sample
    sampler = made("euler", evaluations=evaluations, clip=False)
    own = sampler.sample(lambda x, t: network(x, t.float() / 1000), objective, noise, seeds(3), 1.0)
    torch.testing.assert_close(own, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_on_flow_is_diffusers(made, shift: float) -> None:
    """Our times are the pipelines' sigmas, 1 down to 1/n, before the shift that the scheduler applies."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / 30, 30).tolist())
    objective = made("flow", "velocity", shift=shift)
    torch.testing.assert_close(objective.times(30).float(), theirs.sigmas[:-1])
    x = noise = normal(3, 4)
    for t in theirs.timesteps:
        x = theirs.step(network(x, t.expand(3) / 1000), t, x).prev_sample
    own = made("euler", evaluations=30, clip=False).sample(network, objective, noise, seeds(3), 1.0)
    torch.testing.assert_close(own, x, rtol=1e-5, atol=1e-5)


def diffusers_heun(taus: Tensor, velocity: Denoise, noise: Tensor, shift: float = 1.0) -> Tensor:
    """diffusers' Heun on a flow's times, ``velocity(x, tau)``; the last step leads to 0."""
    from diffusers import FlowMatchHeunDiscreteScheduler

    theirs = FlowMatchHeunDiscreteScheduler(shift=shift)
    theirs.set_timesteps(len(taus))
    theirs.sigmas = torch.cat([taus[:1], taus[1:].repeat_interleave(2), torch.zeros(1)]).float()
    theirs.timesteps = 1000 * theirs.sigmas[:-1]
    x = noise
    for i, t in enumerate(theirs.timesteps):
        theirs._step_index = i
        x = theirs.step(velocity(x, t.expand(len(x)) / 1000), t, x).prev_sample
    return x


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_heun_on_flow_is_diffusers(made, shift: float) -> None:
    objective, noise = made("flow", "velocity", shift=shift), normal(3, 4)
    theirs = diffusers_heun(objective.times(15), network, noise)
    own = made("heun", evaluations=29, clip=False).sample(network, objective, noise, seeds(3), 1.0)
    torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_heun_on_ddpm_is_diffusers_on_the_straight_path(made, schedule: str) -> None:
    """x / (s + n) of DDPM is a flow at τ = n / (s + n)."""
    objective, noise = made(f"ddpm {schedule}", "velocity"), normal(3, 4)
    signal, spoil = (c.float() for c in objective.coefficients(objective.times(15)))
    scale, taus = signal + spoil, spoil / (signal + spoil)

    def velocity(y: Tensor, tau: Tensor) -> Tensor:
        at = int((taus - tau[0]).abs().argmin())
        return network(scale[at] * y, tau)

    def same(x: Tensor, t: Tensor) -> Tensor:
        at = int((objective.times(15) - t[0]).abs().argmin())
        return network(x, taus[at].expand(3))

    own = made("heun", evaluations=29, clip=False).sample(same, objective, noise, seeds(3), 1.0)
    theirs = diffusers_heun(taus, velocity, noise / scale[0])
    torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


# -- what must come out


def knowing(objective: SpanObjective, x0: Tensor) -> Denoise:
    """A perfect predictor: it knows the data."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        signal, noise = (c.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1)) for c in objective.coefficients(t))
        return objective.target(x0, (x - signal * x0) / noise, t)

    return denoise


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("evaluations", [1, 2, 31])
def test_a_perfect_predictor_gives_the_data(
    made, name: str, target: str, sampler: str, evaluations: int
) -> None:
    objective = made(name, target)
    x0 = torch.rand(5, 2, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    chosen = made(sampler, evaluations=evaluations)
    drawn = chosen.sample(knowing(objective, x0), objective, normal(5, 2, 3, 3, seed=1), seeds(5), bound=1.0)
    # One evaluation of ε at DDPM's t = 999 divides float32's rounding by √ᾱ = 5e-5.
    last = target == "eps" and evaluations == 1
    torch.testing.assert_close(drawn, x0, rtol=0, atol=0.02 if last else 2e-3)


MEAN = np.array([0.3, -0.5])
COVARIANCE = np.array([[0.5, 0.3], [0.3, 0.4]])


def gaussian(objective: SpanObjective) -> Denoise:
    """The best possible predictor for Gaussian data: E[x0 | x_t] is known, so all predictions are."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        signal, noise = (float(c[0]) for c in objective.coefficients(t))
        gain = signal * COVARIANCE @ np.linalg.inv(signal**2 * COVARIANCE + noise**2 * np.eye(2))
        x0 = torch.from_numpy(MEAN) + (x - signal * torch.from_numpy(MEAN)) @ torch.from_numpy(gain.T)
        return objective.target(x0, (x - signal * x0) / noise, t)

    return denoise


CASES = [(sampler, target) for sampler in ("ddim", "euler", "heun") for target in TARGETS]
CASES += [("ancestral", "v"), ("ddim with noise", "v")]  # slow: a draw a step and sample


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(("sampler", "target"), CASES)
def test_a_gaussian_with_its_exact_score(made, name: str, target: str, sampler: str) -> None:
    """Samples have the data's mean and covariance, to 4.5 standard errors of n samples: √(Σii/n) and
    √((Σii·Σjj + Σij²)/n), and 0.01 for 100 steps in place of infinitely many."""
    draws = sampler in ("ancestral", "ddim with noise")
    n = 300 if draws else 10_000
    objective = made(name, target)
    chosen = made(sampler, evaluations=100, clip=False)
    noise = normal(n, 2, dtype=torch.float64)
    drawn = chosen.sample(gaussian(objective), objective, noise, seeds(n) if draws else [], 1.0)
    variance = np.diag(COVARIANCE)
    error = np.abs(drawn.mean(dim=0).numpy() - MEAN)
    assert (error < 4.5 * np.sqrt(variance / n) + 0.01).all(), error
    spread = np.abs(np.cov(drawn.numpy().T) - COVARIANCE)
    assert (spread < 4.5 * np.sqrt((np.outer(variance, variance) + COVARIANCE**2) / n) + 0.01).all(), spread


@pytest.mark.parametrize("name", ["ddpm cosine", "flow shifted"])
def test_heuns_error_falls_with_the_square_of_the_step_and_eulers_with_the_step(made, name: str) -> None:
    """Against the same path in very small steps: twice as many steps, a half and about a quarter."""
    objective = made(name, "v")
    noise = normal(16, 2, dtype=torch.float64)

    def draw(sampler: str, evaluations: int) -> Tensor:
        chosen = made(sampler, evaluations=evaluations, clip=False)
        return chosen.sample(gaussian(objective), objective, noise, [], 1.0)

    truth = draw("heun", 399)
    counts = (6, 12) if name.startswith("ddpm") else (20, 40)
    falls = {}
    for sampler, each in (("euler", 1), ("heun", 2)):
        one, two = (float((draw(sampler, each * n) - truth).abs().mean()) for n in counts)
        falls[sampler] = one / two
    assert 1.5 < falls["euler"] < 2.6, falls
    assert falls["heun"] > 2.7, falls


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_euler_is_ddim_without_noise(made, name: str, target: str, clip: bool) -> None:
    """In σ-space and in a flow's t alike: both keep x0 and ε."""
    objective, noise = made(name, target), normal(3, 4)

    def draw(sampler: str) -> Tensor:
        chosen = made(sampler, evaluations=11, clip=clip)
        return chosen.sample(
            lambda x, t: network(x, objective.share(t).float()), objective, noise, seeds(3), 1
        )

    torch.testing.assert_close(draw("euler"), draw("ddim"), rtol=0, atol=0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_ancestral_is_ddim_with_all_its_noise(made, name: str) -> None:
    objective, noise = made(name, "v"), normal(3, 4)
    one, two = (
        made(sampler, evaluations=11, **more).sample(
            lambda x, t: network(x, objective.share(t).float()), objective, noise, seeds(3), 1.0
        )
        for sampler, more in (("ancestral", {}), ("ddim", {"eta": 1.0}))
    )
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert not torch.allclose(one, made("ddim", evaluations=11).sample(
        lambda x, t: network(x, objective.share(t).float()), objective, noise, seeds(3), 1.0))  # fmt: skip


@pytest.mark.parametrize("name", ["euler", "ancestral", "heun"])
def test_only_ddim_is_told_its_share_of_noise(make_sampler: Callable, name: str) -> None:
    with pytest.raises(TransfuseError, match=r"sampler.eta: unknown key"):
        make_sampler(name, eta=0.5)


# -- manners


@pytest.mark.parametrize("name", ["ddpm cosine", "flow"])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("evaluations", [1, 2, 3, 4, 7, 12])
def test_evaluations_are_the_calls_of_the_model(made, name: str, sampler: str, evaluations: int) -> None:
    objective, calls = made(name, "v"), []
    chosen = made(sampler, evaluations=evaluations)
    chosen.sample(lambda x, t: calls.append(t) or x, objective, normal(2, 4), seeds(2), 1.0)
    assert len(calls) == evaluations
    assert all(t.shape == (2,) for t in calls)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim with noise"])
def test_a_sample_depends_on_its_own_generator_only(made, sampler: str) -> None:
    objective, chosen, noise = made("ddpm cosine", "eps"), made(sampler, evaluations=5), normal(3, 4)
    whole = chosen.sample(lambda x, t: 0.3 * x, objective, noise, seeds(3), 1.0)
    one = chosen.sample(lambda x, t: 0.3 * x, objective, noise[2:], seeds(3)[2:], 1.0)
    torch.testing.assert_close(one[0], whole[2])


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_clipping(made, sampler: str, clip: bool) -> None:
    chosen: Sampler = made(sampler, evaluations=5, clip=clip)
    drawn = chosen.sample(lambda x, t: 50 - x, made("ddpm cosine", "x0"), torch.zeros(1, 2), seeds(1), 1.25)
    assert (float(drawn.abs().max()) <= 1.25) == clip
