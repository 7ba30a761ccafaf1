"""The VQ modality: codes in row-major order, chosen greedily, by temperature, from the top, and guided."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transfuse.documents import Item, View
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins

IMAGES = [np.random.default_rng(i).uniform(0, 1, (1, 4, 8)).astype(np.float32) for i in range(12)]
CODEC = {"name": "vq", "codes": 8, "width": 8, "steps": 5, "batch": 4}


@pytest.fixture
def make(installed: Plugins) -> Callable[..., torch.nn.Module]:
    def built(**settings: object) -> torch.nn.Module:
        section = {"kind": "vq", "codec": CODEC, **settings}
        return installed.choose("modality", section, "image").build(name="image")

    return built


def drawn(modality, logits: torch.Tensor, n: int = 2000) -> np.ndarray:
    """Shares of the ids drawn."""
    generator = torch.Generator().manual_seed(0)
    chosen = [modality.choose(logits, generator, 1.0) for _ in range(n)]
    return np.bincount(chosen, minlength=logits.shape[1]) / n


def test_codes_stand_in_row_major_order(make: Callable) -> None:
    modality = make()
    modality.fit(IMAGES, 0, lambda line: None)
    assert modality.labels() == ("2x4",)
    payload = modality.encode(IMAGES[0])
    assert payload.shape == (2, 4)
    grid = np.arange(8).reshape(2, 4)
    (span,) = modality.spans(Item("image", None), grid)
    assert span.payload.tolist() == list(range(8))
    assert (span.length, span.positions, span.label, span.noised) == (8, 10, "2x4", False)
    assert modality.blank("2x4").shape == (2, 4)
    # And rows and columns are the codec's.
    np.testing.assert_array_equal(payload, modality.codec.encode(IMAGES[0]))
    np.testing.assert_array_equal(modality.decode(grid), modality.codec.decode(grid))
    assert np.abs(modality.decode(grid) - modality.codec.decode(grid.reshape(4, 2).T)).max() > 1e-3


def test_facts_restore_it(make: Callable) -> None:
    import json

    modality, again = make(), make()
    modality.fit(IMAGES, 0, lambda line: None)
    again.restore(json.loads(json.dumps(modality.facts())))
    again.load_state_dict(modality.state_dict())
    assert again.labels() == modality.labels()
    np.testing.assert_array_equal(again.encode(IMAGES[1]), modality.encode(IMAGES[1]))
    with pytest.raises(TransfuseError, match="latent grid is 4x4, and this modality was fit to 2x4"):
        again.encode(np.zeros((1, 8, 8), np.float32))


NONE = {"scale": 1}
LOGITS = torch.log(torch.tensor([[0.5, 0.3, 0.2, 0.0]]))
UNGUIDED = torch.log(torch.tensor([[0.25, 0.5, 0.25, 0.0]]))


def test_one_view_without_guidance(make: Callable) -> None:
    assert (make(guidance={"scale": 1}).views, make(guidance={"scale": 1.5}).views) == ((), (View(),))
    assert make().views == (View(),)


def test_temperature_1_draws_the_models_distribution(make: Callable) -> None:
    np.testing.assert_allclose(drawn(make(guidance=NONE), LOGITS), [0.5, 0.3, 0.2, 0], atol=0.04)


def test_lower_temperature_sharpens(make: Callable) -> None:
    expected = np.array([0.25, 0.09, 0.04, 0]) / 0.38
    np.testing.assert_allclose(drawn(make(temperature=0.5, guidance=NONE), LOGITS), expected, atol=0.04)


def test_temperature_0_is_greedy(make: Callable) -> None:
    assert drawn(make(temperature=0, guidance=NONE), LOGITS, 5).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, 1), (0.5, 1), (0.6, 2), (0.85, 3), (1.0, 3)])
def test_top_p_keeps_the_fewest_that_hold_the_share(make: Callable, top_p: float, kept: int) -> None:
    shares = drawn(make(top_p=top_p, guidance=NONE), LOGITS)
    expected = np.array([0.5, 0.3, 0.2, 0]) * (np.arange(4) < kept)
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.04)


@pytest.mark.parametrize("scale", [0.0, 1.5, 3.0])
def test_guidance_mixes_log_probabilities(make: Callable, scale: float) -> None:
    """u + scale·(c − u) of the two views' log-probabilities; a forbidden id stays forbidden."""
    both = torch.cat([LOGITS + 7, UNGUIDED - 3])  # a constant on a view's logits means nothing
    shares = drawn(make(guidance={"scale": scale}), both)
    c, u = (np.exp(view.numpy()[0, :3]) for view in (LOGITS, UNGUIDED))
    expected = u * (c / u) ** scale
    np.testing.assert_allclose(shares[:3], expected / expected.sum(), atol=0.04)
    assert shares[3] == 0


def test_greedy_under_guidance(make: Callable) -> None:
    both = torch.cat([torch.log(torch.tensor([[0.45, 0.55]])), torch.log(torch.tensor([[0.2, 0.8]]))])
    assert make(temperature=0, guidance={"scale": 0}).choose(both, torch.Generator(), 1.0) == 1
    assert make(temperature=0, guidance={"scale": 1.1}).choose(both, torch.Generator(), 1.0) == 1


def test_the_interval_is_one_of_codes_still_to_be_drawn(make: Callable) -> None:
    both = torch.cat([torch.log(torch.tensor([[0.45, 0.55]])), torch.log(torch.tensor([[0.2, 0.8]]))])
    plain = make(temperature=0, guidance=NONE).choose(both[:1], torch.Generator(), 1.0)
    guided = make(temperature=0, guidance={"scale": 3}).choose(both, torch.Generator(), 1.0)
    assert (plain, guided) == (1, 0)
    modality = make(temperature=0, guidance={"scale": 3, "interval": [0.5, 0.8]})
    chosen = [modality.choose(both, torch.Generator(), left) for left in (1.0, 0.81, 0.8, 0.5, 0.49)]
    assert chosen == [1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance": {"rescale": 0.3}}, "guidance.rescale is for latents, and codes have none"),
        (
            {"objective": {"name": "ddpm"}},
            "objective 'ddpm' builds .*, and here must be TokenObjective; use next-token",
        ),
        ({"codec": {"name": "pixel"}}, "codec 'pixel' gives latents, not codes; use codec vq"),
    ],
)
def test_parts_that_do_not_fit(make: Callable, settings: dict, message: str) -> None:
    with pytest.raises(TransfuseError, match=f"^{message}"):
        make(**settings)


def test_no_image_at_all(make: Callable) -> None:
    with pytest.raises(TransfuseError, match="'image': the data hold nothing of it to train the codec on"):
        make().fit([], 0, lambda line: None)
