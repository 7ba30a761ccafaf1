"""Kernels against every oracle, BlockMask from slices against create_block_mask, and no recompilation."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transfuse import masks
from transfuse.attention import Backend, Dense, Request
from transfuse.errors import TransfuseError
from transfuse.masks import Mask
from transfuse.masks.expressions import Flag, atoms
from transfuse_adapters import flex, xformers

from stages.size import Figures, Size, limit, seconds

ORACLES = Path(__file__).parents[2] / "tests" / "data" / "oracles" / "masks"
TRANSFUSION = masks.parse("same(doc) & (le(idx) | same(span))")


def filled(mask: Mask, columns: dict[str, Any], length: int) -> dict[str, np.ndarray]:
    """A system's small row many times over, each a document of its own where it has documents, and filler."""
    size, found = len(next(iter(columns.values()))), {}
    times = length // size
    flags = {atom.column for atom in atoms(mask.expression) if isinstance(atom, Flag)}
    for name, values in columns.items():
        once = np.asarray(values)
        parts = [once]
        for i in range(1, times):
            step = i * (int(once.max()) + 1) if name in ("doc", "idx", "span") else 0
            parts.append(np.where(once < 0, once, once + step))
        rest = np.full(length - times * size, 0 if name in flags else -1)
        found[name] = np.concatenate([*parts, rest])
    return found


def kernels(size: Size) -> Figures:
    """Every oracle's mask through every kernel: outputs and gradients against float64 written out, in bf16, then fp32.

    A kernel's error may be four times that of torch's dense one in the same dtype. Masks for which no time is left are
    named.
    """
    found: Figures = {"masks": {}, "skipped": []}
    until = time.perf_counter() + 0.8 * limit("kernels", size)
    no_silent_fallback()
    offered: list[Backend] = [flex.Flex(), xformers.XFormers()]
    torch.backends.cuda.matmul.allow_tf32 = False
    for dtype in (torch.bfloat16, torch.float32):
        for path in sorted(ORACLES.glob("*.json")):
            if time.perf_counter() > until:
                found["skipped"].append(f"{path.stem}, {str(dtype)[6:]}: no time was left")
                continue
            system = json.loads(path.read_text())
            mask = masks.parse(system["rule"])
            columns = filled(mask, system["fields"], size.positions)
            wanted = through(Dense(), mask, columns, torch.float64, size, dtype)
            dense = through(Dense(), mask, columns, dtype, size, dtype)
            allowed = 4 * max(apart(dense, wanted)) + 1e-6
            for backend in offered:
                name = f"{path.stem}, {backend.name}, {str(dtype)[6:]}"
                try:
                    got = through(backend, mask, columns, dtype, size, dtype)
                except TransfuseError as reason:
                    if str(reason) not in found["skipped"]:
                        found["skipped"].append(str(reason))
                    continue
                errors = apart(got, wanted)
                found["masks"][name] = {"errors": errors, "allowed": allowed, "right": max(errors) <= allowed}
    if size.device == "cpu":
        found["skipped"].append("gradients: FlexAttention has no backward pass on the CPU")
    found["wrong"] = [name for name, one in found["masks"].items() if not one["right"]]
    return found


def through(
    backend: Backend,
    mask: Mask,
    columns: dict[str, np.ndarray],
    dtype: torch.dtype,
    size: Size,
    drawn: torch.dtype,
) -> list[Tensor]:
    """Output and gradients of attention, float64, for inputs that are exact in ``drawn``."""
    T, heads, width, grad = size.positions, 4, 64, size.device == "cuda"
    request = Request(torch.device(size.device), dtype, heads, heads, width, T, T, grad)
    if reasons := backend.supports(request):
        raise TransfuseError(f"{backend.name}: {'; '.join(reasons)}")
    generator = torch.Generator().manual_seed(0)
    *drawn_inputs, g = (torch.randn(heads, T, width, generator=generator).to(drawn) for _ in range(4))
    inputs = [x.to(size.device, dtype).requires_grad_(grad) for x in drawn_inputs]
    q, k, v = inputs
    out = backend.attend(q, k, v, backend.plan(mask, columns, None, request))
    seen = torch.from_numpy(mask.dense(columns).any(1).numpy())[None, :, None].to(out.device)
    out = torch.where(seen, out, 0.0)
    gradients = torch.autograd.grad(out, inputs, g.to(out)) if grad else ()
    return [x.detach().double() for x in (out, *gradients)]


