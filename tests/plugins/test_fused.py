"""A block's pieces with a backward pass of their own have the values and gradients of the plain formulas."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transfuse_llama.fused import RMSNorm, project, swiglu

D, H, G, WIDTH = 12, 4, 2, 6


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def norm(width: int, seed: int) -> RMSNorm:
    made = RMSNorm(width, 1e-3).double()
    made.weight.data = 1 + 0.3 * drawn(width, seed=seed)
    return made


def plain_norm(x: Tensor, of: nn.RMSNorm | None) -> Tensor:
    return x if of is None else F.rms_norm(x, of.normalized_shape, of.weight, of.eps)


def agree(made: Callable[[], Tensor], plain: Callable[[], Tensor], inputs: list[Tensor]) -> None:
    results = []
    for run in (made, plain):
        out = run()
        results.append([out, *torch.autograd.grad((out * drawn(*out.shape, seed=9)).sum(), inputs)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(5, D), (3, 2, D), (0, D)])
def test_the_norm(shape: tuple[int, ...]) -> None:
    x, own = drawn(*shape).requires_grad_(), norm(D, 1)
    agree(lambda: own(x), lambda: plain_norm(x, own), [x, own.weight])


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("positions", [7, 0])
def test_swiglu(normed: bool, positions: int) -> None:
    x, own = drawn(positions, D).requires_grad_(), norm(D, 1) if normed else None
    up, down = drawn(2 * WIDTH, D, seed=2).requires_grad_(), drawn(D, WIDTH, seed=3).requires_grad_()

    def plain() -> Tensor:
        gate, value = (plain_norm(x, own) @ up.T).chunk(2, dim=-1)
        return (F.silu(gate) * value) @ down.T

    weights = [] if own is None else [own.weight]
    agree(lambda: swiglu(x, own, up, down, x.dtype), plain, [x, up, down, *weights])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("normed", [True, False])
def test_the_projection_to_queries_keys_and_values(normed: bool, qk_norm: bool, bias: bool) -> None:
    x, own = drawn(7, D).requires_grad_(), norm(D, 1) if normed else None
    linear = nn.Linear(D, (H + 2 * G) * WIDTH, bias=bias).double()
    heads = (norm(WIDTH, 2), norm(WIDTH, 3)) if qk_norm else None
    angle = drawn(7, WIDTH // 2, seed=4)

    def turned(x: Tensor) -> Tensor:
        return torch.view_as_real(
            torch.complex(*x.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angle), angle)[:, None]
        ).mT.flatten(-2)

    def made() -> Tensor:
        parts = project(x, own, linear, heads, (angle.cos(), angle.sin()), (H, G), x.dtype)
        assert [part.shape for part in parts] == [(n, 7, WIDTH) for n in (H, G, G)]
        return torch.cat(parts)

    def plain() -> Tensor:
        q, k, v = linear(plain_norm(x, own)).view(7, -1, WIDTH).split([H, G, G], dim=1)
        if heads is not None:
            q, k = (plain_norm(part, head) for part, head in zip((q, k), heads, strict=True))
        return torch.cat([turned(q), turned(k), v], dim=1).transpose(0, 1)

    weights = [*linear.parameters(), *(each.weight for each in (own, *(heads or ())) if each is not None)]
    agree(made, plain, [x, *weights])


def test_in_half_precision_sums_are_float32() -> None:
    """4,096 ones have the mean square 1, which bfloat16, counting to 256, would not find."""
    x = torch.ones(1, 4096, dtype=torch.bfloat16)
    assert torch.equal(RMSNorm(4096, 1e-6).bfloat16()(x), x)


def test_a_frozen_weight_has_no_gradient() -> None:
    x = drawn(3, D).requires_grad_()
    up, down = drawn(2 * WIDTH, D, seed=2), drawn(D, WIDTH, seed=3).requires_grad_()
    swiglu(x, None, up, down, x.dtype).sum().backward()
    assert up.grad is None
    assert down.grad is not None


def test_what_is_kept_is_the_input_and_what_is_inside() -> None:
    kept: list[tuple[int, ...]] = []
    x, own = drawn(7, D).requires_grad_(), norm(D, 1)
    up, down = drawn(2 * WIDTH, D, seed=2).requires_grad_(), drawn(D, WIDTH, seed=3).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(tuple(t.shape)) or t, lambda t: t):
        swiglu(x, own, up, down, x.dtype)
    assert sorted(shape for shape in kept if shape[0] == 7) == [(7, 1), (7, D), (7, 2 * WIDTH)]
