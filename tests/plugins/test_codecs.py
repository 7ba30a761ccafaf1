"""Codecs: round trips within a bound, normalised latents, frozen while a model trains, restored exactly."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transfuse.errors import RawError, TransfuseError
from transfuse.modalities.codec import Codec
from transfuse.registry.plugins import Plugins
from transfuse_image.codecs import raw_images
from transfuse_lab.datasets.digits import Digits

CODECS = {
    "pixel": {"name": "pixel"},
    "kl": {"name": "kl", "width": 16, "steps": 60, "batch": 16},
    "vq": {"name": "vq", "width": 16, "steps": 60, "batch": 16, "codes": 64},
    "fsq": {"name": "fsq", "width": 16, "steps": 60, "batch": 16, "levels": [4, 4, 4]},
}
NAMES = tuple(CODECS)
TRAINED = ("kl", "vq", "fsq")


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return list(Digits().raw("train", "image"))[:200]


@pytest.fixture(scope="module")
def make(installed: Plugins) -> Callable[..., Codec]:
    return lambda name, **more: installed.choose("codec", {**CODECS[name], **more}, "codec").build()


@pytest.fixture(scope="module")
def codecs(make: Callable, images: list[np.ndarray]) -> dict[str, Codec]:
    built = {name: make(name) for name in NAMES}
    for codec in built.values():
        codec.fit(images, 0, lambda line: None)
    return built


@pytest.mark.parametrize(("name", "share"), [("pixel", 1e-10), ("kl", 0.8), ("vq", 0.8), ("fsq", 0.8)])
def test_a_round_trip_errs_little(codecs: dict[str, Codec], name: str, share: float) -> None:
    """The mean squared error of held-out digits, against always giving their mean."""
    codec, held = codecs[name], list(Digits().raw("test", "image"))[:60]
    error = np.mean([np.square(codec.decode(codec.encode(image)) - image).mean() for image in held])
    blank = np.mean([np.square(np.mean(held, axis=0) - image).mean() for image in held])
    assert error < share * blank
    back = codec.decode(codec.encode(held[0]))
    assert (back.dtype, back.shape) == (np.float32, held[0].shape)
    assert back.min() >= 0
    assert back.max() <= 1


def test_latents_are_normalised_and_within_their_bound(
    codecs: dict[str, Codec], images: list[np.ndarray]
) -> None:
    latents = np.stack([codecs["kl"].encode(image) for image in images])
    assert latents.shape == (200, 4, 4, 4)
    assert latents.dtype == np.float32
    np.testing.assert_allclose(latents.mean(axis=(0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(latents.std(axis=(0, 2, 3)), 1, atol=1e-2)
    assert np.quantile(np.abs(latents), 0.999) == pytest.approx(codecs["kl"].bound, rel=1e-4)
    pixels = np.stack([codecs["pixel"].encode(image) for image in images])
    assert (pixels.min(), pixels.max(), codecs["pixel"].bound) == (-1, 1, 1)


@pytest.mark.parametrize("name", ["vq", "fsq"])
def test_codes_are_used(codecs: dict[str, Codec], images: list[np.ndarray], name: str) -> None:
    codes = np.stack([codecs[name].encode(image) for image in images])
    assert (codes.shape, codes.dtype) == ((200, 4, 4), np.int64)
    assert codes.min() >= 0
    assert codes.max() < 64
    facts = codecs[name].facts()
    share = np.bincount(codes.flatten(), minlength=64) / codes.size
    assert facts["usage"] == pytest.approx((share > 0).mean())
    assert facts["perplexity"] == pytest.approx(
        np.exp(-np.sum(share[share > 0] * np.log(share[share > 0]))), rel=1e-3
    )


@pytest.mark.parametrize("name", NAMES)
def test_training_the_model_around_it_changes_nothing(
    codecs: dict[str, Codec], images: list[np.ndarray], name: str
) -> None:
    codec = codecs[name]
    around = torch.nn.Sequential(codec)
    around.eval()
    before = [codec.encode(image) for image in images[:8]]
    weights = {key: value.clone() for key, value in codec.state_dict().items()}
    around.train()
    for image, expected in zip(images[:8], before, strict=True):
        np.testing.assert_array_equal(codec.encode(image), expected)
        codec.decode(expected)
    for key, value in codec.state_dict().items():
        assert torch.equal(value, weights[key]), key
    assert not any(p.requires_grad for p in codec.parameters())
    assert not any(module.training for module in codec.modules())
    codec.encode(images[0]).fill(0)  # what it gives away is not its own state
    np.testing.assert_array_equal(codec.encode(images[0]), before[0])


@pytest.mark.parametrize("name", NAMES)
def test_facts_and_weights_restore_it(
    make: Callable, codecs: dict[str, Codec], images: list[np.ndarray], name: str
) -> None:
    import json

    again = make(name)
    torch.manual_seed(torch.seed())
    again.restore(json.loads(json.dumps(codecs[name].facts())))
    assert again.state_dict().keys() == codecs[name].state_dict().keys()
    again.load_state_dict(codecs[name].state_dict())
    for image in images[:8]:
        payload = codecs[name].encode(image)
        np.testing.assert_array_equal(again.encode(image), payload)
        np.testing.assert_array_equal(again.decode(payload), codecs[name].decode(payload))
    assert again.facts() == codecs[name].facts()
    assert (again.codes, again.channels) == (codecs[name].codes, codecs[name].channels)
    assert not any(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize("name", TRAINED)
def test_one_seed_one_codec_and_the_global_state_is_left_alone(
    make: Callable, images: list[np.ndarray], name: str
) -> None:
    states = []
    for seed in (0, 0, 1):
        codec = make(name, steps=3)
        torch.manual_seed(torch.seed())
        before = torch.get_rng_state()
        codec.fit(images[:40], seed, lambda line: None)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(codec.state_dict())
    one, two, three = states
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], three[key]) for key in one)


@pytest.mark.parametrize("name", TRAINED)
def test_no_effort_gives_shapes(make: Callable, images: list[np.ndarray], name: str) -> None:
    """What a dry run asks for: no training, payloads of the right shape."""
    codec, lines = make(name), []
    codec.fit(images[:40], 0, lines.append, 0.0)
    assert not any("step" in line for line in lines)
    assert codec.encode(images[0]).shape[-2:] == (4, 4)
    assert codec.decode(codec.encode(images[0])).shape == (1, 8, 8)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("down", [2, 4])
def test_images_that_are_all_alike(make: Callable, name: str, down: int) -> None:
    """A channel that never varies has no spread to divide by."""
    codec = make(name, steps=2, down=down)
    grey = np.full((1, 4, 4), 0.5, np.float32)
    codec.fit([grey] * 8, 0, lambda line: None)
    assert np.isfinite(codec.encode(grey)).all()
    assert np.isfinite(codec.encode(1 - grey)).all()


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize(("down", "grid"), [(1, (8, 8)), (2, (4, 4)), (8, (1, 1))])
def test_down_divides_the_grid(
    make: Callable, images: list[np.ndarray], name: str, down: int, grid: tuple
) -> None:
    codec = make(name, steps=1, down=down, **({} if name == "fsq" else {"channels": 3}))
    codec.fit(images[:40], 0, lambda line: None)
    assert codec.grid((1, 8, 8)) == grid
    assert codec.encode(images[0]).shape == ((3, *grid) if name == "kl" else grid)


@pytest.mark.parametrize(("down", "stem", "growth"), [(2, 2, 1), (4, 1, 2), (4, 2, 3), (8, 4, 2), (1, 1, 4)])
def test_stem_and_growth_change_the_layers_and_not_the_grid(
    make: Callable, images: list[np.ndarray], down: int, stem: int, growth: int
) -> None:
    codec = make("kl", steps=1, down=down, stem=stem, growth=growth, width=8)
    codec.fit(images[:40], 0, lambda line: None)
    assert codec.encode(images[0]).shape == (4, 8 // down, 8 // down)
    assert codec.decode(codec.encode(images[0])).shape == (1, 8, 8)
    convolutions = [layer for layer in codec.encoder if isinstance(layer, torch.nn.Conv2d)]
    assert convolutions[0].in_channels == stem * stem
    assert [layer.out_channels for layer in convolutions[:-1]] == [
        8 * growth**i for i in range((down // stem).bit_length())
    ]


def test_settings_that_cannot_be(installed: Plugins) -> None:
    with pytest.raises(TransfuseError, match=r"down.*power of 2"):
        installed.choose("codec", {"name": "kl", "down": 3}, "codec")
    for section, message in [
        ({"name": "kl", "width": 12}, "multiple of 8"),
        ({"name": "kl", "stem": 3}, r"codec\.stem: must be a power of 2"),
        ({"name": "kl", "stem": 4}, r"codec\.stem: must be at most down = 2, not 4"),
        ({"name": "kl", "down": 64, "growth": 4}, r"codec\.growth: makes the last layers 131072 wide"),
        ({"name": "fsq", "levels": [64, 64, 64, 64]}, r"codec\.levels.*16,777,216 codes"),
        ({"name": "kl", "loss": {"l1": 0, "l2": 0}}, r"codec\.loss: compares nothing"),
        ({"name": "kl", "loss": {"comitment": 1}}, r"codec\.loss\.comitment: unknown key"),
        ({"name": "vq", "loss": {"comitment": 1}}, r"codec\.loss\.comitment: .*did you mean 'commitment'"),
    ]:
        with pytest.raises(TransfuseError, match=message):
            installed.choose("codec", section, "codec")


GOOD = np.full((1, 8, 8), 0.5, np.float32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("text", "must be a numpy array"),
        (GOOD[0], "must have 3 axes"),
        ((GOOD * 255).astype(np.uint8), "uint8; divide by 255"),
        (np.where(GOOD > 0, np.nan, GOOD), "NaN or Inf"),
        (np.where(GOOD > 0, np.inf, GOOD), "NaN or Inf"),
        (GOOD + 1, r"must lie in \[0, 1\], not \[1.5, 1.5\]"),
        (-GOOD, r"must lie in \[0, 1\]"),
        (np.repeat(GOOD, 3, axis=0), "3 channels"),
        (GOOD[:, :0], "empty"),
    ],
)
def test_what_is_no_image(codecs: dict[str, Codec], name: str, raw: object, message: str) -> None:
    with pytest.raises(TransfuseError, match=message):
        codecs[name].encode(raw)


@pytest.mark.parametrize("name", NAMES)
def test_wider_floats_are_taken(codecs: dict[str, Codec], images: list[np.ndarray], name: str) -> None:
    expected = codecs[name].encode(images[3])
    np.testing.assert_array_equal(codecs[name].encode(images[3].astype(np.float64)), expected)
    half = codecs[name].encode(images[3].astype(np.float16))
    assert half.dtype == expected.dtype


@pytest.mark.parametrize("name", TRAINED)
def test_shapes_an_autoencoder_cannot_take(make: Callable, codecs: dict[str, Codec], name: str) -> None:
    with pytest.raises(TransfuseError, match="8x9 does not divide by the codec's down=2"):
        codecs[name].encode(np.zeros((1, 8, 9), np.float32))
    with pytest.raises(RawError, match="images of one shape") as error:
        make(name).fit([GOOD, GOOD, GOOD[:, :, :4]], 0, lambda line: None)
    assert error.value.number == 2


class MadeWhenAsked(Sequence[np.ndarray]):
    """Grey pictures that nobody else holds. most: how many were alive at once."""

    def __init__(self, count: int, odd: int | None = None) -> None:
        self.count, self.odd, self.alive, self.most = count, odd, 0, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> np.ndarray:
        if not 0 <= index < self.count:
            raise IndexError(index)
        made = np.full((1, 8, 4 if index == self.odd else 8), index / self.count, np.float32)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(made, self._gone)
        return made

    def _gone(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize("name", ["pixel", "kl"])
def test_of_more_images_than_are_held_an_autoencoder_keeps_an_even_share_and_pixels_none(
    installed: Plugins, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(raw_images, "HELD", 20 * 256)
    codec = {**CODECS[name], "steps": 1} if name in TRAINED else CODECS[name]
    modality = installed.choose("modality", {"kind": "image", "codec": codec, "patcher": {"patch": 1}})
    raws, lines = MadeWhenAsked(100), list[str]()
    built = modality.build(name="image")
    built.fit(raws, 0, lines.append)
    assert built.sizes == [(8, 8) if name == "pixel" else (4, 4)]
    assert raws.most <= (22 if name in TRAINED else 2)
    said = "image: trained on 13 of 100 images, one in 8: all have over 5,120 bytes"
    assert (said in lines) == (name in TRAINED)


def test_the_share_is_even_and_where_all_are_held_it_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    whole = raw_images.training_images(MadeWhenAsked(100), lines.append)
    assert [round(100 * float(image[0, 0, 0])) for image in whole] == list(range(100))
    assert lines == []
    monkeypatch.setattr(raw_images, "HELD", 20 * 256)
    share = raw_images.training_images(MadeWhenAsked(100), lines.append)
    assert [round(100 * float(image[0, 0, 0])) for image in share] == list(range(0, 100, 8))


def test_an_image_that_is_not_kept_is_checked_with_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_images, "HELD", 20 * 256)
    with pytest.raises(RawError, match="images of one shape") as error:
        raw_images.training_images(MadeWhenAsked(100, odd=91), lambda line: None)
    assert error.value.number == 91
