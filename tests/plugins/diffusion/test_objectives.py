"""Corruption × target × loss: inverse maps, weights that mean what they say, times drawn as they should be."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.generation.decoding import generate
from transfuse.randomness import Key
from transfuse.registry.plugins import Plugins
from transfuse.training.trainer import Trainer
from transfuse_diffusion.objective import Diffusion

ORACLE = json.loads((Path(__file__).parents[2] / "data/oracles/schedules.json").read_text())
TARGETS = ("eps", "v", "x0", "velocity")
TIMES = {
    "ddpm": torch.tensor([0.0, 1.0, 250.0, 998.0, 999.0]),
    "flow": torch.tensor([1e-3, 0.2, 0.5, 0.9, 0.999]),
}


def pair(n: int) -> Tensor:
    """x0 and ε, in float64."""
    return torch.randn(2, n, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def column(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", TIMES)
def test_target_and_estimate_are_inverse(make_objective: Callable, name: str, target: str) -> None:
    objective, t = make_objective(name, target=target), TIMES[name]
    x0, eps = pair(len(t))
    x_t = objective.noised(x0, eps, t)
    signal, noise = (column(c) for c in objective.coefficients(t))
    torch.testing.assert_close(x_t, signal * x0 + noise * eps)
    by_hand = {"eps": eps, "x0": x0, "v": signal * eps - noise * x0, "velocity": eps - x0}[target]
    torch.testing.assert_close(objective.target(x0, eps, t), by_hand)
    torch.testing.assert_close(objective.estimate(x_t, by_hand, t), x0, rtol=1e-6, atol=1e-6)


def test_velocity_is_the_slope_of_the_straight_path(make_objective: Callable) -> None:
    objective = make_objective("flow")
    x0, eps = pair(1)
    one, two = (objective.noised(x0, eps, torch.tensor([t])) for t in (0.25, 0.75))
    torch.testing.assert_close((two - one) / 0.5, objective.target(x0, eps, torch.tensor([0.5])))


@pytest.mark.parametrize("name", TIMES)
def test_share_of_noise_goes_from_clean_to_noise(make_objective: Callable, name: str) -> None:
    objective = make_objective(name)
    clean, last = torch.tensor([objective.clean_time]), objective.times(10)[:1]
    assert float(objective.share(clean)) == 0
    assert 0.99 < float(objective.share(last)) <= 1
    shares = objective.share(objective.times(10))
    assert (shares.diff() < 0).all()
    assert (objective.coefficients(objective.times(10))[1].diff() < 0).all()
    assert float(objective.coefficients(last)[1]) == pytest.approx(1, abs=1e-6)


# -- loss and weight


@pytest.mark.parametrize("loss", ["mse", "l1"])
@pytest.mark.parametrize("weight", ["none", "velocity", "min-snr"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", TIMES)
def test_a_perfect_prediction_has_loss_0(
    make_objective: Callable, name: str, target: str, weight: str, loss: str
) -> None:
    objective, t = make_objective(name, target=target, weight=weight, loss=loss), TIMES[name]
    wanted = objective.target(*pair(len(t)), t)
    assert float(objective.score(wanted, wanted, t).sum) == 0
    wrong = objective.score(wanted + 1, wanted, t)
    assert wrong.count == len(t)
    assert float(wrong.sum) > 0.01


@pytest.mark.parametrize("loss", ["mse", "l1"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", TIMES)
def test_weights_make_the_loss_another_quantitys(
    make_objective: Callable, name: str, target: str, loss: str
) -> None:
    """``velocity``: the error of the velocity that the prediction implies. ``min-snr``: of its x0, times
    min(SNR, 5), arXiv 2303.09556, whose weights for ε and v follow. Where no floor is reached."""
    t = TIMES[name][1:-2]
    x0, eps = pair(len(t))
    plain = make_objective(name, target=target)
    signal, noise = plain.coefficients(t)
    x_t, wanted = plain.noised(x0, eps, t), plain.target(x0, eps, t)
    guess = wanted + 0.1 * eps.flip(0)
    implied = plain.estimate(x_t, guess, t)
    velocity = (x_t - column(signal) * implied) / column(noise) - implied
    measure = torch.abs if loss == "l1" else torch.square
    by_velocity = make_objective(name, target=target, weight="velocity", loss=loss).score(guess, wanted, t)
    if name == "flow" or target != "x0":  # DDPM's noise at t = 1 is under the floor
        expected = measure(velocity - (eps - x0)).flatten(1).mean(dim=1).sum()
        torch.testing.assert_close(by_velocity.sum, expected)
    capped = (signal / noise).square().clamp(max=5)
    factor = capped.sqrt() if loss == "l1" else capped
    by_snr = make_objective(name, target=target, weight="min-snr", loss=loss).score(guess, wanted, t)
    torch.testing.assert_close(
        by_snr.sum, (factor * measure(implied - x0).flatten(1).mean(dim=1)).sum(), rtol=1e-5, atol=1e-8
    )


def test_x0_with_the_velocitys_weight_is_tuna_2s_loss(make_objective: Callable) -> None:
    """Its t counts the other way: 1 is data. The oracle's mean is over all elements."""
    told = ORACLE["tuna2_jit_loss"]
    x0, guess = (torch.tensor(told[key], dtype=torch.float64) for key in ("x0", "pred"))
    objective = make_objective("flow", target="x0", weight="velocity")
    loss = objective.score(guess, x0, 1 - torch.tensor(told["t"]))
    assert loss.mean == pytest.approx(told["loss"], rel=1e-4)


