"""Where a step's time goes, before and after it was made faster: measures it, and draws docs/images/step.svg.

    python bench/step.py --measure after    # digits and ragged, fp32 and bf16, into docs/results/step.json; then draws
    python bench/step.py                    # draws what the file has

``before`` was measured with the same functions at commit 44ba1ec, in fp32, the only type it had.
"""

import argparse
import json
from html import escape
from typing import Any

from pages import DOCS
from runners import measure
from runners.ours import Ours
from runners.workloads import WORKLOADS

FILE, PICTURE = DOCS / "results" / "step.json", DOCS / "images" / "step.svg"
KINDS = {
    "matrix products": ("#4c78a8", ("matmul",)),
    "attention": ("#54a24b", ("attention",)),
    "optimiser and clip": ("#b279a2", ("optimizer", "linalg_vector_norm", "_foreach_norm")),
    "copies and gathers": (
        "#eeca3b",
        ("cat", "copy_", "_to_copy", "index", "index_select", "index_copy", "index_copy_", "clone", "fill_"),
    ),
    "norms, activations, sums": ("#e45756", ()),
    "Python and autograd": ("#9d9da1", ("python",)),
}  # fmt: skip
"""By what the picture calls them: colour, and keys of `measure.breakdown`; all other operations are those of no key."""
REST = "norms, activations, sums"
WIDTH, LEFT, BAR, GAP, TOP = 760, 150, 26, 12, 58
STYLE = """
text { font: 13px sans-serif; fill: #24292f }
.of { text-anchor: end }
.in { text-anchor: middle; fill: #000 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .in { fill: #000 } }
"""


def measured(workload: str, dtype: str) -> dict[str, float]:
    """CPU milliseconds for 1,000 data positions, by kind of work."""
    measure.pin()
    ours = Ours(WORKLOADS[workload], dtype)
    rate = measure.alternate({"": ours.step}, rounds=5, least=1.5)[""].median
    found = dict.fromkeys(KINDS, 0.0)
    kind_of = {key: kind for kind, (_, keys) in KINDS.items() for key in keys}
    for key, share in measure.breakdown(ours.step).items():
        found[kind_of.get(key, REST)] += 1e6 / rate * share
    return {kind: round(value, 2) for kind, value in found.items()}


def bars(figures: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """The picture's bars in order: each workload before, then after."""
    return [
        (f"{workload}, {when}, {dtype}", figures[when][workload][dtype])
        for workload in ("digits", "ragged")
        for when in ("before", "after")
        for dtype in figures.get(when, {}).get(workload, {})
    ]


def drawing(figures: dict[str, Any]) -> str:
    """The SVG: a bar each, as long as the milliseconds, its kinds in one order; readable on white and on black."""
    rows = bars(figures)
    scale = (WIDTH - LEFT - 70) / max(sum(row.values()) for _, row in rows)
    height = TOP + len(rows) * (BAR + GAP) + 8
    lines = []
    for i, (kind, (colour, _)) in enumerate(KINDS.items()):
        x, y = 10 + 245 * (i % 3), 8 + 22 * (i // 3)
        lines.append(f'<rect x="{x}" y="{y}" width="14" height="14" fill="{colour}"/>')
        lines.append(f'<text x="{x + 20}" y="{y + 12}">{escape(kind)}</text>')
    for i, (name, row) in enumerate(rows):
        x, y = float(LEFT), TOP + i * (BAR + GAP)
        lines.append(f'<text class="of" x="{LEFT - 8}" y="{y + 18}">{escape(name)}</text>')
        for kind, (colour, _) in KINDS.items():
            wide, share = row[kind] * scale, row[kind] / sum(row.values())
            lines.append(f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{BAR}" fill="{colour}"/>')
            if wide > 34:
                lines.append(f'<text class="in" x="{x + wide / 2:.1f}" y="{y + 18}">{share:.0%}</text>')
            x += wide
        lines.append(f'<text x="{x + 6:.1f}" y="{y + 18}">{sum(row.values()):.0f} ms</text>')
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", choices=("before", "after"))
    parser.add_argument("--only", action="append", choices=("digits", "ragged"))
    parser.add_argument("--dtype", action="append", choices=tuple(measure.DTYPES))
    given = parser.parse_args()
    figures = json.loads(FILE.read_text()) if FILE.exists() else {}
    if given.measure:
        for workload in given.only or ("digits", "ragged"):
            for dtype in given.dtype or (("fp32",) if given.measure == "before" else measure.DTYPES):
                found = measured(workload, dtype)
                figures.setdefault(given.measure, {}).setdefault(workload, {})[dtype] = found
                print(workload, dtype, found, flush=True)
        FILE.write_text(json.dumps(figures, indent=1) + "\n")
    PICTURE.write_text(drawing(figures))


if __name__ == "__main__":
    main()
