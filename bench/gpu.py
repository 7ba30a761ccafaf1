"""What one GPU shows in eight minutes, a stage at a time; bench/gpu.sh runs it. It has not been run on a GPU yet.

    python bench/gpu.py --json gpu.json            # every stage in a process of its own, within --seconds in all
    python bench/gpu.py --json gpu.json --tiny     # a rehearsal: the CPU stands in, everything small
    python bench/gpu.py --json gpu.json --stage training

The file has the date, the card, and a record of each stage: whether it ran to its end, its seconds and figures, what it
skipped and why.
"""

import argparse
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from stages.attention import block_masks, kernels, recompiles
from stages.commands import comparison, tests
from stages.models import card, generation, training
from stages.size import LARGE, SECONDS, SMALL, Figures, Size, limit

STAGES: dict[str, Callable[[Size], Figures]] = {
    "card": card,
    "kernels": kernels,
    "block_masks": block_masks,
    "recompiles": recompiles,
    "training": training,
    "generation": generation,
    "tests": tests,
    "comparison": comparison,
}


def run_all(file: Path, tiny: bool, in_all: float) -> bool:
    """Every stage in its own process, the file written after each; whether all ran, and nothing was wrong."""
    record: Figures = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    record |= {"torch": torch.__version__, "python": sys.version.split()[0], "tiny": tiny, "stages": {}}
    until, good = time.monotonic() + in_all, True
    for name in SECONDS:
        left = min(limit(name, SMALL if tiny else LARGE), until - time.monotonic())
        started, part = time.monotonic(), file.with_suffix(f".{name}.json")
        one: Figures = {"ok": False, "skipped": ["no time was left"]}
        if left > 5:
            command = [sys.executable, __file__, "--json", str(part), "--stage", name, *["--tiny"] * tiny]
            try:
                ran = subprocess.run(command, capture_output=True, text=True, timeout=left, check=False)
                if ran.returncode:
                    one = {"ok": False, "error": ran.stderr[-2000:]}
                else:
                    one = json.loads(part.read_text())
                    one = {"ok": not one.get("wrong"), **one}
            except subprocess.TimeoutExpired:
                one = {"ok": False, "error": f"stopped after {left:.0f} s"}
            part.unlink(missing_ok=True)
        record["stages"][name] = {**one, "seconds": time.monotonic() - started}
        record["card"] = record["stages"]["card"].get("card", "unknown")
        file.write_text(json.dumps(record, indent=1) + "\n")
        print(
            f"{name}: {'good' if one['ok'] else 'NOT GOOD'}, {time.monotonic() - started:.0f} s", flush=True
        )
        good = good and one["ok"]
    return good


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="the figures")
    parser.add_argument("--tiny", action="store_true", help="the CPU stands in")
    parser.add_argument("--stage", choices=STAGES, help="one stage, in this process")
    parser.add_argument(
        "--seconds", type=float, help="for all stages together; default 470, of a rehearsal 2000"
    )
    given = parser.parse_args()
    if not given.tiny and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device: on a machine without one, rehearse with --tiny")
    if given.stage is None:
        sys.exit(not run_all(given.json, given.tiny, given.seconds or (2000 if given.tiny else 470)))
    found = STAGES[given.stage](SMALL if given.tiny else LARGE)
    given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
