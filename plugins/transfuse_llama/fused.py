"""Pieces of a block whose backward pass is written out: each keeps its normed input, and computes what is cheap anew.

Autograd would keep every step's result: the normed input, both halves of SwiGLU, their product, unturned queries.
Sums over a position's numbers are float32 whatever the inputs are; products of matrices are in ``dtype``, and their
weights' gradients in the weights' own. Letters: ``T`` positions, ``D`` width, ``n`` heads of ``d``, ``W`` width inside.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def computed_in(x: Tensor) -> torch.dtype:
    """The dtype of products of x with weights: autocast's where that is on, else its own."""
    device = x.device.type
    mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if mixed else x.dtype


class RMSNorm(nn.RMSNorm):
    """torch's layer of this name, in fewer passes over memory, and with its sums in float32."""

    def forward(self, x: Float[Tensor, "*T D"]) -> Float[Tensor, "*T D"]:
        return _Norm.apply(x, self.weight, self.eps)


def swiglu(
    x: Float[Tensor, "T D"],
    norm: nn.RMSNorm | None,
    up: Float[Tensor, "2W D"],
    down: Float[Tensor, "D W"],
    dtype: torch.dtype,
) -> Float[Tensor, "T D"]:
    """down (silu(gate) · value) of (gate, value) = up norm(x), in ``dtype``; without the norm where it is None."""
    return _SwiGLU.apply(x, *_of(norm), up, down, dtype)


def project(
    x: Float[Tensor, "T D"],
    norm: nn.RMSNorm | None,
    qkv: nn.Linear,
    head_norms: tuple[nn.RMSNorm, nn.RMSNorm] | None,
    turn: tuple[Float[Tensor, "T d/2"], Float[Tensor, "T d/2"]],
    heads: tuple[int, int],
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "H T d"], Float[Tensor, "G T d"], Float[Tensor, "G T d"]]:
    """Queries, keys and values of norm(x) in ``dtype``, queries and keys normed and turned.

    norm, head_norms: None for none. turn: cosines and sines of each pair's angle. heads: H and G.
    """
    q_norm, k_norm = head_norms or (None, None)
    scales = (*_of(q_norm), *_of(k_norm))
    return _Project.apply(x, *_of(norm), qkv.weight, qkv.bias, *scales, *turn, heads, dtype)


def _of(norm: nn.RMSNorm | None) -> tuple[Tensor | None, float | None]:
    return (None, None) if norm is None else (norm.weight, norm.eps)


def turn_(x: Float[Tensor, "T n d"], cos: Float[Tensor, "T d/2"], sin: Float[Tensor, "T d/2"]) -> None:
    """Turn each pair (first half, second half) of a head by its angle, in place (RoPE, arXiv 2104.09864)."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    crossed = a * sin
    a.mul_(cos).addcmul_(b, sin, value=-1)
    b.mul_(cos).add_(crossed)


def turn_back(
    x: Float[Tensor, "T n d"],
    cos: Float[Tensor, "T d/2"],
    sin: Float[Tensor, "T d/2"],
    out: Float[Tensor, "T n d"],
) -> None:
    """Undo `turn_`, into other memory."""
    (a, b), (to_a, to_b) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    torch.mul(a, cos, out=to_a).addcmul_(b, sin)
    torch.mul(b, cos, out=to_b).addcmul_(a, sin, value=-1)


class _Normed(NamedTuple):
    """x / rms(x) · scale, and what its backward pass needs."""

    y: Tensor
    even: Tensor  # x / rms(x), at least float32; x where there is no norm
    over: Tensor | None  # 1 / rms(x) [T, 1], float32

    @staticmethod
    def of(x: Tensor, scale: Tensor | None, eps: float | None, dtype: torch.dtype) -> "_Normed":
        if scale is None:
            return _Normed(x.to(dtype), x, None)
        wide = torch.promote_types(x.dtype, torch.float32)
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square_()
        over = square.div_(x.shape[-1]).add_(torch.finfo(wide).eps if eps is None else eps).rsqrt_()
        even = x * over
        return _Normed(_scaled(even, scale, dtype), even, over)


def _scaled(even: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """y again."""
    return even.to(dtype) if scale is None else (even * scale).to(dtype)


def _norm_back(
    grad: Tensor, even: Tensor, scale: Tensor | None, over: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Gradients of x, which is of ``dtype``, and of scale."""
    if scale is None or over is None:
        return grad.to(dtype), None
    grad, D = grad.to(even.dtype), even.shape[-1]
    each = grad * even
    along = (each.reshape(-1, D) @ scale.to(each.dtype)).div_(D).view(over.shape)
    of_scale = each.reshape(-1, D).sum(0)
    of_x = torch.mul(grad, scale, out=each).addcmul_(even, along, value=-1).mul_(over)
    return of_x.to(dtype), of_scale.to(scale.dtype)


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, eps: float | None) -> Tensor:
        y, even, over = _Normed.of(x, scale, eps, x.dtype)
        ctx.save_for_backward(even, scale, over)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        even, scale, over = ctx.saved_tensors
        return *_norm_back(grad, even, scale, over, grad.dtype), None


