"""How fast samples are made, of one prompt, of eight and of sixty-four together: text, and diffused pictures.

``python bench/generation.py --json FILE``: process CPU time, one pinned thread, medians of rounds that go through all
sizes in turn. dim 256, depth 6, 4 heads of 64; text is bytes, after a prompt of 20, greedy; a picture is 16 positions
of 4 numbers, 50 DDIM evaluations of two views. ``--write`` also puts the table into docs/performance.md.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch
from pages import write
from transfuse import Document, Item, Registry, build, generate
from transfuse.model.model import Model
from transfuse.sequences.vocabulary import END
from transfuse_lab.datasets.digits import Digits
from transfuse_lab.memory import keep_freed_memory

SIZES = (1, 8, 64)
PROMPT = "nineteen and a seven"
SETTINGS = (
    "model.dim=256", "model.layers=6", "model.heads=4", "text.vocab=256",
    "image.codec=pixel", "image.patcher.patch=2",
)  # fmt: skip
UNITS = {"text": "ms a token", "picture": "ms an evaluation of one view of a picture"}


def model_of(evaluations: int = 50) -> Model:
    """An untrained model whose greedy text goes on for as long as it may."""
    recipe = Registry.open().recipe("transfusion", [*SETTINGS, f"image.sampler.evaluations={evaluations}"])
    model = build(recipe, Digits(), report=lambda line: None).eval()
    model.predictable[:] = True
    with torch.no_grad():
        model.unembed.weight[model.vocabulary.marker(END)] = 0  # never the likeliest
    return model


def texts(model: Model, many: int, tokens: int, dtype: str) -> int:
    """Continues ``many`` texts; how many tokens that made."""
    prompts = [Document((Item("text", PROMPT, droppable=True),)) for _ in range(many)]
    made = generate(model, prompts, want="text", tokens=tokens, greedy=True, dtype=dtype)
    assert all(len(one.items) == 2 for one in made)
    return many * tokens


def pictures(model: Model, many: int, evaluations: int, dtype: str) -> int:
    """Draws ``many`` pictures, for captions of several lengths; how many evaluations of one view that took."""
    prompts = [Document((Item("text", PROMPT[: 5 + i % 8], droppable=True),)) for i in range(many)]
    generate(model, prompts, want="image", dtype=dtype)
    return 2 * many * evaluations


def measure(rounds: int, tokens: int, evaluations: int, dtypes: tuple[str, ...]) -> dict[str, dict]:
    """By kind, dtype and number together: milliseconds for each of the kind's units, and their spread."""
    model = model_of(evaluations)
    jobs: dict[tuple[str, str, int], Callable[[], int]] = {}
    for dtype in dtypes:
        for many in SIZES:
            jobs["text", dtype, many] = lambda n=many, d=dtype: texts(model, n, tokens, d)
            jobs["picture", dtype, many] = lambda n=many, d=dtype: pictures(model, n, evaluations, d)
    took: dict[tuple[str, str, int], list[float]] = {key: [] for key in jobs}
    for turn in range(rounds + 1):
        for key, job in jobs.items():
            began = time.process_time()
            units = job()
            if turn:  # the first warms up
                took[key].append(1e3 * (time.process_time() - began) / units)
    found: dict[str, dict] = {kind: {dtype: {} for dtype in dtypes} for kind in UNITS}
    for (kind, dtype, many), each in took.items():
        found[kind][dtype][str(many)] = {"ms": median(each), "least": min(each), "most": max(each)}
    return found


def table(found: Mapping[str, dict]) -> str:
    lines = [f"| | dtype | {' | '.join(f'{n} together' for n in SIZES)} |", "|---" * (2 + len(SIZES)) + "|"]
    for kind, unit in UNITS.items():
        for dtype, by_size in found[kind].items():
            cells = (
                f"{one['ms']:.3g} ({one['least']:.3g}-{one['most']:.3g})"
                for one in (by_size[str(n)] for n in SIZES)
            )
            lines.append(f"| {kind}, {unit} | {dtype} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    keep_freed_memory()
    found = measure(given.rounds, given.tokens, given.evaluations, tuple(given.dtype))
    print(table(found))
    if given.json:
        setting = {
            "rounds": given.rounds,
            "tokens": given.tokens,
            "evaluations": given.evaluations,
            "torch": torch.__version__,
        }
        given.json.write_text(json.dumps({"setting": setting, "figures": found}, indent=1) + "\n")
    if given.write:
        write("performance.md", "bench/generation.py", table(found))


if __name__ == "__main__":
    main()