def no_silent_fallback() -> None:
    """torch.compile raises where it would give up compiling and run FlexAttention over all pairs."""
    config = torch._dynamo.config
    config.recompile_limit = config.accumulated_recompile_limit = 1000
    config.fail_on_recompile_limit_hit = True


def apart(got: list[Tensor], wanted: list[Tensor]) -> list[float]:
    return [float((a - b).abs().max()) for a, b in zip(got, wanted, strict=True)]


def rows(size: Size, T: int, count: int) -> Iterator[dict[str, np.ndarray]]:
    """Columns of different Transfusion rows of one length."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        doc, span = [], []
        while len(doc) < T:
            text, image, own = int(rng.integers(4, 100)), int(rng.integers(4, 64)), 1 + max([-1, *doc[-1:]])
            doc += [own] * (text + image)
            span += [-1] * text + [own] * image
        yield {"doc": np.array(doc[:T]), "span": np.array(span[:T]), "idx": np.arange(T)}


def block_masks(size: Size) -> Figures:
    """BlockMask from slices against create_block_mask, which asks about every pair: the same blocks, and the times."""
    from torch.nn.attention.flex_attention import create_block_mask

    T = size.closure
    (columns,) = rows(size, T, 1)
    slices = TRANSFUSION.slices(columns)
    mod = flex.from_tables(slices.intervals(), size.device)
    ours, theirs = (
        flex.block_mask(slices, mod, size.device),
        create_block_mask(mod, None, None, T, T, size.device),
    )
    same = bool((ours.to_dense() == theirs.to_dense()).all())
    full = bool((dense_full(ours) == dense_full(theirs)).all())
    return {
        "positions": T,
        "same_blocks": same,
        "same_full_blocks": full,
        "seconds_from_columns": seconds(
            lambda: flex.block_mask(TRANSFUSION.slices(columns), mod, size.device), size, 3
        ),
        "seconds_create_block_mask": seconds(
            lambda: create_block_mask(mod, None, None, T, T, size.device), size, 3
        ),
        "wrong": [] if same and full else ["blocks"],
    }


def dense_full(mask: Any) -> Tensor:
    """Which blocks are full, [rows, columns]."""
    many, index = mask.full_kv_num_blocks[0, 0], mask.full_kv_indices[0, 0].long()
    found = torch.zeros(len(many), index.shape[1] + 1, dtype=torch.bool, device=index.device)
    place = torch.arange(index.shape[1], device=index.device) < many[:, None]
    return found.scatter_(1, torch.where(place, index, index.shape[1]), True)[:, :-1]


def recompiles(size: Size) -> Figures:
    """Attention, forward and (on a GPU) backward, over many different rows: graphs compiled after the first few."""
    from torch._dynamo.utils import counters

    backend, T, grad = flex.Flex(), size.positions, size.device == "cuda"
    no_silent_fallback()
    request = Request(torch.device(size.device), torch.bfloat16, 4, 4, 64, T, T, grad)
    q, k, v = (
        torch.randn(4, T, 64, device=size.device, dtype=torch.bfloat16, requires_grad=grad) for _ in range(3)
    )
    warm, started = 0, 0.0
    for number, columns in enumerate(rows(size, T, size.rows)):
        if number == 4:
            warm, started = counters["stats"]["unique_graphs"], time.perf_counter()
        out = backend.attend(q, k, v, backend.plan(TRANSFUSION, columns, None, request))
        if grad:
            out.sum().backward()
    more = counters["stats"]["unique_graphs"] - warm
    found = {
        "rows": size.rows,
        "graphs_at_first": warm,
        "graphs_later": more,
        "wrong": ["recompiled"] if more else [],
    }
    found["seconds_a_row"] = (time.perf_counter() - started) / (size.rows - 4)
    if not grad:
        found["skipped"] = ["compilation and backward: on the CPU the kernel runs uncompiled"]
    return found
