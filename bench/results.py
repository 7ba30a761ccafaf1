"""The tables of docs/results.md, of the records in docs/results: so that no figure there is copied by hand.

python bench/results.py [--write]
"""

import argparse
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from pages import DOCS, write

DIGITS = {
    "generation_accuracy": ("a classifier reads the digit that was asked for", 100, "%"),
    "caption_accuracy": ("held-out pictures captioned exactly, greedily", 100, "%"),
    "caption_nll_byte": ("caption NLL, nats a byte", 1, ""),
    "frechet_distance": ("Fréchet distance in the classifier's features", 1, ""),
    "reconstruction_error": ("autoencoder's squared error a pixel", 1, ""),
}
EMOJI = {
    "own_image_rank_seen": ("own picture's median rank among 3,786, names trained on", 1, ""),
    "own_image_rank_heldout": ("the same, held-out compositions", 1, ""),
    "caption_accuracy": ("held-out pictures captioned exactly, greedily", 100, "%"),
    "caption_nll_byte": ("caption NLL, nats a byte", 1, ""),
    "train_flops": ("training FLOPs", 1, ""),
}


def records(name: str) -> dict[str, Any]:
    return json.loads((DOCS / "results" / name).read_text())


def spelt(value: float, scale: int, unit: str) -> str:
    return f"{value * scale:.3g}{f' {unit}' if unit else ''}"


def compared(file: str, figures: Mapping[str, tuple[str, int, str]]) -> str:
    """Of each entry of a comparison: the mean, and each seed."""
    told = records(file)
    seeds = ", ".join(f"seed {seed}" for seed in next(iter(told["seeds"].values())))
    lines = [f"| mean ({seeds}) | {' | '.join(told['recipes'])} |", "|---|" + "---|" * len(told["recipes"])]
    for name, (meaning, scale, unit) in figures.items():
        cells = [_over_seeds(found[name], scale, unit) for found in told["recipes"].values()]
        lines.append(f"| {meaning} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _over_seeds(found: Mapping[str, Any], scale: int, unit: str) -> str:
    single = ", ".join(spelt(value, scale, "") for value in found["values"])
    return f"{spelt(found['mean'], scale, unit)} ({single})"


TABLES = {
    "bench/results.py digits": partial(compared, "compare-digits.json", DIGITS),
    "bench/results.py emoji": partial(compared, "compare-emoji.json", EMOJI),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/results.md")
    given = parser.parse_args()
    for mark, table in TABLES.items():
        print(table(), end="\n\n")
        if given.write:
            write("results.md", mark, table())


if __name__ == "__main__":
    main()
