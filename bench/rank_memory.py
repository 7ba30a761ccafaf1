"""What a rank holds at most, while a run begins and in a step: one process against two, over gloo on a CPU.

    python bench/rank_memory.py [--write]    # a minute or two; the table of docs/scale.md

A model of 36 M weights (12 layers of width 512), a step of 4 rows of 256 positions. Resident memory at its peak
(Linux), over what the process held when all was imported and the tokenizer fit; what a rank's weights, gradients, two
moments and averages come to by arithmetic stands beside it. From a folder: the weights are read from a Llama folder.
"""

import argparse
import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from pages import write
from transfuse.registry import Registry
from transfuse.training import Trainer
from transfuse.training.deferred import built
from transfuse.training.ranks import ranks

SETTINGS = (
    "image=null", "text.vocab=257", "model.dim=512", "model.layers=12", "model.heads=8", "train.rows=4",
    "train.budget=256", "train.ema=0.9", "train.steps=10",
)  # fmt: skip
MIB, SIZES = 1 << 20, (1, 2)


def rank(folder: str, pretrained: str) -> None:
    """One process of several: its peak, written down."""
    from training_step import Drawn
    from transfuse.model.build import build_modalities, build_model, fit_modalities

    registry, data = Registry.open(), Drawn("digits")
    settings = [*SETTINGS, *([f"model.pretrained={pretrained}"] if pretrained else [])]
    settings = [s for s in settings if not (pretrained and s.startswith("model.") and "pretrained" not in s)]
    recipe = registry.recipe("transfusion", settings)
    modalities = fit_modalities(build_modalities(recipe), data, 0, lambda line: None)
    import torch.distributed.checkpoint
    import torch.distributed.fsdp  # what is imported is in neither figure

    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = held()
    with ranks(torch.device("cpu")) as world:
        if world.size == 1:
            model, recording = build_model(recipe, modalities, registry.plugins), None
        else:
            plugins = registry.plugins
            model, recording = built(lambda: build_model(recipe, modalities, plugins, start=False))
        trainer = Trainer(recipe, model, data, ranks=world, recording=recording)
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


def measured(size: int, pretrained: str) -> dict[str, float]:
    """The most of any rank, in MiB."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        words = [sys.executable, __file__, "--rank", folder, pretrained]
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
    parser.add_argument("--rank", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.rank:
        rank(*given.rank)
        return
    lines = ["| | one process | 2 ranks |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        llama(Path(folder))
        for title, pretrained in (("drawn", ""), ("from a folder", folder)):
            found = [measured(size, pretrained) for size in SIZES]
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
