"""Llama's blocks: what rotary positions mean, and which of their parts make a difference."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transfuse.attention import attend
from transfuse.config.recipe import ModelSettings
from transfuse_llama.fused import turn_
from transfuse_llama.llama import Llama, LlamaSettings, rotary

from tests.tiny.models import CAUSAL, bare

VARIANTS: Mapping[str, dict[str, Any]] = {
    "plain": {},
    "shared key-value heads": {"kv_heads": 2},
    "one key-value head": {"kv_heads": 1},
    "qk-norm": {"qk_norm": True},
    "post-norm": {"post_norm": True},
    "narrow SwiGLU": {"hidden": 8},
}


def settings(**changed: Any) -> ModelSettings:
    return ModelSettings(**{"dim": 32, "layers": 2, "heads": 4, **changed})


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads [n, T, d], turned."""
    turned = x.transpose(0, 1).clone()
    turn_(turned, cos.to(x), sin.to(x))
    return turned.transpose(0, 1)


def scores(q: Tensor, k: Tensor, at: Tensor, theta: float = 10_000.0) -> Tensor:
    """q·k between all pairs, once rotated to their positions [T, axes]."""
    cos, sin = rotary(at, q.shape[-1], theta)
    return rotate(q, cos, sin) @ rotate(k, cos, sin).mT


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_rotary_scores_depend_on_differences_of_positions_alone(axes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 6, 12, generator=generator, dtype=torch.float64)
    at = torch.randint(0, 50, (6, axes), generator=generator)
    moved = at + torch.tensor([[7, 20, 3]])[:, :axes]
    torch.testing.assert_close(scores(q, k, at), scores(q, k, moved), rtol=1e-4, atol=1e-4)
    for axis in range(axes):  # and on each axis
        other = at.clone()
        other[0, axis] += 5
        assert not torch.allclose(scores(q, k, at), scores(q, k, other), atol=1e-3)


def test_rotation_keeps_lengths_and_position_0_turns_nothing() -> None:
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    cos, sin = rotary(torch.arange(5)[:, None], 8, 100.0)
    torch.testing.assert_close(rotate(x, cos, sin).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotate(x, cos, sin)[:, 0], x[:, 0])


def test_one_axis_is_the_rotation_of_the_rope_paper() -> None:
    """Pair i turns by position · theta^(-2i/d), written with complex numbers."""
    d, theta = 8, 100.0
    x = torch.randn(5, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cos, sin = rotary(torch.arange(5)[:, None], d, theta)
    found = rotate(x[None], cos.double(), sin.double())[0]
    pairs = torch.complex(x[:, : d // 2], x[:, d // 2 :])
    frequency = torch.tensor([theta ** (-2 * i / d) for i in range(d // 2)], dtype=torch.float64)
    turned = pairs * torch.exp(1j * torch.arange(5)[:, None] * frequency)
    torch.testing.assert_close(found, torch.cat([turned.real, turned.imag], dim=1), rtol=1e-5, atol=1e-5)


def test_axes_take_the_pairs_in_turn() -> None:
    at = torch.tensor([[0, 0], [3, 0], [0, 3]])
    cos, _ = rotary(at, 12, 100.0)
    assert (cos[1] == 1).tolist() == [False, True] * 3
    assert (cos[2] == 1).tolist() == [True, False] * 3


def run(model: Llama, x: Tensor, at: Tensor) -> Tensor:
    columns = {"doc": np.zeros(len(x), np.int64), "idx": np.arange(len(x))}
    here = partial(attend, mask=CAUSAL, columns=columns, backend="dense")
    return model(x, model.prepare(bare(at)), torch.zeros(0), [here] * model.settings.layers)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_runs_is_finite_and_uses_all_its_weights(name: str) -> None:
    torch.manual_seed(0)
    s = settings(**VARIANTS[name])
    model = Llama(LlamaSettings(), s)
    x = torch.randn(7, 32, requires_grad=True)
    out = run(model, x, torch.arange(7)[:, None])
    assert out.shape == (7, 32)
    out.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_shared_key_value_heads_are_those_heads_repeated() -> None:
    """GQA: query heads 0-1 read the first key-value head, 2-3 the second."""
    torch.manual_seed(0)
    shared, whole = (
        Llama(LlamaSettings(), settings(kv_heads=2, layers=1)),
        Llama(LlamaSettings(), settings(layers=1)),
    )
    weights = shared.state_dict()
    q, k, v = weights["blocks.0.attention.qkv.weight"].split([32, 16, 16])
    doubled = [part.view(2, 8, 32).repeat_interleave(2, dim=0).flatten(0, 1) for part in (k, v)]
    whole.load_state_dict({**weights, "blocks.0.attention.qkv.weight": torch.cat([q, *doubled])})
    x, at = torch.randn(7, 32), torch.arange(7)[:, None]
    torch.testing.assert_close(run(shared, x, at), run(whole, x, at))


def test_qk_norm_makes_scores_blind_to_the_scale_of_queries_and_keys() -> None:
    torch.manual_seed(0)
    x, at = torch.randn(7, 32), torch.arange(7)[:, None]
    for qk_norm in (True, False):
        model = Llama(LlamaSettings(), settings(qk_norm=qk_norm, layers=1))
        before = run(model, x, at)
        with torch.no_grad():
            model.get_parameter("blocks.0.attention.qkv.weight")[:64] *= 10  # queries and keys
        assert torch.allclose(run(model, x, at), before, atol=1e-4) == qk_norm


def test_post_norm_bounds_what_a_block_adds() -> None:
    torch.manual_seed(0)
    x, at = 100 * torch.randn(7, 32), torch.arange(7)[:, None]
    block = Llama(LlamaSettings(), settings(post_norm=True)).blocks[0]
    cos, sin = rotary(at, 8, 10_000.0)
    columns = {"doc": np.zeros(7, np.int64), "idx": np.arange(7)}
    added = block(x, cos, sin, partial(attend, mask=CAUSAL, columns=columns)) - x
    rms = added.square().mean(dim=-1).sqrt()
    assert (rms < 2.01).all()  # two halves, each of root mean square 1


def test_without_a_mask_order_is_told_by_positions_alone() -> None:
    torch.manual_seed(0)
    model = Llama(LlamaSettings(), settings())
    x, at, order = torch.randn(7, 32), torch.arange(7)[:, None], torch.randperm(7)

    def free(x: Tensor, at: Tensor) -> Tensor:
        every = [lambda q, k, v: torch.softmax(q @ k.mT / 8**0.5, dim=-1) @ v] * 2
        return model(x, model.prepare(bare(at)), torch.zeros(0), every)

    torch.testing.assert_close(free(x[order], at[order]), free(x, at)[order])
    assert not torch.allclose(free(x[order], at), free(x, at)[order], atol=1e-3)