# -- times


def drawn(objective: Diffusion, is_context: bool = False, n: int = 4000) -> np.ndarray:
    return np.array([objective.draw_time(Key(0).generator("t", i), is_context) for i in range(n)])


@pytest.mark.parametrize(
    ("settings", "law"),
    [
        ({}, stats.uniform()),
        ({"time": "logit-normal", "mean": 0.5, "std": 1.5}, (stats.norm(0.5, 1.5), lambda t: np.log(t / (1 - t)))),
        ({"time": "beta"}, stats.beta(1.5, 1)),
        ({"time": "beta", "a": 2, "b": 5}, stats.beta(2, 5)),
        ({"shift": 3.0}, (stats.uniform(), lambda t: t / (3 - 2 * t))),
    ],
)  # fmt: skip
def test_times_follow_their_law(make_objective: Callable, settings: dict, law) -> None:
    law, back = law if isinstance(law, tuple) else (law, lambda t: t)
    objective = make_objective("flow", **settings)
    assert stats.kstest(back(drawn(objective)), law.cdf).pvalue > 0.01
    half = drawn(objective, is_context=True)
    np.testing.assert_allclose(half, drawn(objective) / 2)  # the noise limit
    np.testing.assert_array_equal(
        drawn(make_objective("flow", noise_limit=None, **settings), is_context=True), 2 * half
    )


@pytest.mark.parametrize("mu", ORACLE["showo2_time_shift"]["mu"])
def test_the_shift_is_show_o2s(make_objective: Callable, mu: float) -> None:
    """Its t counts the other way, and its shift is e to the mu."""
    told = ORACLE["showo2_time_shift"]
    clean = np.array(told["t"])
    for shift in (np.exp(mu),):
        t = shift * (1 - clean) / (1 + (shift - 1) * (1 - clean))
        np.testing.assert_allclose(1 - t, told["shifted"][str(mu)], rtol=1e-5)
    times = make_objective("flow", shift=float(np.exp(mu))).times(10)
    even = torch.linspace(1, 0, 11, dtype=torch.float64)[:-1]
    torch.testing.assert_close(times, np.exp(mu) * even / (1 + (np.exp(mu) - 1) * even))


@pytest.mark.parametrize(
    "settings", [{"shift": 0}, {"std": 0}, {"a": 0}, {"noise_limit": 1.5}, {"time": "poisson"}, {"gamma": 0}]
)
def test_settings_that_cannot_be(diffusion: Plugins, settings: dict) -> None:
    with pytest.raises(TransfuseError, match=f"objective.{next(iter(settings))}"):
        diffusion.choose("objective", {"name": "flow", **settings}, "objective")


@pytest.mark.parametrize("target", ["velocity", "eps"])
def test_a_flow_trains_and_is_drawn_from(
    small_recipe: Callable, fitted: Callable, shapes: Callable, target: str
) -> None:
    """End to end, with two views of guidance in an interval."""
    data = shapes()
    views = "image.guidance.views=[{drop: [text], scale: 2}, {scale: 1.5}]"
    recipe = small_recipe(
        "transfusion", "image.objective=flow", f"image.objective.target={target}", "image.objective.time=beta",
        "image.objective.shift=2", "image.sampler=heun", "image.sampler.evaluations=5", views,
        "image.guidance.interval=[0.2, 0.9]", "image.guidance.rescale=0.5", "train.lr=1e-2",
    )  # fmt: skip
    trainer = Trainer(recipe, fitted(recipe, data), data)
    losses = [trainer.step()["loss_image"] for _ in range(12)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    (made,) = generate(trainer.model, [Document((Item("text", "up", droppable=True),))], want="image", seed=1)
    assert made.items[-1].data.shape == (1, 8, 8)
    assert np.isfinite(made.items[-1].data).all()
