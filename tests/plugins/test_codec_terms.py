"""The terms of an autoencoder's loss, each against what it must be by hand, and their sum as settings say it."""

import copy
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence
from transfuse.plugin import FitContext, Key
from transfuse.registry.plugins import Plugins
from transfuse_image.codecs.autoencoder_training import (
    AutoencoderTraining,
    comparisons,
    last_weights,
    weighed,
)
from transfuse_image.codecs.kl import KLCodec, KLSettings, divergence
from transfuse_image.codecs.quantised import codebook_use
from transfuse_image.losses.patch_gan import (
    Critic,
    adversarial_loss,
    balance,
    critic_loss,
)
from transfuse_image.losses.perceptual import Features, distance, recognition, views
from transfuse_image.losses.terms import PIXELS, Means
from transfuse_lab.datasets.digits import Digits


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """60 digits in [-1, 1]."""
    return torch.from_numpy(np.stack(list(Digits().raw("train", "image"))[:60])) * 2 - 1


@pytest.fixture(scope="module")
def features(images: torch.Tensor):
    return trained(images, 60)


def trained(images: torch.Tensor, steps: int) -> Features:
    torch.manual_seed(0)
    network = Features(1, 8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for step in range(steps):
        loss, _ = recognition(network, images, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.requires_grad_(False)


# -- pixels, KL, codes


def test_pixel_terms_are_means_over_everything() -> None:
    out, x = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[0.5, -1.0]]]])
    assert float(PIXELS["l1"](out, x)) == 1.25
    assert float(PIXELS["l2"](out, x)) == (0.25 + 4) / 2


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_the_kl_term_is_the_divergence_of_the_two_gaussians(seed: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, batch, 3, 2, 2, generator=generator, dtype=torch.float64)
    one = Independent(Normal(mean, (0.5 * log_variance).exp()), 3)
    other = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 3)
    torch.testing.assert_close(divergence(mean, log_variance), kl_divergence(one, other).mean())


def test_usage_and_perplexity_by_hand() -> None:
    use = codebook_use(torch.tensor([[0, 1], [2, 3]]), 8)
    assert use == {"usage": 0.5, "perplexity": pytest.approx(4)}
    use = codebook_use(torch.tensor([5] * 9), 10)
    assert use == {"usage": 0.1, "perplexity": pytest.approx(1)}
    use = codebook_use(torch.tensor([0, 0, 1, 2]), 4)
    assert use == {"usage": 0.75, "perplexity": pytest.approx(2**1.5)}  # entropy of 1/2, 1/4, 1/4: 1.5 bits


@pytest.mark.parametrize("levels", [(3,), (4, 4), (8, 5, 3)])
def test_every_fsq_code_is_a_vector_of_its_own_and_comes_back(
    installed: Plugins, levels: tuple[int, ...]
) -> None:
    codec = installed.choose("codec", {"name": "fsq", "levels": list(levels), "width": 8}, "codec").build()
    codec.fit([np.full((1, 4, 4), 0.5, np.float32)], 0, lambda line: None, 0.0)
    codes = torch.arange(codec.codes)[:, None, None]
    latents = codec.latents_of(codes)
    assert latents.shape == (np.prod(levels), len(levels), 1, 1)
    assert len(torch.unique(latents.flatten(1), dim=0)) == codec.codes
    for channel, level in enumerate(levels):
        assert len(torch.unique(latents[:, channel])) == level
        assert latents[:, channel].abs().max() <= 1
    inner = latents.clamp(-0.9, 0.9) if max(levels) < 5 else latents * 0.98
    assert torch.equal(codec.codes_of(torch.atanh(_unbounded(inner, levels))), codes)


