"""How large everything is on a GPU and in a rehearsal, how long a stage may take, and how it is timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Figures = dict[str, Any]

SECONDS = {
    "card": 30,
    "kernels": 130,
    "block_masks": 30,
    "recompiles": 60,
    "training": 100,
    "generation": 60,
    "tests": 110,
    "comparison": 120,
}
"""Stages in their order, and seconds that each may take at most."""


@dataclass(frozen=True)
class Size:
    """How large everything is. layers, width, heads, row, side, steps: of the trained model and its pictures."""

    device: str
    positions: int  # of a row under a kernel's test
    rows: int  # without a recompilation
    closure: int  # positions of a row for which create_block_mask asks about all pairs
    layers: int
    width: int
    heads: int
    row: int
    side: int
    steps: int
    pictures: int
    texts: int
    compare: tuple[str, ...]


LARGE = Size(
    "cuda", 1024, 1000, 8192, 24, 2048, 16, 32_768, 64, 5, 4, 64,
    ("model.dim=512", "model.layers=8", "model.heads=8", "train.flops=3e14", "train.budget=4096", "train.fill=true",
     "eval.prompts=200", "eval.trained=20"),
)  # fmt: skip
SMALL = Size(
    "cpu", 256, 20, 1024, 2, 64, 2, 512, 8, 2, 2, 4,
    ("model.dim=32", "model.layers=2", "model.heads=2", "train.flops=1e8", "train.budget=160", "eval.prompts=4",
     "eval.trained=0", "text.vocab=280", "image.codec.width=8", "image.codec.steps=5", "image.codec.batch=8"),
)  # fmt: skip


def limit(stage: str, size: Size) -> float:
    """Seconds for a stage; a rehearsal may run beside other work."""
    return SECONDS[stage] * (1 if size.device == "cuda" else 5)


def seconds(work: Callable[[], Any], size: Size, times: int, warm: int = 1) -> float:
    """Wall-clock seconds of one of ``times``, the device waited for."""
    for _ in range(warm):
        work()
    wait(size)
    started = time.perf_counter()
    for _ in range(times):
        work()
    wait(size)
    return (time.perf_counter() - started) / times


def wait(size: Size) -> None:
    if size.device == "cuda":
        torch.cuda.synchronize()
