"""The tables of docs/performance.md from the figures of bench/peer.py, and what was to be reached."""

from collections.abc import Iterator
from typing import Any

GENERATION = ("pictures_1", "pictures_8", "pictures_64", "text_1", "text_64")

DRAWN = "generation over the peer in fp32"

Figures = dict[str, Any]
"""By workload, then by dtype: a cell as `training` or `generation` of bench/peer.py makes it."""

TARGETS: list[tuple[str, str, str, str, float]] = [
    *(("digits", d, "ratio", "training over the peer in fp32", t) for d, t in (("fp32", 4.5), ("bf16", 7.5))),
    *(("ragged", d, "ratio", "training over the peer in fp32", t) for d, t in (("fp32", 7.5), ("bf16", 12.5))),
    *(("equal", d, "ratio", "training over the peer in fp32", t) for d, t in (("fp32", 3.0), ("bf16", 5.0))),
    *(("digits", d, "over_plain", "training over plain", 1.3) for d in ("fp32", "bf16")),
    *(("ragged", d, "over_plain", "training over plain", 2.0) for d in ("fp32", "bf16")),
    *(("equal", d, "over_plain", "training over plain", 1.0) for d in ("fp32", "bf16")),
    *(("digits", d, "flops_over_peak", "FLOPs over matmul peak", t) for d, t in (("fp32", 0.8), ("bf16", 0.68))),
    *(("ragged", d, "flops_over_peak", "FLOPs over matmul peak", t) for d, t in (("fp32", 0.8), ("bf16", 0.68))),
    *(("digits", d, "kept_kib", "kept for backward, KiB a position", -t) for d, t in (("fp32", 120), ("bf16", 70))),
    ("digits", "bf16", "outside", "share outside products and attention", -0.4),
    *((n, "bf16", "ratio", DRAWN, t) for n, t in zip(GENERATION, (5, 6, 8, 8, 90), strict=True)),
    ("pictures_64", "fp32", "ratio", DRAWN, 5.0),
]  # fmt: skip
"""Workload, dtype, key of a cell, what it is, and the least it should be; the most, where it is negative."""


def targets(figures: Figures) -> str:
    lines = ["| | | measured | target | |", "|---|---|---|---|---|"]
    for workload, dtype, key, what, bound in TARGETS:
        value = figures.get(workload, {}).get(dtype, {}).get(key)
        met = value is not None and (value >= bound if bound > 0 else value <= -bound)
        shown = "not measured" if value is None else f"{value:.3g}"
        sign = "≥" if bound > 0 else "≤"
        said = "" if value is None else "met" if met else "**missed**"
        lines.append(f"| {what} | {workload}, {dtype} | {shown} | {sign} {abs(bound):g} | {said} |")
    return "\n".join(lines)


def training(figures: Figures) -> str:
    lines = [
        "| data positions a CPU-second | plain | transfusion-pytorch | transfuse | over plain | over the peer in fp32 "
        "| FLOPs over peak | kept, KiB a position | outside products and attention |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for workload, dtype, cell in _cells(figures, generation=False):
        rates = [_rate(cell, name) for name in ("plain", "peer", "ours")]
        ratios = [_number(cell.get(key), "{:.2f}x") for key in ("over_plain", "ratio")]
        rest = [_number(cell.get("flops_over_peak"), "{:.2f}"), _number(cell.get("kept_kib"), "{:.0f}")]
        rest.append(_number(cell.get("outside"), "{:.0%}"))
        lines.append("| " + " | ".join([f"{workload}, {dtype}", *rates, *ratios, *rest]) + " |")
    return "\n".join(lines)


def generation(figures: Figures) -> str:
    lines = [
        "| milliseconds of CPU | transfusion-pytorch | transfuse | over the peer in fp32 |",
        "|---|---|---|---|",
    ]
    for workload, dtype, cell in _cells(figures, generation=True):
        unit = (
            "an evaluation of one view of a picture" if workload.startswith("pictures") else "a byte of text"
        )
        times = [_number(cell.get(f"{name}_ms"), "{:.2f}") for name in ("peer", "ours")]
        lines.append(
            f"| {workload.replace('_', ', ')} together, {dtype}: {unit} | {times[0]} | {times[1]} "
            f"| {_number(cell.get('ratio'), '{:.1f}x')} |"
        )
    return "\n".join(lines)


def settings(figures: Figures) -> str:
    """What was tried of the peer and of plain, and how fast it was."""
    found = figures.get("about", {}).get("settings", {})
    names = list(dict.fromkeys(name for rates in found.values() for name in rates))
    lines = [
        "| settings tried, fp32, data positions a CPU-second | " + " | ".join(found) + " |",
        "|---|" + "---|" * len(found),
    ]
    for name in names:
        lines.append(
            f"| {name} | " + " | ".join(_number(r.get(name), "{:,.0f}") for r in found.values()) + " |"
        )
    return "\n".join(lines)


def page(figures: Figures) -> str:
    """All that stands between the marks."""
    about = figures.get("about", {})
    said = ", ".join(str(about.get(name, "")) for name in ("processor", "torch", "date"))
    peaks = ", ".join(f"{d} {v:.0f}" for d, v in about.get("peak_gflops", {}).items())
    first = f"{said}; matmul peak at 1024³: {peaks} GFLOP a CPU-second. A figure's ± is half the range of its rounds."
    return "\n\n".join([first, training(figures), generation(figures), targets(figures), settings(figures)])


def _cells(figures: Figures, generation: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for workload, by_dtype in figures.items():
        if workload != "about" and (workload in GENERATION) == generation:
            for dtype, cell in by_dtype.items():
                yield workload, dtype, cell


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _rate(cell: dict[str, Any], name: str) -> str:
    if cell.get(name) is None:
        return ""
    return f"{cell[name]:,.0f} ± {50 * cell['spread'][name]:.0f} %"
