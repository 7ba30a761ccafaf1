"""What a training step keeps and how fast it is: digits in rows of 768 positions, ragged documents in rows of 4,096.

python bench/training_step.py digits train.dtype=bfloat16 [--steps 8] [--profile]

Dim 256, depth 6, 4 heads of 64; whatever `transfuse train --set` takes may be changed. Process CPU time of one thread.
"""

import argparse
import time

import numpy as np
import torch
from torch.profiler import profile
from transfuse.datasets import DataSet
from transfuse.documents import Document, Item
from transfuse.model.build import build
from transfuse.model.precision import computing_in
from transfuse.registry import Registry
from transfuse.training import Trainer
from transfuse_lab.memory import keep_freed_memory

BUDGET = {"digits": 768, "ragged": 4096}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SETTINGS = ("image.codec=pixel", "image.patcher.patch=2", "model.dim=256", "model.layers=6", "model.heads=4",
            "text.vocab=257", "train.steps=1000000")  # fmt: skip


class Drawn(DataSet):
    """Digits: a word and a picture of 16 positions. Ragged: 4-200 letters and a span of 4-256."""

    def __init__(self, name: str) -> None:
        self.name = name

    def size(self, split: str) -> int:
        return 4096

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        own = np.random.default_rng(index)
        text, sides = DIGITS[index % 10], (8, 8)
        if self.name == "ragged":
            letters, n = own.integers(32, 127, own.integers(4, 201)), own.integers(4, 257)
            text, sides = "".join(map(chr, letters)), (2, 2 * int(n if index >= 400 else 4 + index % 253))
        items = Item("text", text, droppable=True), Item("image", own.random((1, *sides), np.float32))
        return Document(items, index)

    def identity(self) -> dict[str, str]:
        return {"name": self.name}


def kept(trainer: Trainer) -> float:
    """KiB a position that autograd holds after a forward pass, each storage once, weights apart."""
    model, batch = trainer.model, trainer.batch(next(trainer.rows))
    held = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage
        return tensor

    noted = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with noted, computing_in(model, trainer.recipe.train.dtype):
        losses = model.losses(batch)
    assert losses
    for weight in (*model.parameters(), *model.buffers()):
        held.pop(weight.untyped_storage().data_ptr(), None)
    return sum(storage.nbytes() for storage in held.values()) / len(batch) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", choices=BUDGET)
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--profile", action="store_true", help="where the time of five steps goes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    registry, data = Registry.open(), Drawn(given.workload)
    settings = [*SETTINGS, f"train.budget={BUDGET[given.workload]}", *given.settings]
    recipe = registry.recipe("transfusion", settings)
    trainer = Trainer(recipe, build(recipe, data, registry.plugins, lambda line: None), data)
    print(f"kept            {kept(trainer):.0f} KiB a position")
    for _ in range(3):
        trainer.step()
    progress = trainer.progress
    started, flops, positions = time.process_time(), progress.flops, progress.positions
    for _ in range(given.steps):
        trainer.step()
    seconds = time.process_time() - started
    print(f"positions       {(progress.positions - positions) / seconds:.0f} a second")
    print(f"FLOPs           {(progress.flops - flops) / seconds / 1e9:.1f} GFLOP a second")
    if given.profile:
        with profile() as found:
            for _ in range(5):
                trainer.step()
        print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))


if __name__ == "__main__":
    main()
