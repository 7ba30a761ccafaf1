"""What several ranks measure against what one does: the largest relative difference of losses, and what a rank holds.

    python bench/ranks.py equal [--only N]     # 2 to 4 ranks against 1, same rows, float64
    python bench/ranks.py resume [--only N]    # from every step, on 1 and 2 ranks: how many steps are the same bits
    python bench/ranks.py elastic              # 2 ranks, then 1, then 3, against 1 that never stopped

Tiny models over gloo on a CPU: what is compared is arithmetic, not speed. A minute or two each; --only: one case.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.tiny.together import together

PROGRAM = "tests.tiny.rank_programs:{}"


def apart(one: list[dict[str, float]], other: list[dict[str, float]]) -> float:
    """The largest relative difference of what steps measured."""
    pairs = [(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a]
    return max(abs(a - b) / max(abs(a), 1e-300) for a, b in pairs)


def equal(only: int | None) -> None:
    cases: list[tuple[str, int, list[str], str]] = [
        ("text and images, 5 rows", 2, ["train.rows=5"], "transfusion"),
        (
            "codes, frozen blocks, tied",
            2,
            ["train.rows=4", "train.lr_scale={backbone: 0}", "model.tied=true"],
            "chameleon",
        ),
        ("groups of 2 of 4", 4, ["train.rows=8", "train.shard=2", "train.recompute=true"], "transfusion"),
    ]
    for title, ranks, more, name in cases if only is None else [cases[only]]:
        settings = ["train.ema=0.9", "train.steps=20", *more]
        (one,) = together(1, PROGRAM.format("losses"), 20, settings, name)
        each = together(ranks, PROGRAM.format("losses"), 20, settings, name)
        share = max(rank["held"] for rank in each) / one["held"]
        print(
            f"{title}: {ranks} ranks, {apart(one['steps'], each[0]['steps']):.1e} apart, {share:.3f} of the state",
            flush=True,
        )


def resume(only: int | None) -> None:
    for ranks in (1, 2) if only is None else [(1, 2)[only]]:
        with tempfile.TemporaryDirectory() as folder:
            steps = 4
            settings = ["train.rows=3", "image.patcher.name=unet"]
            each: Any = together(ranks, PROGRAM.format("every_step"), folder, steps, settings)
            same = sum(all(a == b for a, b in (pairs[i] for pairs in each)) for i in range(steps))
            print(f"{ranks} ranks: {same} of {steps} steps are the same bits", flush=True)


def elastic(only: int | None) -> None:
    settings = ["train.steps=12", "train.rows=4", "train.ema=0.9"]
    with tempfile.TemporaryDirectory() as folder:
        (straight,) = together(1, PROGRAM.format("go_on"), f"{folder}/straight", 12, settings, True)
        two, one, three = (
            together(ranks, PROGRAM.format("go_on"), f"{folder}/run", 4, settings, i == 0)[0]
            for i, ranks in enumerate((2, 1, 3))
        )
        kept = two["after"] == one["sums"] and one["after"] == three["sums"]
        read = [*two["documents"], *one["documents"], *three["documents"]] == straight["documents"]
        difference = apart(straight["steps"], [*two["steps"], *one["steps"], *three["steps"]])
        print(f"2, 1, 3 ranks: state {kept}, documents {read}, losses {difference:.1e} apart in float32")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("equal", "resume", "elastic"))
    parser.add_argument("--only", type=int)
    given = parser.parse_args()
    {"equal": equal, "resume": resume, "elastic": elastic}[given.what](given.only)


if __name__ == "__main__":
    main()
