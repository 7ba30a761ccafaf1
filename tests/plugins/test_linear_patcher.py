"""The linear patcher at every patch size of the paper: there and back, row-major, each patch by itself, its cost."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transfuse.plugin import sinusoidal_positions
from transfuse.registry.plugins import Plugins
from transfuse_image.patchers.linear import LinearPatcher, LinearSettings

PATCHES = (1, 2, 4, 8)
GRIDS = ((8, 8), (8, 16), (16, 8), (24, 16))

every_patch = pytest.mark.parametrize("patch", PATCHES)
every_grid = pytest.mark.parametrize("grid", GRIDS)


@pytest.fixture
def make(installed: Plugins) -> Callable[..., LinearPatcher]:
    def build(patch: int, grid: tuple[int, int], dim: int = 16) -> LinearPatcher:
        torch.manual_seed(0)
        chosen = installed.choose("patcher", {"name": "linear", "patch": patch}, "patcher")
        return chosen.build(shape=(3, *grid), dim=dim)

    return build


def plain(patch: int, channels: int) -> LinearPatcher:
    """One whose layers pass a patch's numbers on, and whose time says nothing."""
    width = channels * patch * patch
    built = LinearPatcher(LinearSettings(patch=patch), (channels, patch, patch), width)
    with torch.no_grad():
        for layer in (built.into, built.out):
            layer.weight.copy_(torch.eye(width))
            layer.bias.zero_()
        for parameter in built.time.parameters():
            parameter.zero_()
    return built


def noised(grid: tuple[int, int], images: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(images, 3, *grid, generator=torch.Generator().manual_seed(1)), torch.tensor(
        [20.0, 900.0]
    )


@every_patch
@every_grid
def test_shapes_go_there_and_back(make: Callable, patch: int, grid: tuple[int, int]) -> None:
    built, (x_t, t) = make(patch, grid), noised(grid)
    vectors, state = built.down(x_t, t)
    assert vectors.shape == (2, grid[0] * grid[1] // patch**2, 16)
    assert built.up(vectors, state, t).shape == x_t.shape


@given(
    patch=st.sampled_from(PATCHES),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    channels=st.integers(1, 3),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=40)
def test_up_of_down_is_the_image_and_patches_stand_in_row_major_order(
    patch: int, rows: int, columns: int, channels: int, seed: int
) -> None:
    built = plain(patch, channels)
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(1, channels, rows * patch, columns * patch, generator=generator)
    with torch.no_grad():
        vectors, state = built.down(image, torch.zeros(1))
        torch.testing.assert_close(built.up(vectors, state, torch.zeros(1)), image)
    assert len(vectors[0]) == rows * columns
    for i, vector in enumerate(vectors[0]):
        top, left = patch * (i // columns), patch * (i % columns)
        torch.testing.assert_close(vector, image[0, :, top : top + patch, left : left + patch].flatten())


@every_patch
@every_grid
def test_each_patch_is_its_own_vector_and_each_vector_its_own_patch(
    make: Callable, patch: int, grid: tuple[int, int]
) -> None:
    built, (x_t, t) = make(patch, grid), noised(grid)
    across = grid[1] // patch
    n = across * (grid[0] // patch)
    vectors, state = built.down(x_t, t)
    before = built.up(vectors, state, t)
    assert len(vectors[0].unique(dim=0)) == n
    for i in {0, across - 1, n // 2, n - 1}:
        own = (..., slice(patch * (i // across), patch * (i // across + 1)),
               slice(patch * (i % across), patch * (i % across + 1)))  # fmt: skip
        changed, other = x_t.clone(), vectors.clone()
        changed[own] += 1
        other[:, i] += 1
        moved = (built.down(changed, t)[0] - vectors).abs().sum(-1) > 1e-4
        assert moved.nonzero()[:, 1].tolist() == [i, i]
        inside = torch.zeros(x_t.shape[2:], dtype=torch.bool)
        inside[own] = True
        assert torch.equal(((built.up(other, state, t) - before).abs().sum(1) > 1e-4).any(0), inside)


@every_patch
def test_time_is_told_to_every_patch(make: Callable, patch: int) -> None:
    built, (x_t, _) = make(patch, (16, 8)), noised((16, 8))
    early, late = (built.down(x_t, torch.full((2,), t))[0] for t in (3.0, 700.0))
    moved = (late - early).detach()
    assert float(moved.abs().max()) > 1e-3
    torch.testing.assert_close(moved, moved[:1, :1].expand_as(moved))


@every_patch
def test_gradients_reach_every_parameter(make: Callable, patch: int) -> None:
    built, (x_t, t) = make(patch, (16, 8)), noised((16, 8))
    vectors, state = built.down(x_t, t)
    (built.up(vectors, state, t) - x_t).square().mean().backward()
    assert [n for n, p in built.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


@every_patch
@every_grid
def test_flops_are_those_torch_counts(make: Callable, patch: int, grid: tuple[int, int]) -> None:
    built, (x_t, t) = make(patch, grid), noised(grid)
    with FlopCounterMode(display=False) as counter:
        vectors, state = built.down(x_t, t)
        built.up(vectors, state, t)
    assert 2 * built.flops(vectors.shape[1]) == counter.get_total_flops()


@given(
    h=st.integers(1, 32),
    w=st.integers(1, 32),
    dim=st.integers(8, 70),
    y=st.integers(0, 31),
    x=st.integers(0, 31),
)
@settings(max_examples=60)
def test_places_tell_patches_apart_and_do_not_depend_on_the_grid(
    h: int, w: int, dim: int, y: int, x: int
) -> None:
    told = sinusoidal_positions((h, w), dim)
    assert told.shape == (h * w, dim)
    apart = torch.cdist(told.double(), told.double()) + 9 * torch.eye(h * w)
    assert apart.min() > 0.04
    if y < h and x < w:  # the same place in a larger grid is told in the same words
        assert torch.equal(told[y * w + x], sinusoidal_positions((32, 32), dim)[y * 32 + x])


def test_places_are_added_to_what_a_patch_is() -> None:
    x_t, t = noised((8, 8))
    torch.manual_seed(0)
    without = LinearPatcher(LinearSettings(patch=2), (3, 8, 8), 32)
    torch.manual_seed(0)
    told = LinearPatcher(LinearSettings(patch=2, places=True), (3, 8, 8), 32)
    torch.testing.assert_close(
        told.down(x_t, t)[0], without.down(x_t, t)[0] + sinusoidal_positions((4, 4), 32)
    )
