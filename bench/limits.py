"""What stops training and generation short of the processor's peak: their own matrix products, at their shapes, alone.

    python bench/limits.py --json limits.json [--only digits --only text_1] [--dtype bf16]
    python bench/limits.py --json limits.json --page    # the table of docs/performance.md, nothing measured

Every product of a step is noted with its operands' shapes and strides, and each is then run alone, over and over, which
is the best that can be had of it. If all else in a step took no time, FLOPs over the peak (a product of 1024³) would be
the column "at most".
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pages import write
from runners import measure
from runners.ours import Ours
from runners.page import GENERATION
from runners.workloads import WORKLOADS
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transfuse_lab.memory import keep_freed_memory

FIRST = {"mm": 0, "bmm": 0, "matmul": 0, "linear": 0, "addmm": 1, "baddbmm": 1, "addmm_": 1, "baddbmm_": 1}
"""The products, and which argument is the first of the two that are multiplied."""

Product = tuple[str, tuple, tuple]
"""An operation, and its two operands as (shape, stride, dtype)."""


class Noted(TorchDispatchMode):
    """The products that run while it is entered, and how often each."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name in FIRST:
            a, b = args[FIRST[name] : FIRST[name] + 2]
            b = b.mT if name == "linear" else b
            self.products[name, (a.shape, a.stride(), a.dtype), (b.shape, b.stride(), b.dtype)] += 1
        return func(*args, **(kwargs or {}))


def flops(product: Product) -> float:
    _, (a, *_), (b, *_) = product
    return 2.0 * a.numel() * b[-1]


def alone(product: Product, least: float = 0.05) -> float:
    """CPU-seconds of a product by itself: the best of some rounds."""
    _, *operands = product
    a, b = (torch.empty_strided(shape, stride, dtype=dtype).normal_() for shape, stride, dtype in operands)
    run: Callable[[Tensor, Tensor], Tensor] = torch.bmm if a.dim() == 3 else torch.mm
    best, until = float("inf"), time.process_time() + least
    run(a, b)
    while time.process_time() < until:
        started = time.process_time()
        for _ in range(3):
            run(a, b)
        best = min(best, (time.process_time() - started) / 3)
    return best


def measured(workload: str, dtype: str) -> dict[str, float]:
    """Of one workload in one dtype, for the table."""
    ours = Ours(WORKLOADS[workload], dtype)
    for _ in range(2):
        ours.step()
    with Noted() as noted:
        positions = ours.step()
    products = {product: alone(product) for product in noted.products}
    best = sum(products[product] * count for product, count in noted.products.items())
    done = sum(flops(product) * count for product, count in noted.products.items())
    top = measure.peak(measure.DTYPES[dtype])
    step = positions / measure.alternate({"": ours.step}, 3, 1.0, ready=[""])[""].median
    return {
        "peak_gflops": top / 1e9,
        "products_gflops": done / best / 1e9,
        "products_over_peak": done / best / top,
        "products_share": best / step,
        "over_peak": ours.flops_a_position * positions / step / top,
        "at_most": ours.flops_a_position * positions / best / top,
        "milliseconds": 1e3 * step,
    }


def generated(name: str, dtype: str) -> dict[str, float]:
    """The same of generation: milliseconds for an evaluation of a view of a picture, or for a byte of text."""
    kind, number = name.split("_")
    ours = Ours(WORKLOADS["digits"], dtype, together=int(number))
    prompts = ["12345678"] * int(number)
    run = getattr(ours, kind)
    each = run(prompts) * (2 * ours.evaluations if kind == "pictures" else 1)
    with Noted() as noted:
        run(prompts)
    best = sum(alone(product) * count for product, count in noted.products.items())
    started = time.process_time()
    run(prompts)
    return {"milliseconds": 1e3 * (time.process_time() - started) / each, "products": 1e3 * best / each}


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = [
        "| | GFLOP/s of a product of 1024³ | of the step's own products, each alone | their share of a step "
        "| FLOPs over peak | at most, if all else were free |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {workload}, {dtype} | {one['peak_gflops']:.0f} | {one['products_gflops']:.0f} "
        f"({one['products_over_peak']:.0%}) | {one['products_share']:.0%} | {one['over_peak']:.2f} "
        f"| {one['at_most']:.2f} |"
        for workload, by_dtype in found.items()
        if workload in WORKLOADS
        for dtype, one in by_dtype.items()
    ]
    lines += [
        "",
        "| milliseconds, as in the table above | in all | its products, each alone |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name.replace('_', ', ')} together, {dtype} | {one['milliseconds']:.2f} | {one['products']:.2f} |"
        for name, by_dtype in found.items()
        if name in GENERATION
        for dtype, one in by_dtype.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="the figures; what it has of others is kept")
    parser.add_argument("--only", action="append", choices=(*WORKLOADS, *GENERATION))
    parser.add_argument("--dtype", action="append", choices=tuple(measure.DTYPES))
    parser.add_argument("--page", action="store_true", help="write docs/performance.md from the file")
    given = parser.parse_args()
    if given.page:
        write("performance.md", "bench/limits.py", table(json.loads(given.json.read_text())))
        return
    measure.pin()
    keep_freed_memory()
    found = json.loads(given.json.read_text()) if given.json.exists() else {}
    for workload in given.only or ("digits", "ragged", "equal", *GENERATION):
        for dtype in given.dtype or measure.DTYPES:
            make = measured if workload in WORKLOADS else generated
            found.setdefault(workload, {})[dtype] = make(workload, dtype)
            print(workload, dtype, found[workload][dtype], flush=True)
            given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