def _unbounded(latents: torch.Tensor, levels: tuple[int, ...]) -> torch.Tensor:
    """tanh of an encoder's output that rounds to these latents: FSQ's bound, inverted (arXiv 2309.15505, 3.1)."""
    out = torch.empty_like(latents)
    for channel, level in enumerate(levels):
        half = (level - 1) * (1 + 1e-3) / 2
        offset = 0.5 if level % 2 == 0 else 0.0
        value = torch.tanh(
            torch.atanh(
                ((latents[:, channel] * (level // 2)).round() + offset).clamp(-half + 1e-4, half - 1e-4)
                / half
            )
            - np.arctanh(offset / half)
        )
        out[:, channel] = value
    return out


# -- perceptual


def test_equal_images_are_at_distance_0_and_distortion_adds(features, images: torch.Tensor) -> None:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    found = [float(distance(features, images, images + scale * noise)) for scale in (0.0, 0.1, 0.3, 1.0)]
    assert found[0] == 0
    assert found == sorted(found)
    assert len(set(found)) == 4
    there, back = distance(features, images, images.flip(0)), distance(features, images.flip(0), images)
    torch.testing.assert_close(there, back)


def test_the_distance_by_hand() -> None:
    """One layer, one place each: unit vectors at a right angle differ by 2, scale says nothing."""

    def layers(x: torch.Tensor) -> list[torch.Tensor]:
        return [x]

    east, north = torch.tensor([3.0, 0.0]).reshape(1, 2, 1, 1), torch.tensor([0.0, 0.5]).reshape(1, 2, 1, 1)
    assert float(distance(layers, east, north)) == pytest.approx(2, abs=1e-4)  # type: ignore[arg-type]
    assert float(distance(layers, east, 2 * east)) == pytest.approx(0, abs=1e-4)  # type: ignore[arg-type]
    half = torch.cat([east, east], dim=3), torch.cat([east, north], dim=3)
    assert float(distance(layers, *half)) == pytest.approx(1, abs=1e-4)  # type: ignore[arg-type]


def test_its_network_learns_to_tell_images_apart(images: torch.Tensor) -> None:
    def recognised(steps: int) -> float:
        return float(recognition(trained(images, steps), images, torch.Generator().manual_seed(1000))[1])

    assert recognised(60) > 1.5 * recognised(0)


def test_views_are_drawn_by_their_generator_and_are_not_the_image(images: torch.Tensor) -> None:
    one, two, three = (views(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert one.shape == images.shape
    for other in (images, three):
        assert (one - other).abs().mean() > 0.05


def test_a_place_where_nothing_is_active_has_a_slope(features) -> None:
    x = torch.zeros(1, 1, 8, 8, requires_grad=True)
    distance(features, x, torch.ones(1, 1, 8, 8)).backward()
    assert torch.isfinite(x.grad).all()  # type: ignore[arg-type]


# -- patch-GAN


def test_hinge_losses_by_hand() -> None:
    real, made = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([-2.0, 0.5])
    # real falls short of 1 by 0, 0, 1; made exceeds -1 by 0, 1.5
    assert float(critic_loss(real, made)) == pytest.approx((1 / 3 + 1.5 / 2) / 2)
    assert float(critic_loss(torch.full((4,), 1.0), torch.full((4,), -1.0))) == 0
    assert float(adversarial_loss(torch.tensor([1.0, -3.0]))) == 1


@pytest.mark.parametrize(("side", "patches"), [(8, 8), (16, 8), (32, 8), (64, 8), (128, 16)])
def test_the_critic_judges_patches(side: int, patches: int) -> None:
    critic = Critic(3, 8, side)
    x = torch.randn(2, 3, side, side)
    assert critic(x).shape == (2, 1, patches, patches)
    torch.testing.assert_close(critic(x)[:1], critic(x[:1]))  # no verdict depends on the batch


def test_the_adaptive_weight_makes_gradients_equal() -> None:
    last = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    others, adversarial = torch.tensor([3.0, 4.0]), torch.tensor([0.5, 0.0])
    weight = balance(2 * last, others, adversarial, last)
    assert float(weight) == pytest.approx(10 / 1.0, rel=1e-3)
    assert not weight.requires_grad
    assert float(balance(2 * last, others, 0 * others, last)) == 1e4


def training(codec: KLCodec, images: torch.Tensor, steps: int) -> AutoencoderTraining:
    torch.manual_seed(0)
    codec.make(1)
    codec.train()
    return AutoencoderTraining(codec, (images + 1) / 2, Key(0), steps, torch.device("cpu"))


def test_the_critic_joins_after_its_share_and_learns_what_is_made(images: torch.Tensor) -> None:
    section = {
        "width": 8,
        "batch": 8,
        "lr": 1e-9,
        "loss": {"gan": 1},
        "critic": {"width": 8, "start": 0.1, "lr": 1e-2},
    }
    made = training(KLCodec(KLSettings.model_validate(section)), images, 40)
    made.run(lambda line: None, FitContext())
    assert made.joins == 4
    real = made._batch(torch.arange(8))
    drawn = made.codec.decoder(made.codec.encoder(real)[:, :4])
    assert made.parts["critic"](real).mean() > made.parts["critic"](drawn).mean() + 0.5


def test_the_slopes_are_those_of_the_loss_as_a_whole(images: torch.Tensor) -> None:
    """A step's gradients, put together from slopes at the reconstructions, against one backward of the sum."""
    loss = {"l1": 1, "l2": 0.5, "perceptual": 1, "gan": 0.5, "kl": 1e-3}
    small = {"features": {"width": 8, "steps": 1}, "critic": {"width": 8, "start": 0}}
    settings = KLSettings.model_validate({"width": 8, "batch": 8, "loss": loss, **small})
    made = training(KLCodec(settings), images, 4)
    made._learn_features(lambda line: None)
    codec, critic = made.codec, copy.deepcopy(made.parts["critic"])
    generator = made.key.generator("codec batches", 0)
    batch = made._batch(torch.randint(len(images), (8,), generator=generator))
    latents, own = codec.bottleneck(codec.encoder(batch), generator)
    out = codec.decoder(latents)
    compared = weighed(comparisons(out, batch, loss, made.parts["features"]), loss)
    term = adversarial_loss(critic(out))
    last = last_weights(codec.decoder)
    norms = [torch.autograd.grad(each, last, retain_graph=True)[0].norm() for each in (compared, term)]
    weight = (norms[0] / (norms[1] + 1e-4)).detach()
    wanted = torch.autograd.grad(compared + weighed(own, loss) + 0.5 * weight * term, [*codec.parameters()])
    made._learn_codec(lambda line: None)
    for (name, parameter), grad in zip(codec.named_parameters(), wanted, strict=True):
        assert (parameter.grad - grad).norm() <= 1e-4 * grad.norm() + 1e-7, name
    assert made.terms["balance"] == pytest.approx(float(weight), rel=1e-4)


# -- together


@pytest.fixture(scope="module")
def fit(installed: Plugins, images: torch.Tensor) -> Callable:
    raws = list(((images + 1) / 2).numpy())

    def fitted(seed: int = 0, **section: object) -> tuple:
        lines: list[str] = []
        small = {
            "width": 8,
            "steps": 10,
            "batch": 8,
            "features": {"width": 8, "steps": 5},
            "critic": {"width": 8},
        }
        codec = installed.choose("codec", {"name": "kl", **small, **section}, "codec").build()
        codec.fit(raws, seed, lines.append)
        return codec, lines

    return fitted


ALL = {"l1": 1, "l2": 0.5, "perceptual": 1, "gan": 0.5, "kl": 1e-3}


def test_terms_are_told_by_name_and_kept_as_facts(fit: Callable) -> None:
    codec, lines = fit(loss=ALL)
    told = [
        re.findall(r"([a-z][a-z0-9]*) -?[\d.e+-]+", line.split(": ", 1)[1])
        for line in lines
        if "step" in line
    ]
    assert told[0] == ["loss", "l1", "l2", "perceptual", "kl"]
    assert told[-1] == ["loss", "l1", "l2", "perceptual", "kl", "gan", "balance", "critic"]
    terms = codec.facts()["terms"]
    assert list(terms) == told[-1]
    weighed = {"l1": 1, "l2": 0.5, "perceptual": 1, "kl": 1e-3}
    before = float(
        lines[1].split("loss ")[1].split(",")[0]
    )  # of the first steps, in which the critic has no say
    first = dict(re.findall(r"(\w+) (-?[\d.e+-]+)", lines[1].split(": ", 1)[1]))
    assert before == pytest.approx(sum(w * float(first[name]) for name, w in weighed.items()), rel=1e-2)
    assert "perceptual features" in lines[0]


def test_a_term_without_weight_is_not_computed(fit: Callable) -> None:
    codec, lines = fit(loss={"l2": 0})
    assert list(codec.facts()["terms"]) == ["loss", "l1", "kl"]
    assert not any("perceptual" in line for line in lines)
    assert list(fit(name="vq", codes=8)[0].facts()["terms"]) == ["loss", "l1", "l2", "commitment"]
    assert list(fit(name="fsq")[0].facts()["terms"]) == ["loss", "l1", "l2"]


@pytest.mark.parametrize("name", ["kl", "vq", "fsq"])
def test_all_terms_one_seed_one_codec(fit: Callable, name: str) -> None:
    loss = {key: value for key, value in ALL.items() if key != "kl"}
    one, two, three = (fit(seed, name=name, loss=loss)[0] for seed in (0, 0, 1))
    weights = one.state_dict()
    assert not any("critic" in key or "feature" in key for key in weights)
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in weights.items())
    assert not all(torch.equal(value, three.state_dict()[key]) for key, value in weights.items())
    assert one.facts() == two.facts()


@pytest.mark.parametrize("term", ["l1", "l2", "perceptual", "gan", "kl"])
def test_every_weight_matters(fit: Callable, term: str) -> None:
    plain, more = fit(loss=ALL)[0].state_dict(), fit(loss={**ALL, term: 3 * ALL[term]})[0].state_dict()
    assert not all(torch.equal(plain[key], more[key]) for key in plain)


def test_commitment_matters(fit: Callable) -> None:
    one, two = (fit(name="vq", codes=8, loss={"commitment": c})[0].state_dict() for c in (0.25, 2))
    assert not torch.equal(one["encoder.0.weight"], two["encoder.0.weight"])


def test_the_rarer_names_of_what_a_codec_says(fit: Callable) -> None:
    _, lines = fit(name="vq", codes=8)
    assert re.search(r"mean squared error [\d.]+, usage [\d.]+, perplexity [\d.]+$", lines[-1])


def test_means_begin_anew() -> None:
    means = Means()
    means.add({"a": torch.tensor(1.0)})
    means.add({"a": torch.tensor(2.0), "b": torch.tensor(5.0)})
    assert means.take() == {"a": 1.5, "b": 5.0}
    assert means.take() == {}
