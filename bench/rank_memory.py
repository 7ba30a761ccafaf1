"""What a rank holds at most, while a run begins and in a step: one process against two, over gloo on a CPU.

    python bench/rank_memory.py [--write]    # a minute or two; the table of docs/scale.md

A model of 36 M weights (12 layers of width 512), a step of 4 rows of 256 positions. Resident memory at its peak
(Linux), over what the process held when all was imported and the tokenizer fit; what a rank's weights, gradients, two
moments and averages come to by arithmetic stands beside it. From a folder: the weights are read from a Llama folder.
From a run: the averages of one of the same shape, as `train --from` begins.
"""

import argparse
import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from pages import write
from training_step import Drawn
from transfuse.checkpoints import RunFolder
from transfuse.model.build import build, build_modalities, build_model, fit_modalities
from transfuse.registry import Registry
from transfuse.training import Trainer, write_checkpoint
from transfuse.training.deferred import built
from transfuse.training.growing import TakenOver
from transfuse.training.ranks import ranks
from transfuse_lab.runs.together import read_pretrained

SETTINGS = (
    "image=null", "text.vocab=257", "model.dim=512", "model.layers=12", "model.heads=8", "train.rows=4",
    "train.budget=256", "train.ema=0.9", "train.steps=10",
)  # fmt: skip
MIB, SIZES = 1 << 20, (1, 2)


def rank(folder: str, pretrained: str, start: str) -> None:
    """One process of several: its peak, written down. pretrained, start: a folder that it begins from, or nothing."""
    registry, data = Registry.open(), Drawn("digits")
    settings = [*SETTINGS, *([f"model.pretrained={pretrained}"] if pretrained else [])]
    settings = [s for s in settings if not (pretrained and s.startswith("model.") and "pretrained" not in s)]
    recipe = registry.recipe("transfusion", settings)
    modalities = fit_modalities(build_modalities(recipe), data, 0, lambda line: None)
    import torch.distributed.checkpoint
    import torch.distributed.fsdp  # what is imported is in neither figure

    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before, plugins = held(), registry.plugins
    with ranks(torch.device("cpu")) as world:
        begin = None
        if start:
            begin = TakenOver(RunFolder(Path(start)), recipe, recipe, plugins).fill
        elif pretrained:
            begin = partial(read_pretrained, folder=Path(pretrained))
        make = partial(build_model, recipe, modalities, plugins, start=False)
        model, recording = (make(), None) if world.size == 1 else built(make)
        trainer = Trainer(recipe, model, data, None, world, recording, begin=begin)
        begun = held()
        trainer.step()
        numbers = sum(part.numel() for part in trainer.shards.trained.values())
        peak = held()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back
        kept = held("VmRSS")
        found = {"begun": begun - before, "step": peak - before, "kept": kept - before, "numbers": numbers}
        (Path(folder) / str(world.rank)).write_text(json.dumps(found))


def held(line: str = "VmHWM") -> int:
    """Bytes of resident memory, at the peak so far or (VmRSS) now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(each for each in lines if each.startswith(line)).split()[1]) * 1024


def run_of(folder: Path) -> None:
    """A run of the same shape, as it was drawn."""
    registry, data = Registry.open(), Drawn("digits")
    recipe = registry.recipe("transfusion", SETTINGS)
    model = build(recipe, data, registry.plugins, lambda line: None)
    run = RunFolder(folder)
    run.write_description(recipe, model)
    write_checkpoint(run, 1, model, average=dict(model.named_parameters()))


def measured(size: int, pretrained: str, start: str) -> dict[str, float]:
    """The most of any rank, in MiB."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        words = [sys.executable, __file__, "--rank", folder, pretrained, start]
        given = {
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
            "MALLOC_MMAP_THRESHOLD_": str(
                1 << 18
            ),  # what is freed is given back at once, and no part of a peak
        }
        started = [
            subprocess.Popen(words, env={**os.environ, **given, "RANK": str(i), "LOCAL_RANK": str(i)})
            for i in range(size)
        ]
        assert not any(one.wait() for one in started)
        each = [json.loads((Path(folder) / str(i)).read_text()) for i in range(size)]
    most = {key: max(one[key] for one in each) / MIB for key in ("begun", "step", "kept")}
    return {**most, "state": max(one["numbers"] for one in each) * 4 * 5 / MIB}


def llama(folder: Path) -> None:
    """A folder of random weights of the same shape, as transformers writes one."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=257, hidden_size=512, intermediate_size=1344, num_hidden_layers=12, num_attention_heads=8,
        tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rank", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.rank:
        rank(*given.rank)
        return
    lines = ["| | one process | 2 ranks |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        lm, run = Path(folder) / "lm", Path(folder) / "run"
        llama(lm)
        run_of(run)
        for title, *begun in (
            ("drawn", "", ""),
            ("from a folder", str(lm), ""),
            ("from a run", "", str(run)),
        ):
            found = [measured(size, *begun) for size in SIZES]
            for key, what in (
                ("begun", "begun, at most"),
                ("step", "in a step, at most"),
                ("kept", "between steps"),
            ):
                lines.append(f"| {title}: {what}, MiB | {' | '.join(f'{one[key]:.0f}' for one in found)} |")
        states = " | ".join(f"{one['state']:.0f}" for one in found)
        lines.append(f"| weights, gradients, moments, averages by arithmetic, MiB | {states} |")
    print("\n".join(lines))
    if given.write:
        write("scale.md", "bench/rank_memory.py", "\n".join(lines))


if __name__ == "__main__":
    main()
