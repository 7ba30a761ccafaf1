"""DDPM: its schedules are other people's, its targets and estimates are inverse, its times are in range."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transfuse.randomness import Key
from transfuse_diffusion.ddpm import alpha_bar

ORACLE = json.loads((Path(__file__).parents[2] / "data/oracles/schedules.json").read_text())
TARGETS = ("eps", "v", "x0")


@pytest.mark.parametrize(
    ("name", "oracle"), [("cosine", "ddpm_squaredcos_cap_v2"), ("linear", "ddpm_linear")]
)
def test_schedules_are_the_oracles(name: str, oracle: str) -> None:
    own = alpha_bar(name, ORACLE[oracle]["T"])
    for t, value in ORACLE[oracle]["alpha_bar_at"].items():
        assert own[int(t)] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(("name", "theirs"), [("cosine", "squaredcos_cap_v2"), ("linear", "linear")])
@pytest.mark.parametrize("steps", [1000, 50])
def test_schedules_are_diffusers(name: str, theirs: str, steps: int) -> None:
    """Where conventions agree: diffusers' linear schedule does not stretch to another T, so T = 1000 there."""
    from diffusers import DDPMScheduler

    if theirs == "linear":
        steps = 1000
    schedule = DDPMScheduler(num_train_timesteps=steps, beta_schedule=theirs)
    # diffusers keeps float32 betas; the last ᾱ of a cosine is a product of a thousand of them.
    np.testing.assert_allclose(alpha_bar(name, steps), schedule.alphas_cumprod.numpy(), rtol=5e-4)


def test_noising_is_diffusers(make_objective: Callable) -> None:
    from diffusers import DDPMScheduler

    schedule = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    x0, eps = torch.randn(2, 6, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 1, 250, 500, 998, 999])
    objective = make_objective("ddpm")
    torch.testing.assert_close(
        objective.noised(x0, eps, t.float()), schedule.add_noise(x0, eps, t), atol=1e-4, rtol=1e-4
    )
    velocity = make_objective("ddpm", target="v").target(x0, eps, t.float())
    torch.testing.assert_close(velocity, schedule.get_velocity(x0, eps, t), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [2, 10, 1000, 4000])
def test_schedules_fall_from_nearly_clean_to_nearly_noise(schedule: str, steps: int) -> None:
    kept = alpha_bar(schedule, steps)
    assert len(kept) == steps
    assert (np.diff(kept) < 0).all()
    assert 0 < kept[-1] < 1e-2
    if steps >= 1000:
        assert kept[0] > 0.999


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("target", TARGETS)
def test_target_and_estimate_are_inverse(make_objective: Callable, target: str, schedule: str) -> None:
    objective = make_objective("ddpm", target=target, schedule=schedule)
    x0, eps = torch.randn(2, 1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.arange(1000.0)
    x_t = objective.noised(x0, eps, t)
    back = objective.estimate(x_t, objective.target(x0, eps, t), t)
    torch.testing.assert_close(back, x0, rtol=1e-6, atol=1e-6)


def test_variance_is_kept(make_objective: Callable) -> None:
    signal, noise = make_objective("ddpm").coefficients(torch.arange(1000.0))
    torch.testing.assert_close(signal**2 + noise**2, torch.ones(1000, dtype=torch.float64))


def test_the_noise_limit(make_objective: Callable) -> None:
    """0 … 499 where later items are predicted from the image, 0 … 999 elsewhere (paper, section 4.3.4)."""
    objective = make_objective("ddpm")
    for is_context, last in ((True, 499), (False, 999)):
        drawn = [objective.draw_time(Key(0).generator("t", i), is_context) for i in range(20_000)]
        assert (min(drawn), max(drawn)) == (0, last)
        shares = np.histogram(drawn, bins=10, range=(0, last + 1))[0] / len(drawn)
        np.testing.assert_allclose(shares, 0.1, atol=0.01)
    free = make_objective("ddpm", noise_limit=None)
    assert max(free.draw_time(Key(0).generator("t", i), True) for i in range(3000)) > 900
    short = make_objective("ddpm", steps=10)
    assert {short.draw_time(Key(0).generator("t", i), True) for i in range(300)} == set(map(float, range(10)))


def test_a_document_gives_its_spans_times_by_what_follows(small_recipe, fitted, shapes) -> None:
    """Image first: below 500. Caption first: anywhere. An image that is only followed by context: anywhere."""
    from dataclasses import replace

    from transfuse.sequences.batch import collate
    from transfuse.sequences.rows import join

    data = shapes()
    model = fitted(small_recipe(), data)
    plain = data.document("train", 0)
    forms = {
        "caption first": plain,
        "image first": replace(plain, items=plain.items[::-1]),
        "context after": replace(plain, items=(plain.items[1], replace(plain.items[0], loss=False))),
    }
    for form, document in forms.items():
        times = []
        row = join([model.layout.sequence(document, visit=visit) for visit in range(400)])
        (group,) = collate(row, model.modalities, Key(0), model.settings.rope).groups
        times = group.t.tolist()
        assert len(set(times)) > 200, form
        assert (max(times) < 500) == (form == "image first"), form


def test_two_spans_in_a_batch_have_their_own_time_and_noise(make_objective: Callable) -> None:
    objective = make_objective("ddpm")
    x0 = torch.zeros(3, 1, 4, 4)
    x_t, t, eps = objective.corrupt(x0, [Key(0).generator("noise", i) for i in range(3)], [False] * 3)
    assert len(set(t.tolist())) == 3
    one, _, other = objective.corrupt(x0[1:2], [Key(0).generator("noise", 1)], [False])
    torch.testing.assert_close(one[0], x_t[1])
    torch.testing.assert_close(other[0], eps[1])


@pytest.mark.parametrize("evaluations", [1, 2, 50, 999, 1000])
def test_times_go_from_noise_to_data(make_objective: Callable, evaluations: int) -> None:
    times = make_objective("ddpm").times(evaluations)
    assert len(times) == evaluations
    assert times[0] == 999
    assert evaluations == 1 or times[-1] == 0
    assert (times == times.round()).all()
    assert (times.diff() < 0).all()
