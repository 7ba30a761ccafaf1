"""How evenly the rows of a step are dealt to 2 to 64 ranks: a simulation over packed rows of two workloads.

    python bench/dealing.py            # the table
    python bench/dealing.py --write    # put it into docs/scale.md

A step takes as long as its dearest rank; max over mean of the ranks' FLOPs says how much longer that is than it could
be. Ragged: documents of 4-200 letters and a span of 4-256, in rows of 4,096. BAGEL-like: documents of one to three
pictures of 256 positions in a noised and a clean copy, each behind up to 400 letters, in rows of 8,192. FLOPs are those
of a model of width 256 and 6 layers, in which attention weighs more than in a large one, and rows differ more. As they
come: the same rows dealt in their order, 4 a rank.
"""

import argparse
from dataclasses import replace
from itertools import islice

from pages import write
from stages import models
from stages.size import SMALL
from training_step import SETTINGS, Drawn
from transfuse.model.build import build
from transfuse.registry import Registry
from transfuse.training import Trainer
from transfuse.training.dealing import deal, imbalance

RANKS, ROWS, STEPS = (2, 4, 8, 16, 32, 64), (4, 8), 4


def ragged() -> Trainer:
    registry, data = Registry.open(), Drawn("ragged")
    recipe = registry.recipe("transfusion", [*SETTINGS, "train.budget=4096"])
    return Trainer(recipe, build(recipe, data, registry.plugins, lambda line: None), data)


def bagel() -> Trainer:
    size = replace(SMALL, width=256, heads=4, layers=6, side=32)
    longer = models.Interleaved
    models.Interleaved = lambda side, _: longer(side, 400)  # type: ignore[misc]
    return models.trainer(size, 8192)


def costs(trainer: Trainer, rows: int) -> list[float]:
    """FLOPs of so many rows."""
    return [trainer.costs.flops(row) for row in islice(trainer.rows, rows)]


def table(measured: dict[str, list[float]]) -> str:
    lines = [
        "| workload | rows a rank | "
        + " | ".join(f"{n} ranks" for n in RANKS)
        + " | as they come, 64 ranks |",
        "|---|---|" + "---|" * (len(RANKS) + 1),
    ]
    for name, found in measured.items():
        for each in ROWS:
            worst = {n: max(_steps(found, n, each)) for n in RANKS}
            plain = max(_steps(found, RANKS[-1], each, dealt=False))
            cells = " | ".join(f"{worst[n]:.3f}" for n in RANKS)
            lines.append(f"| {name} | {each} | {cells} | {plain:.3f} |")
    return "\n".join(lines)


def _steps(found: list[float], ranks: int, each: int, dealt: bool = True) -> list[float]:
    """Max over mean of the steps that these rows make."""
    size, imbalances = ranks * each, []
    for start in range(0, len(found) - size + 1, size):
        step = found[start : start + size]
        parts = deal(step, ranks) if dealt else [range(i * each, (i + 1) * each) for i in range(ranks)]
        imbalances.append(imbalance(step, parts))
    return imbalances


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rows = RANKS[-1] * max(ROWS) * STEPS // 2
    measured = {"ragged": costs(ragged(), rows), "BAGEL-like": costs(bagel(), rows)}
    made = table(measured)
    print(made)
    if given.write:
        write("scale.md", "bench/dealing.py", made)


if __name__ == "__main__":
    main()
