"""FlexAttention's lowering: blocks counted, masks function for function, its CPU forward against dense."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transfuse import masks
from transfuse.attention import Dense, Request
from transfuse.errors import TransfuseError
from transfuse.masks import Mask
from transfuse.testing import strategies
from transfuse_adapters import flex
from transfuse_adapters.block_counts import block_counts


@given(
    strategies.masks(),
    strategies.columns(max_size=20),
    strategies.columns(max_size=20),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_pairs_in_each_block(mask: Mask, queries: dict, keys: dict, n: int, m: int) -> None:
    allowed = mask.allowed(queries, keys)
    rows, columns = -(-allowed.shape[0] // n), -(-allowed.shape[1] // m)
    padded = np.zeros((rows * n, columns * m), int)
    padded[: allowed.shape[0], : allowed.shape[1]] = allowed
    expected = padded.reshape(rows, n, columns, m).sum((1, 3))
    found = block_counts(mask.slices(queries, keys), n, m)
    count = np.zeros_like(expected)
    count[found.query, found.key] = found.pairs
    assert (count == expected).all()
    assert (found.pairs > 0).all()


@given(strategies.masks(), strategies.columns(), strategies.columns())
def test_mask_functions_equal_the_rule(mask: Mask, queries: dict, keys: dict) -> None:
    allowed = mask.dense(queries, keys)
    i, j = torch.arange(allowed.shape[0])[:, None], torch.arange(allowed.shape[1])[None]
    nothing = torch.zeros(())
    rule = flex.from_expression(mask, queries, keys)
    assert (rule(nothing, nothing, *torch.broadcast_tensors(i, j)) == allowed).all()
    intervals = mask.intervals(queries, keys)
    if np.diff(intervals.ptr).max(initial=0) <= flex.TABLES:
        table = flex.from_tables(intervals)
        assert (table(nothing, nothing, i, j) == allowed).all()


def long_row(T: int) -> dict:
    rng = np.random.default_rng(0)
    row = [strategies.Layout(((int(rng.integers(3, 30)), False, False), (64, True, True), (40, True, False)))]
    row = row * (T // row[0].size)
    return strategies.packed(row, T - sum(layout.size for layout in row))


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize(
    "text",
    [
        "same(doc) & (le(idx) | same(span))",
        "same(doc) & le(idx) & ~(q.image & k.image & ~same(span))",
        "same(doc) & (q.image | le(idx)) & (k.text | delta(block, lo=0, hi=0) | k.noised)",
    ],
)
def test_forward_on_cpu_equals_dense(text: str) -> None:
    mask, columns, T = masks.parse(text), long_row(512), 512
    q, k, v = torch.randn(3, 2, T, 16, generator=torch.Generator().manual_seed(0))
    request = Request(q.device, q.dtype, 2, 2, 16, T, T, requires_grad=False)
    backend = flex.Flex()
    assert backend.supports(request) == []
    plan = backend.plan(mask, columns, None, request)
    expected = Dense().attend(q, k, v, Dense().plan(mask, columns, None, request))
    torch.testing.assert_close(backend.attend(q, k, v, plan), expected, atol=1e-5, rtol=0)
    blocks = plan.blocks.to_dense()[0, 0].bool()
    touched = mask.dense(columns).view(4, 128, 4, 128).any(3).any(1)
    assert (blocks == touched).all()


def test_reasons_and_wrong_lengths() -> None:
    request = Request(torch.device("cpu"), torch.float64, 1, 1, 8, 100, 128)
    reasons = "; ".join(flex.Flex().supports(request))
    for part in ("100 queries are no multiple of 128", "no backward pass on CPU", "float64", "below"):
        assert part in reasons
    assert "does not run on mps" in "; ".join(
        flex.Flex().supports(Request(torch.device("mps"), torch.float32, 1, 1, 16, 128, 128))
    )
    with pytest.raises(TransfuseError, match="fill the row up"):
        flex.block_mask(
            masks.full.slices({"a": [1] * 5}), flex.from_tables(masks.full.intervals({"a": [1] * 5}))
        )


def test_building_the_backend_does_not_import_flex_attention() -> None:
    code = (
        "import sys; from transfuse_adapters.plugin import KernelSettings, build_flex; "
        "build_flex(KernelSettings()); sys.exit('torch.nn.attention.flex_attention' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
