"""Whether bfloat16 trains as float32 does: digits over seeds in both, and the losses they end with.

python bench/precision.py --json FILE

A run's loss is the mean over its last tenth of steps. Data order and noise are a seed's, so that the runs of one seed
differ in the dtype alone: what is compared is that difference with the spread of seeds.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from transfuse.model.build import build
from transfuse.registry import Registry
from transfuse.training import Trainer
from transfuse_lab.datasets.digits import Digits
from transfuse_lab.memory import keep_freed_memory

DTYPES = ("float32", "bfloat16")
SETTINGS = ("image.codec=pixel", "image.patcher.patch=4", "model.layers=2")


def losses(seed: int, dtype: str, steps: int) -> dict[str, float]:
    """By modality, the mean loss of a run's last tenth."""
    registry, data = Registry.open(), Digits()
    changed = [*SETTINGS, f"train.seed={seed}", f"train.dtype={dtype}", f"train.steps={steps}"]
    recipe = registry.recipe("transfusion", changed)
    model = build(recipe, data, registry.plugins, lambda line: None)
    trainer = Trainer(recipe, model, data)
    steps_of = [trainer.step() for _ in range(steps)]
    last = steps_of[-max(1, steps // 10) :]
    return {name: statistics.mean(step[f"loss_{name}"] for step in last) for name in recipe.modalities}


def compare(seeds: Sequence[int], steps: int) -> dict[str, dict[str, float]]:
    """By modality: each dtype's mean over seeds, float32's spread, and the mean difference of a seed's two runs."""
    found = {(seed, dtype): losses(seed, dtype, steps) for seed in seeds for dtype in DTYPES}
    figures = {}
    for name in next(iter(found.values())):
        full, half = ([found[seed, dtype][name] for seed in seeds] for dtype in DTYPES)
        figures[name] = {
            "float32": statistics.mean(full),
            "bfloat16": statistics.mean(half),
            "spread": statistics.stdev(full),
            "difference": statistics.mean(b - a for a, b in zip(full, half, strict=True)),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    figures = compare(range(given.seeds), given.steps)
    for name, each in figures.items():
        print(
            f"{name:8} float32 {each['float32']:.4f}  bfloat16 {each['bfloat16']:.4f}  spread of seeds "
            f"{each['spread']:.4f}  difference {each['difference']:+.4f}"
        )
    if given.json:
        setting = {"seeds": given.seeds, "steps": given.steps, "recipe": ["transfusion", *SETTINGS]}
        given.json.write_text(json.dumps({"setting": setting, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
