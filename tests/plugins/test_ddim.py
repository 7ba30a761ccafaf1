"""DDIM: diffusers' scheduler step by step, a perfect predictor's data, a Gaussian's mean and covariance."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transfuse.plugins import Plugins
from transfuse_image.ddpm import DDPM
from transfuse_image.samplers import DDIM


def ddpm(installed: Plugins, **settings: object) -> DDPM:
    return installed.choose("objective", {"name": "ddpm", **settings}, "objective").build()


def ddim(installed: Plugins, **settings: object) -> DDIM:
    return installed.choose("sampler", {"name": "ddim", **settings}, "sampler").build()


def seeds(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(n)]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("target", "theirs"), [("eps", "epsilon"), ("v", "v_prediction"), ("x0", "sample")])
def test_step_by_step_as_diffusers(
    installed: Plugins, monkeypatch: pytest.MonkeyPatch, target: str, theirs: str, eta: float
) -> None:
    """On diffusers' times ("leading": 980, 960 … 0). Our own, T-1 to 0 evenly, are its "linspace", for
    which its step would leave for t - T//n, a time it does not visit: there the conventions differ."""
    from diffusers import DDIMScheduler

    schedule = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type=theirs, clip_sample=True, clip_sample_range=1.5,
        set_alpha_to_one=True, timestep_spacing="leading",
    )  # fmt: skip
    schedule.set_timesteps(50)
    monkeypatch.setattr(DDPM, "times", lambda self, n: schedule.timesteps.float())
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)) / 4

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (x @ weight).sin() * (1 + t[:, None] / 1000)

    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    own = ddim(installed, evaluations=50, eta=eta).sample(
        denoise, ddpm(installed, target=target), noise, seeds(3), bound=1.5
    )
    draws, x = seeds(3), noise
    for t in schedule.timesteps:
        fresh = torch.stack([torch.randn(4, generator=g) for g in draws]) if eta and t else torch.zeros(3, 4)
        step = schedule.step(
            denoise(x, t.float().expand(3)),
            int(t),
            x,
            eta=eta,
            use_clipped_model_output=True,
            variance_noise=fresh,
        )
        x = step.prev_sample
    torch.testing.assert_close(own, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("target", ["eps", "v", "x0"])
@pytest.mark.parametrize("evaluations", [1, 2, 50])
def test_a_perfect_predictor_gives_the_data(
    installed: Plugins, target: str, schedule: str, evaluations: int
) -> None:
    objective = ddpm(installed, target=target, schedule=schedule)
    x0 = torch.rand(5, 2, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        signal, spoil = (c.to(x.dtype).reshape(-1, 1, 1, 1) for c in objective.coefficients(t))
        return objective.target(x0, (x - signal * x0) / spoil, t)

    noise = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    made = ddim(installed, evaluations=evaluations).sample(denoise, objective, noise, seeds(5), bound=1.0)
    # One evaluation of ε at t = 999 divides float32's rounding by √ᾱ = 5e-5.
    torch.testing.assert_close(made, x0, rtol=0, atol=0.02 if target == "eps" and evaluations == 1 else 2e-3)


MEAN = np.array([0.3, -0.5])
COVARIANCE = np.array([[0.5, 0.3], [0.3, 0.4]])


@pytest.mark.parametrize(
    ("target", "eta", "count"), [("eps", 0.0, 20_000), ("v", 0.0, 20_000), ("eps", 1.0, 2000)]
)
def test_a_gaussian_with_its_exact_score(installed: Plugins, target: str, eta: float, count: int) -> None:
    """x_t of a Gaussian is a Gaussian, so E[x0 | x_t] is known: samples have the data's mean and covariance."""
    objective = ddpm(installed, target=target)

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        signal, spoil = (float(c[0]) for c in objective.coefficients(t))
        gain = signal * COVARIANCE @ np.linalg.inv(signal**2 * COVARIANCE + spoil**2 * np.eye(2))
        x0 = torch.from_numpy(MEAN) + (x - signal * torch.from_numpy(MEAN)) @ torch.from_numpy(gain.T)
        return objective.target(x0, (x - signal * x0) / spoil, t)

    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sampler = ddim(installed, evaluations=100, eta=eta, clip=False)
    made = sampler.sample(denoise, objective, noise, seeds(count), 1.0)
    slack = 0.02 if count > 2000 else 0.05
    np.testing.assert_allclose(made.mean(dim=0), MEAN, atol=slack)
    np.testing.assert_allclose(np.cov(made.numpy().T), COVARIANCE, atol=slack)


def test_a_sample_depends_on_its_own_generator_only(installed: Plugins) -> None:
    objective, sampler = ddpm(installed), ddim(installed, evaluations=5, eta=1.0)
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    denoise = lambda x, t: 0.3 * x  # noqa: E731
    whole = sampler.sample(denoise, objective, noise, seeds(3), 1.0)
    one = sampler.sample(denoise, objective, noise[2:], seeds(3)[2:], 1.0)
    torch.testing.assert_close(one[0], whole[2])


@pytest.mark.parametrize("clip", [True, False])
def test_clipping(installed: Plugins, clip: bool) -> None:
    sampler = ddim(installed, evaluations=5, clip=clip)
    made = sampler.sample(
        lambda x, t: 50 - x, ddpm(installed, target="x0"), torch.zeros(1, 2), seeds(1), 1.25
    )
    assert (float(made.abs().max()) <= 1.25) == clip


class TestGuidance:
    """u + scale·(c - u), where u is the prediction of the view without its droppable items."""

    @pytest.fixture
    def image(self, installed: Plugins) -> Callable[..., torch.nn.Module]:
        def make(scale: float) -> torch.nn.Module:
            section = {
                "kind": "image", "codec": "pixel", "guidance": {"scale": scale},
                "sampler": {"name": "ddim", "evaluations": 3, "clip": False},
                "objective": {"name": "ddpm", "target": "x0"},
            }  # fmt: skip
            built = installed.choose("modality", section, "image").build(name="image")
            built.fit([np.zeros((1, 2, 2), np.float32)], 0, lambda line: None)
            built.connect(8)
            return built

        return make

    def test_scale_1_has_one_view_and_is_the_conditional_prediction(self, image: Callable) -> None:
        modality = image(1)
        assert modality.views == 1
        made = modality.sample(lambda x, t: [torch.full_like(x, 0.25)], "2x2", seeds(2))
        torch.testing.assert_close(made, torch.full((2, 1, 2, 2), 0.25))

    @pytest.mark.parametrize("scale", [0, 0.5, 3])
    def test_others_mix_two_views(self, image: Callable, scale: float) -> None:
        modality = image(scale)
        assert modality.views == 2
        views = lambda x, t: [torch.full_like(x, 0.25), torch.full_like(x, -0.5)]  # noqa: E731
        made = modality.sample(views, "2x2", seeds(1))
        torch.testing.assert_close(made, torch.full((1, 1, 2, 2), -0.5 + scale * 0.75))

    def test_guidance_between_equal_views_changes_nothing(self, image: Callable) -> None:
        views = lambda x, t: [0.5 * x.cos(), 0.5 * x.cos()]  # noqa: E731
        torch.testing.assert_close(
            image(7).sample(views, "2x2", seeds(2)),
            image(1).sample(lambda x, t: views(x, t)[:1], "2x2", seeds(2)),
        )
