"""Patches of grids of any number of axes: cut, told where they are, told the noise, and put together again."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from transfuse.plugin import SpanModality, TimeEmbedding, clock, patchify, sinusoidal_positions, unpatchify
from transfuse.testing.modalities import Blob

GRIDS = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(grid=GRIDS, patch=st.integers(1, 3), batch=st.integers(1, 3), channels=st.integers(1, 3))
def test_patches_put_together_are_the_grid(grid: list[int], patch: int, batch: int, channels: int) -> None:
    sides = [patch * side for side in grid]
    x = torch.randn(batch, channels, *sides)
    patches = patchify(x, patch)
    assert patches.shape == (batch, torch.tensor(grid).prod(), channels * patch ** len(grid))
    assert torch.equal(unpatchify(patches, sides, patch), x)


def test_a_patch_is_a_piece_of_the_grid_in_row_major_order() -> None:
    x = torch.arange(2 * 4 * 6.0).reshape(1, 2, 4, 6)
    patches = patchify(x, 2)
    assert torch.equal(patches[0, 0], x[0, :, :2, :2].flatten())
    assert torch.equal(patches[0, 1], x[0, :, :2, 2:4].flatten())
    assert torch.equal(patches[0, 5], x[0, :, 2:, 4:].flatten())
    film = torch.randn(1, 3, 4, 4, 6)
    assert torch.equal(patchify(film, 2)[0, 7], film[0, :, 2:, :2, 2:4].flatten())


@given(h=st.integers(1, 3), w=st.integers(1, 3), patch=st.integers(1, 3))
def test_of_pictures_they_are_torchs_unfold_and_fold_to_the_bit(h: int, w: int, patch: int) -> None:
    """Gradients too, so that a model trained with either has the same weights."""
    x = torch.randn(2, 3, h * patch, w * patch, requires_grad=True)
    one, two = patchify(x, patch), F.unfold(x, patch, stride=patch).transpose(1, 2)
    assert torch.equal(one, two)
    back = unpatchify(two.detach().contiguous(), x.shape[2:], patch)
    assert torch.equal(back, x)
    assert back.is_contiguous()
    grads = [torch.autograd.grad(patches.square().sum(), x)[0] for patches in (one, two)]
    assert torch.equal(*grads)


@given(grid=GRIDS, dim=st.integers(16, 40))
def test_no_two_places_are_told_alike_and_tables_of_grids_agree(grid: list[int], dim: int) -> None:
    table = sinusoidal_positions(grid, dim)
    assert table.shape == (torch.tensor(grid).prod(), dim)
    assert torch.cdist(table, table).add(torch.eye(len(table))).min() > 1e-3
    larger = sinusoidal_positions([side + 2 for side in grid], dim).reshape(*[side + 2 for side in grid], dim)
    inside = larger[tuple(slice(0, side) for side in grid)].reshape(-1, dim)
    assert torch.equal(inside, table)


def test_the_clock_tells_shares_apart_and_the_embedding_hears_it() -> None:
    share = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert clock(share).dtype == torch.float32
    assert torch.equal(clock(share), (1000 * share).float())
    heard = TimeEmbedding(16)(clock(share))
    assert heard.shape == (11, 16)
    assert torch.cdist(heard, heard).add(torch.eye(11)).min() > 1e-3


@pytest.mark.parametrize(("clean", "shares"), [(0.0, [0, 0.25, 1, 1]), (1.0, [1, 0.75, 0, 1])])
def test_noise_is_how_far_a_time_is_from_clean(clean: float, shares: list[float]) -> None:
    blob: SpanModality = Blob()
    blob.clean_time = clean
    assert blob.noise_share(torch.tensor([0, 0.25, 1, 3])).tolist() == shares
