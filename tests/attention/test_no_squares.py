"""Nothing of T × T elements is made by anything but dense: planning traced, tensors watched as they are made."""

import tracemalloc
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transfuse import masks
from transfuse.attention import Request
from transfuse.masks import Mask
from transfuse.testing import strategies
from transfuse_tiles import kernel as tile_kernel
from transfuse_tiles.backend import Tiles

T, HEADS, WIDTH = 4096, 2, 16
RULE = masks.parse("same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))")


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.numel())
        return result


def row() -> dict[str, np.ndarray]:
    spans = ((30, False, False), (64, True, True), (64, True, False), (20, False, False))
    layouts = [strategies.Layout(spans)] * (T // 178)
    return strategies.packed(layouts, T - 178 * len(layouts))


def peak_bytes(mask: Mask, columns: dict[str, np.ndarray]) -> int:
    tracemalloc.start()
    Tiles().plan(mask, columns, None, request())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def request() -> Request:
    return Request(torch.device("cpu"), torch.float32, HEADS, HEADS, WIDTH, T, T)


def test_planning_takes_less_memory_than_one_square_of_booleans() -> None:
    assert peak_bytes(RULE, row()) < T * T / 2


def test_no_tensor_of_a_square_is_made_forward_or_backward() -> None:
    plan = Tiles().plan(RULE, row(), None, request())
    q, k, v, grad = torch.randn(4, HEADS, T, WIDTH)
    with Largest() as largest:
        lists = plan.table, plan.index, plan.bias
        _, weights = tile_kernel.forward(q, k, v, *lists, plan.kept, plan.rows)
        tile_kernel.backward(grad, [q, k, v], HEADS, *lists, weights)
    assert 0 < largest.elements < T * T / 8
    with Largest() as dense:
        RULE.dense(row()) & torch.ones(T, T, dtype=torch.bool)
    assert dense.elements == T * T, "the watch sees what it should"
