"""transfuse as a runner: the trainer as `transfuse train` uses it, from documents to the optimiser's step."""

from collections.abc import Iterator

import torch
from transfuse import Document, Item, Packer, Registry, Trainer, build, generate
from transfuse.model.precision import computing_in

from runners.workloads import Workload, data_positions

CORE = {"dim": 256, "layers": 6, "heads": 4}
"""Of all runners."""
EVALUATIONS = {1: 20, 8: 10, 64: 4}
"""Of the sampler, by how many pictures are drawn together; each is two views, with and without the prompt."""
GUIDANCE = 3.0
TOKENS = {1: 64, 8: 32, 64: 8}
"""Of text written after a prompt, by how many prompts there are."""
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
"""By what the page calls them, as ``train.dtype``."""


class Ours:
    """One model on one workload.

    dtype: ``fp32`` or ``bf16``. core: instead of `CORE`. attention: the kernel's name. together: how many prompts
    generation gets, by which `EVALUATIONS` and `TOKENS` are.
    """

    name = "ours"

    def __init__(
        self,
        workload: Workload,
        dtype: str = "fp32",
        core: dict[str, int] = CORE,
        attention: str = "auto",
        together: int = 1,
    ) -> None:
        self.evaluations, self.tokens = EVALUATIONS[together], TOKENS[together]
        settings = [f"model.{name}={value}" for name, value in core.items()]
        settings += [
            f"train.budget={workload.budget}",
            "train.steps=1000000",
            "train.drop=0",
            "train.lr=3e-4",
        ]
        settings += [
            "image.codec=pixel",
            "image.objective=flow",
            "image.sampler=euler",
            "image.patcher.patch=1",
        ]
        settings += [f"image.sampler.evaluations={self.evaluations}", f"image.guidance.scale={GUIDANCE}"]
        settings += [f"attention={attention}", "text.vocab=256" if workload.has_text else "text=null"]
        settings.append(f"train.dtype={DTYPES[dtype]}")
        registry = Registry.open()
        recipe = registry.recipe("transfusion", settings)
        self.workload, self.dtype = workload, dtype
        self.model = build(recipe, workload, registry.plugins, report=lambda line: None)
        self.trainer = Trainer(recipe, self.model, workload)
        self._groups, self._positions = self.groups(), 0

    def groups(self) -> Iterator[list[Document]]:
        """The documents of each of the trainer's rows, from its first on, in the order of its own packer."""
        train, stream = self.trainer.recipe.train, self.trainer.stream
        for row in Packer(train.budget, train.look_ahead).rows(stream.sequences()):
            yield [stream.document(place)[0] for place in row.arrivals]

    @property
    def path(self) -> str:
        return f"packed rows of {self.workload.budget:,}, attention {self.model.attention!r}"

    def step(self) -> int:
        """One optimiser step on one row; how many data positions it had."""
        before, documents = self.trainer.progress.documents, next(self._groups)
        self.trainer.step()
        assert self.trainer.progress.documents - before == len(documents)
        positions = sum(data_positions(document) for document in documents)
        self._positions += positions
        return positions

    def backward_keeps(self) -> tuple[torch.Tensor, int]:
        """The loss of a row, its graph alive; and the row's positions, markers counted."""
        batch = self.trainer.batch(next(self.trainer.rows))
        next(self._groups)
        with computing_in(self.model, DTYPES[self.dtype]):
            return self.trainer.combiner.combine(self.model.losses(batch), batch.counts).total, len(batch)

    @property
    def flops_a_position(self) -> float:
        """FLOPs by formula of training on a data position, over all steps so far."""
        return self.trainer.progress.flops / self._positions

    # -- generation

    def pictures(self, prompts: list[str]) -> int:
        """Draws a picture of 16 positions behind each caption; how many."""
        self.model.predictable[:] = True  # as after training
        with computing_in(self.model, DTYPES[self.dtype]):
            return len(generate(self.model, captions(prompts), want="image", label="1x16"))

    def text(self, prompts: list[str]) -> int:
        """Writes `tokens` bytes after each prompt, greedily; how many in all. No document ends before them."""
        with torch.no_grad():  # a logit of 0 is never the greatest of an untrained model's 256
            self.model.unembed.weight[self.model.vocabulary.marker("</document>")] = 0
        with computing_in(self.model, DTYPES[self.dtype]):
            made = generate(self.model, captions(prompts), want="text", greedy=True, tokens=self.tokens)
        assert all(len(document.items) == 2 for document in made)
        return self.tokens * len(made)


def captions(prompts: list[str]) -> list[Document]:
    return [Document((Item("text", text, droppable=True),)) for text in prompts]
