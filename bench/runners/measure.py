"""How bench/peer.py measures: process CPU time on one pinned core, runners in turn, medians with their spread."""

import os
import statistics
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile, record_function

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_addmm_activation")
PRODUCTS += (
    "aten::linear",
    "mkl::_mkl_linear",
    "mkldnn::_linear_pointwise",
    "mkldnn::_linear_pointwise.binary",
)
ATTENTION = ("tiles", "scaled_dot_product")


def pin() -> int:
    """This process on one core and one thread; which core."""
    torch.set_num_threads(1)
    if not hasattr(os, "sched_setaffinity"):  # macOS
        return -1
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


@dataclass(frozen=True)
class Rate:
    """Units a CPU-second: the median of the rounds, and their range as a share of it."""

    median: float
    spread: float

    @staticmethod
    def of(rates: list[float]) -> "Rate":
        median = statistics.median(rates)
        return Rate(median, (max(rates) - min(rates)) / median)


def alternate(
    steps: Mapping[str, Callable[[], int]],
    rounds: int,
    least: float,
    compiled: Collection[str] = (),
    ready: Collection[str] = (),
) -> dict[str, Rate]:
    """Each of ``steps``, which says how many units it did, in every round for ``least`` CPU-seconds, one step at least.

    One step of each that is not ``ready`` comes first and is not counted, as it plans and fetches memory; of those that
    are ``compiled`` as many as take ``least`` more, as other shapes may be compiled again.
    """
    for name, step in steps.items():
        if name not in ready:
            step()
        if name in compiled:
            _steps(step, least)
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            rates[name].append(_steps(step, least))
    return {name: Rate.of(found) for name, found in rates.items()}


def _steps(step: Callable[[], int], least: float) -> float:
    """Units a CPU-second of at least one step, and of more until ``least`` seconds are over."""
    units, started, spent = 0, time.process_time(), 0.0
    while spent < least or not units:
        units += step()
        spent = time.process_time() - started
    return units / spent


def peak(dtype: torch.dtype, size: int = 1024, rounds: int = 7) -> float:
    """FLOPs a CPU-second of a matrix product of this size: the best of some rounds."""
    a, b = (torch.randn(size, size, generator=torch.Generator().manual_seed(0)).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(4):
            a @ b
        best = max(best, 4 * 2 * size**3 / (time.process_time() - started))
    return best


def kept_bytes(model: nn.Module, loss: Callable[[], tuple[Tensor, int]]) -> tuple[float, int]:
    """Bytes that autograd keeps of a forward pass, each storage once and parameters not; and its positions."""
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    found: dict[int, Tensor] = {}  # held until the end, or the next storage may lie where one was

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            found[place] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        total, positions = loss()
    nbytes = sum(tensor.untyped_storage().nbytes() for tensor in found.values())
    total.backward()
    model.zero_grad(set_to_none=True)
    return nbytes, positions


def breakdown(step: Callable[[], int], steps: int = 2) -> dict[str, float]:
    """Where a step's time goes, as shares that add up to 1: ``matmul``, ``attention``, ``optimizer``, other operations
    by name, and ``python``, which is what no operation accounts for: the program between them, the profiler's work.

    Products within attention count as attention. The clock is torch.profiler's, so nothing else should run.
    """
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            with record_function("step"):
                step()
    events = list(profiled.events())
    whole = sum(event.cpu_time_total for event in events if event.name == "step")
    shares: dict[str, float] = {}
    for event in events:
        if event.name == "step" or event.name.startswith(("Optimizer.", "ProfilerStep", "autograd::")):
            continue
        kind = _kind(event)
        shares[kind] = shares.get(kind, 0.0) + event.self_cpu_time_total / whole
    shares["python"] = 1 - sum(shares.values())
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _kind(event: torch.autograd.profiler_util.FunctionEvent) -> str:
    up = event
    while up is not None:
        if any(name in up.name for name in ATTENTION):
            return "attention"
        if up.name.startswith(("Optimizer.step", "aten::_fused_adamw")):
            return "optimizer"
        up = up.cpu_parent
    return "matmul" if event.name in PRODUCTS else event.name.removeprefix("aten::")