class _SwiGLU(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        eps: float | None,
        up: Tensor,
        down: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        y, even, over = _Normed.of(x, scale, eps, dtype)
        ctx.dtype, up, down = x.dtype, up.to(dtype), down.to(dtype)
        inner = y @ up.T
        gate, value = inner.chunk(2, dim=-1)
        ctx.save_for_backward(even, scale, over, up, down, inner)
        return F.silu(gate).mul_(value) @ down.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        even, scale, over, up, down, inner = ctx.saved_tensors
        _, _, _, of_up, of_down, _ = ctx.needs_input_grad
        gate, value = inner.chunk(2, dim=-1)
        opened = F.silu(gate)
        grad_down = grad.T @ (opened * value) if of_down else None
        grad = grad @ down
        grad_inner = torch.empty_like(inner)
        grad_gate, grad_value = grad_inner.chunk(2, dim=-1)
        torch.mul(grad, opened, out=grad_value)
        torch.ops.aten.silu_backward.grad_input(grad.mul_(value), gate, grad_input=grad_gate)
        grad_up = grad_inner.T @ _scaled(even, scale, inner.dtype) if of_up else None
        grad_x, grad_scale = _norm_back(grad_inner @ up, even, scale, over, ctx.dtype)
        return grad_x, grad_scale, None, grad_up, grad_down, None


class _Project(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        eps: float | None,
        weight: Tensor,
        bias: Tensor | None,
        q_scale: Tensor | None,
        q_eps: float | None,
        k_scale: Tensor | None,
        k_eps: float | None,
        cos: Tensor,
        sin: Tensor,
        heads: tuple[int, int],
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        (H, G), ctx.heads, ctx.dtype = heads, heads, x.dtype
        y, even, over = _Normed.of(x, scale, eps, dtype)
        weight, cos, sin = weight.to(dtype), cos.to(dtype), sin.to(dtype)
        made = F.linear(y, weight, None if bias is None else bias.to(dtype)).unflatten(1, (H + 2 * G, -1))
        q, k, v = made.split([H, G, G], dim=1)
        q_even = q_over = k_even = k_over = None
        if q_scale is not None and k_scale is not None:
            q, q_even, q_over = _Normed.of(q, q_scale, q_eps, dtype)
            k, k_even, k_over = _Normed.of(k, k_scale, k_eps, dtype)
            turn_(q, cos, sin)
            turn_(k, cos, sin)
        else:
            turn_(made[:, : H + G], cos, sin)
        of_heads = (q_even, q_scale, q_over, k_even, k_scale, k_over)
        ctx.save_for_backward(even, scale, over, weight, *of_heads, cos, sin)
        return q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_q: Tensor, of_k: Tensor, of_v: Tensor) -> Any:  # type: ignore[override]
        even, scale, over, weight, *of_heads, cos, sin = ctx.saved_tensors
        q_even, q_scale, q_over, k_even, k_scale, k_over = of_heads
        (H, G), (_, T, d) = ctx.heads, of_q.shape
        grad = of_v.new_empty(T, H + 2 * G, d)
        to_q, to_k, to_v = grad.split([H, G, G], dim=1)
        turn_back(of_q.transpose(0, 1), cos, sin, to_q)
        turn_back(of_k.transpose(0, 1), cos, sin, to_k)
        to_v.copy_(of_v.transpose(0, 1))
        of_q_scale = of_k_scale = None
        if q_even is not None:
            of_q, of_q_scale = _norm_back(to_q, q_even, q_scale, q_over, grad.dtype)
            of_k, of_k_scale = _norm_back(to_k, k_even, k_scale, k_over, grad.dtype)
            to_q.copy_(of_q)
            to_k.copy_(of_k)
        grad = grad.flatten(1)
        needs = ctx.needs_input_grad
        of_weight = grad.T @ _scaled(even, scale, grad.dtype) if needs[3] else None
        of_bias = grad.sum(0, dtype=torch.promote_types(grad.dtype, torch.float32)) if needs[4] else None
        of_x, of_scale = _norm_back(grad @ weight, even, scale, over, ctx.dtype)
        scales = (of_q_scale, None, of_k_scale, None)
        return of_x, of_scale, None, of_weight, of_bias, *scales, None, None, None, None
