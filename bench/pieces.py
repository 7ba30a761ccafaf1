"""Whether torch.compile would pay for a block's position-wise pieces: each as the block computes it, and compiled.

    python bench/pieces.py

Compiled with the number of positions dynamic, so that no row compiles again. CPU milliseconds of one call at the widths
of bench/peer.py, the best of some rounds in turn; a layer has two norms and one of the rest.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from runners import measure
from torch import Tensor
from transfuse_lab.memory import keep_freed_memory
from transfuse_llama.fused import _norm_back, _Normed

D, W = 256, 704


def norm(x: Tensor, scale: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    over = (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    even = x * over
    return (even * scale).to(dtype), even, over


def norm_back(grad: Tensor, even: Tensor, scale: Tensor, over: Tensor) -> tuple[Tensor, Tensor]:
    grad = grad.float()
    along = (grad * scale * even).mean(-1, keepdim=True)
    return (grad * scale - even * along) * over, (grad * even).sum(0)


def opened(inner: Tensor) -> Tensor:
    gate, value = inner.chunk(2, -1)
    return F.silu(gate) * value


def opened_back(grad: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
    gate, value = (half.float() for half in inner.chunk(2, -1))
    wide, share = grad.float(), torch.sigmoid(gate)
    of_gate = wide * value * share * (1 + gate * (1 - share))
    return (gate * share * value).to(inner.dtype), torch.cat([of_gate, wide * gate * share], -1).to(
        inner.dtype
    )


def opened_back_in_pieces(grad: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
    """As `transfuse_llama.fused` has it."""
    (gate, value), of_inner = inner.chunk(2, -1), torch.empty_like(inner)
    silu, (of_gate, of_value) = F.silu(gate), of_inner.chunk(2, -1)
    product = silu * value
    torch.mul(grad, silu, out=of_value)
    torch.ops.aten.silu_backward.grad_input(grad * value, gate, grad_input=of_gate)
    return product, of_inner


def best(jobs: list[Callable[[], object]], rounds: int = 15) -> list[float]:
    """CPU milliseconds of each."""
    took = [float("inf")] * len(jobs)
    for turn in range(rounds + 1):
        for i, job in enumerate(jobs):
            started = time.process_time()
            for _ in range(3):
                job()
            if turn:
                took[i] = min(took[i], 1e3 * (time.process_time() - started) / 3)
    return took


def pairs(
    T: int, dtype: torch.dtype, fast: dict[str, Callable[..., Any]]
) -> dict[str, list[Callable[[], object]]]:
    """By piece: as the block computes it, and compiled."""
    x, scale, inner = torch.randn(T, D), torch.rand(D), torch.randn(T, 2 * W).to(dtype)
    grad, small = torch.randn(T, W).to(dtype), torch.randn(T, D).to(dtype)
    _, even, over = _Normed.of(x, scale, 1e-5, dtype)
    return {
        "norm": [lambda: _Normed.of(x, scale, 1e-5, dtype), lambda: fast["norm"](x, scale, dtype)],
        "its backward pass": [
            lambda: _norm_back(small, even, scale, over, x.dtype),
            lambda: fast["norm_back"](small, even, scale, over),
        ],
        "SwiGLU's middle": [lambda: opened(inner), lambda: fast["opened"](inner)],
        "its backward pass, SwiGLU": [
            lambda: opened_back_in_pieces(grad, inner),
            lambda: fast["opened_back"](grad, inner),
        ],
    }


def main() -> None:
    measure.pin()
    keep_freed_memory()
    fast = {f.__name__: torch.compile(f, dynamic=True) for f in (norm, norm_back, opened, opened_back)}
    for T in (768, 4096):
        for name, dtype in measure.DTYPES.items():
            told = (
                f"{piece} {' → '.join(f'{ms:.2f}' for ms in best(jobs))}"
                for piece, jobs in pairs(T, dtype, fast).items()
            )
            print(f"{T} positions, {name}: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
