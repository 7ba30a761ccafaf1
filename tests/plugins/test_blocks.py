"""Blocks of pixels: components and codes; linear, alike for latents and codes, restored to the bit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transfuse.errors import TransfuseError
from transfuse_image.codecs.blocks import (
    BlockCodesCodec,
    BlockCodesSettings,
    BlocksCodec,
    BlocksSettings,
    blocks,
    joined,
)


def images(count: int = 64, side: int = 8, channels: int = 3) -> list[np.ndarray]:
    """Each block of four one of 16 smooth ones, a little noisy."""
    rng = np.random.default_rng(0)
    kinds = rng.uniform(0.2, 0.8, (16, channels, 1, 1)) + rng.uniform(-0.2, 0.2, (16, channels, 4, 4))
    drawn = []
    for _ in range(count):
        parts = kinds[rng.integers(16, size=(side // 4, side // 4))]
        whole = parts.transpose(2, 0, 3, 1, 4).reshape(channels, side, side)
        drawn.append((whole + rng.normal(0, 0.002, whole.shape)).clip(0, 1).astype(np.float32))
    return drawn


def fitted(codec: BlocksCodec, raws: list[np.ndarray], seed: int = 0) -> BlocksCodec:
    codec.fit(raws, seed, lambda line: None)
    return codec


@given(
    n=st.integers(1, 3), channels=st.integers(1, 3), side=st.sampled_from([1, 2, 4]), h=st.integers(1, 3),
    w=st.integers(1, 3),
)  # fmt: skip
def test_blocks_are_joined_to_the_images_they_are_of(
    n: int, channels: int, side: int, h: int, w: int
) -> None:
    whole = torch.arange(n * channels * side * h * side * w).float().view(n, channels, side * h, side * w)
    parts = blocks(whole, side)
    assert parts.shape == (n, h, w, channels * side**2)
    assert torch.equal(parts[0, 0, 0], whole[0, :, :side, :side].flatten())
    assert torch.equal(joined(parts, side), whole)


def test_all_components_lose_nothing_and_squared_errors_are_those_of_pixels() -> None:
    raws = images()
    codec = fitted(BlocksCodec(BlocksSettings(components=48)), raws)
    for raw in raws[:8]:
        np.testing.assert_allclose(codec.decode(codec.encode(raw)), raw, atol=1e-4)
    one, two = codec.encode(raws[0]), codec.encode(raws[1])
    assert one.shape == (48, 2, 2)
    distance = ((one - two) ** 2).sum() * codec.facts()["scale"] ** 2
    assert distance == pytest.approx(((raws[0] - raws[1]) ** 2).sum(), rel=1e-3)


def test_the_first_components_keep_most() -> None:
    raws = images()
    errors = []
    for components in (1, 4, 12, 48):
        codec = fitted(BlocksCodec(BlocksSettings(components=components)), raws)
        errors.append(codec.facts()["reconstruction"])
    assert errors == sorted(errors, reverse=True)
    latents = np.stack([codec.encode(raw) for raw in raws])
    assert np.square(latents).mean() == pytest.approx(1, rel=0.05), (
        "the spread of the noise that is added to them"
    )


def test_codes_name_the_nearest_centre_and_share_the_components() -> None:
    raws = images()
    codes = fitted(BlockCodesCodec(BlockCodesSettings(components=16, codes=16)), raws)
    latents = fitted(BlocksCodec(BlocksSettings(components=16)), raws)
    assert torch.equal(codes.basis, latents.basis)
    payload = codes.encode(raws[0])
    assert payload.dtype == np.int64
    assert payload.shape == (2, 2)
    found = latents.encode(raws[0]).reshape(16, -1).T
    distances = ((found[:, None] - codes.centres.numpy()[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(payload.ravel(), distances.argmin(1))
    assert codes.facts()["reconstruction"] < 2e-3, "sixteen kinds of block, sixteen codes"
    assert codes.facts()["usage"] == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: BlocksCodec(BlocksSettings(components=8)),
        lambda: BlockCodesCodec(BlockCodesSettings(components=8, codes=8)),
    ],
)  # fmt: skip
def test_what_is_restored_is_the_same(make) -> None:
    raws = images()
    one = fitted(make(), raws)
    two = make()
    two.restore(one.facts())
    two.load_state_dict(one.state_dict())
    assert two.bound == one.bound
    np.testing.assert_array_equal(one.encode(raws[3]), two.encode(raws[3]))
    np.testing.assert_array_equal(one.decode(one.encode(raws[3])), two.decode(two.encode(raws[3])))


def test_what_does_not_fit_is_named_with_a_cure() -> None:
    with pytest.raises(TransfuseError, match=r"have 48 components, not 49: set codec\.components=48"):
        fitted(BlocksCodec(BlocksSettings(components=49)), images())
    with pytest.raises(TransfuseError, match="too few for 4096 codes"):
        fitted(BlockCodesCodec(BlockCodesSettings(codes=4096)), images())
    with pytest.raises(TransfuseError, match="does not divide into blocks of 4x4"):
        fitted(BlocksCodec(BlocksSettings()), [np.zeros((3, 6, 8), np.float32)])
    flat = [np.full((3, 8, 8), 0.5, np.float32)] * 4
    codec = fitted(BlocksCodec(BlocksSettings(components=4)), flat)
    assert np.isfinite(codec.encode(flat[0])).all()


def test_codes_are_made_to_be_looked_at_of_fewer_blocks_than_there_are_centres() -> None:
    codec = BlockCodesCodec(BlockCodesSettings(codes=4096))
    codec.fit(images()[:1], 0, lambda line: None, 0.0)
    assert codec.encode(images()[0]).max() < 4096
    assert np.isfinite(codec.decode(codec.encode(images()[0]))).all()
