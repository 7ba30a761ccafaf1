"""How long a step of an autoencoder's training takes, before and after each thing done about it.

    python bench/codecs.py [--quick] [--json FILE] [--write]

Each way takes its turn in every round; process CPU time of one thread; medians. Pin it to one core (``taskset -c 0``)
on a machine that does nothing else. ``--write`` puts the table into docs/codecs.md. About 3 minutes (quick: 1).

"Before" is float32, channels first, AdamW tensor by tensor. The table's last two columns are the loss reached after
the same steps on pictures of the emoji, or of shapes where those are not at hand: the mean over seeds, ± the spread.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages import write
from transfuse import Registry
from transfuse.plugin import FitContext, Key
from transfuse_image.codecs.autoencoder_training import AutoencoderTraining
from transfuse_lab.memory import keep_freed_memory

TERMS = {"l2": 0, "perceptual": 1, "gan": 0.5}
EMOJI = {"down": 4, "stem": 2, "growth": 2, "batch": 32, "lr": 3e-3}
CASES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "digits, 8×8": (8, 1, {}),
    "emoji's settings, 32×32": (32, 3, EMOJI),
    "defaults, 64×64": (64, 3, {}),
    "the paper's terms, 64×64, 16 images": (
        64,
        3,
        {**EMOJI, "batch": 16, "loss": TERMS, "critic": {"start": 0}},
    ),
}
"""Side and channels of the pictures, and settings."""
WAYS = ("before", "channels last", "and fused AdamW", "and bfloat16")


def pictures(count: int, side: int, channels: int, seed: int = 0) -> np.ndarray:
    """Discs of many colours on a gradient, in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    made = np.empty((count, channels, side, side), np.float32)
    for i in range(count):
        made[i] = (x * rng.random() + y * rng.random())[None] / 2
        for _ in range(4):
            inside = np.hypot(x - rng.random(), y - rng.random()) < 0.1 + 0.2 * rng.random()
            made[i] += inside * (rng.random((channels, 1, 1)) - made[i])
    return made.clip(0, 1)


def training(
    way: str, images: np.ndarray, steps: int, settings: dict[str, Any], seed: int = 0
) -> AutoencoderTraining:
    """A KL autoencoder's, without the features' steps."""
    section = {"name": "kl", "features": {"steps": 0}, **settings, "steps": steps}
    section["dtype"] = "bfloat16" if way == "and bfloat16" else "float32"
    codec = Registry.open().plugins.choose("codec", section, "codec").build()
    torch.manual_seed(seed)
    codec.make(images.shape[1])
    made = AutoencoderTraining(codec, torch.from_numpy(images), Key(seed), steps, torch.device("cpu"))
    if way == "before":
        made.layout = torch.contiguous_format
        made.parts.to(memory_format=made.layout)  # type: ignore[reportCallIssue]
    if way in ("before", "channels last"):
        for part, optimizer in made.optimizers.items():
            kept = {
                key: value
                for key, value in optimizer.defaults.items()
                if key in ("lr", "betas", "weight_decay")
            }
            made.optimizers[part] = torch.optim.AdamW(made.parts[part].parameters(), **kept, foreach=False)
    codec.train()
    return made


def medians(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of CPU time of each, in turns; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in list(runs.items())[:: -1 if turn % 2 else 1]:
            start = time.process_time()
            run()
            if turn:
                taken[name].append(1e3 * (time.process_time() - start))
    return {name: float(np.median(times)) for name, times in taken.items()}


def speeds(quick: bool) -> dict[str, dict[str, float]]:
    """By case and way, milliseconds a step."""
    found = {}
    for case, (side, channels, settings) in CASES.items():
        images = pictures(64, side, channels)
        made = {way: training(way, images, 10**6, settings) for way in WAYS}
        runs = {way: lambda m=m: m._learn_codec(lambda line: None) for way, m in made.items()}
        slow = side == 64
        found[case] = medians(runs, (2 if slow else 6) if quick else (6 if slow else 30))
        print(case, {way: round(took, 1) for way, took in found[case].items()}, flush=True)
    return found


def losses(quick: bool) -> dict[str, list[float]]:
    """By way, the mean squared error reached with each seed, of pictures that were not trained on."""
    seeds, steps = (2, 60) if quick else (4, 200)
    images, held = pictures(500, 16, 3), torch.from_numpy(pictures(100, 16, 3, seed=1)) * 2 - 1
    found: dict[str, list[float]] = {}
    for way in ("before", "and fused AdamW", "and bfloat16"):
        for seed in range(seeds):
            made = training(way, images, steps, {**EMOJI, "width": 16}, seed)
            made.run(lambda line: None, FitContext())
            with torch.no_grad():
                out = made.codec.decoder(made.codec.encoder(held)[:, : made.codec.channels])
            found.setdefault(way, []).append(float((out - held).square().mean()) / 4)
        print(way, found[way], flush=True)
    return found


def table(found: dict[str, dict[str, float]], reached: dict[str, list[float]]) -> str:
    lines = [f"| ms of CPU a step | {' | '.join(WAYS)} | |", "|---" * (len(WAYS) + 2) + "|"]
    for case, took in found.items():
        times = " | ".join(f"{took[way]:.3g}" for way in WAYS)
        lines.append(f"| {case} | {times} | {took['before'] / took[WAYS[-1]]:.1f}x |")
    spread = [
        f"{np.mean(v):.5f} ± {np.std(v, ddof=1):.5f}" if (v := reached.get(way)) else "" for way in WAYS
    ]
    lines.append(f"| held-out error, {len(reached['before'])} seeds | {' | '.join(spread)} | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and steps")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--write", action="store_true", help="put the table into docs/codecs.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    found, reached = speeds(given.quick), losses(given.quick)
    print(table(found, reached))
    if given.json:
        given.json.write_text(json.dumps({"ms": found, "held_out": reached}, indent=1) + "\n")
    if given.write:
        write("codecs.md", "bench/codecs.py", table(found, reached))


if __name__ == "__main__":
    main()
