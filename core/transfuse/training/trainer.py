"""One training run in memory: rows from the stream, the combined loss, AdamW, one step at a time.

    trainer = Trainer(recipe, model, data)
    while not trainer.done:
        measured = trainer.step()

Where it runs, what is logged, and when it is saved is the caller's affair. Among several ranks each packs the same rows
and computes those that it is dealt.
"""

import math
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transfuse.checkpoints import Checkpoint, RunFolder
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, restrict
from transfuse.errors import TransfuseError
from transfuse.files import CURE
from transfuse.model.model import Model
from transfuse.model.precision import computing_in
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.packing import Packer
from transfuse.sequences.rows import Row, join
from transfuse.training.combiner import Combiner, add_counts
from transfuse.training.counts import Costs, row_counts
from transfuse.training.dealing import deal
from transfuse.training.ema import EMA
from transfuse.training.mask_checks import check_leak, check_separate
from transfuse.training.optimizer import adamw, clipped_step
from transfuse.training.parameter_groups import factor_by_parameter, freeze
from transfuse.training.ranks import ALONE, Ranks
from transfuse.training.recompute import recompute_layers
from transfuse.training.schedules import learning_rate
from transfuse.training.sharding import Shards
from transfuse.training.silence import ENOUGH, Silence
from transfuse.training.stream import Stream


@dataclass
class Progress:
    """How far training has come; all of it is saved and resumed.

    flops: by formula, forward and backward, codec training excluded. positions: without filler.
    seconds: process CPU time of the steps. peak_memory: bytes that the process held at most: on a GPU what torch
    allocated there, else resident memory.
    """

    step: int = 0
    flops: float = 0.0
    documents: int = 0
    positions: int = 0
    seconds: float = 0.0
    peak_memory: int = 0

    def share(self, recipe: Recipe) -> float:
        """The share of the recipe's budget that is spent."""
        train = recipe.train
        return self.step / train.steps if train.steps else self.flops / (train.flops or math.inf)


@dataclass(frozen=True, eq=False)
class StepRows:
    """The rows of a step, and what of them this rank computes.

    rows, counts: of the whole step, on every rank; ids: its targets. batches: this rank's, each with the weight 1, or
    0 where it is computed again only because another rank has a row more: all run as many, for they gather weights
    together. costs: FLOPs of each row, where ranks were dealt rows by them.
    """

    rows: list[Row]
    counts: dict[str, float]
    ids: Tensor
    batches: list[tuple[Batch, int]]
    costs: list[float] | None


class Trainer:
    """One run of a recipe: ``step`` goes on by one optimiser step, until the recipe's budget is spent.

    model: the recipe's, put into training mode. data: its split ``train`` is read, without items of roles that
    the recipe lacks, in an order that ``train.seed`` fixes. Everything drawn is keyed by that seed, so equal
    arguments give equal steps. Raises TransfuseError for a factor in ``train.lr_scale`` or ``train.grad_scale``
    that the model has no place for, or where the data hold no item for the recipe.

    ranks: the processes that train together, this one alone by default; the model's weights are divided among them
    as ``train.shard`` says.

    progress: how far it has come. optimizer: AdamW. ema: the average of the weights, where the recipe has one.
    rows: the packed rows of the stream, without end; each is trained on once.
    """

    def __init__(self, recipe: Recipe, model: Model, data: DataSet, ranks: Ranks = ALONE) -> None:
        self.recipe, self.model, self.progress, self.ranks = recipe, model, Progress(), ranks
        self.data = restrict(data, model.modalities)
        train = recipe.train
        freeze(model, train.lr_scale)
        self.key = Key(train.seed)
        self.modalities = model.modalities
        self.combiner = Combiner(recipe.loss)
        longest = train.budget if train.too_long == "cut" else None
        self.stream = Stream(self.data, model.layout, self.key, train.drop, longest)
        self.packer = Packer(train.budget, train.look_ahead, train.fill, skip=train.too_long == "skip")
        self.rows = self.packer.rows(self.stream.sequences())
        self.shards = Shards(model, ranks, train.shard, train.dtype == "bfloat16")
        self.device = model.tokens.weight.device
        self.optimizer = adamw(self._groups(), train, self.device)
        self.gradient_scales = factor_by_parameter(model, train.grad_scale, "train.grad_scale")
        self.ema = EMA(self.shards.trained, train.ema) if train.ema else None
        self.silence: Silence | None = Silence(recipe, model)
        if train.recompute:
            recompute_layers(model)
        self.costs = Costs(model)
        self._resumed_at = 0
        self._ahead: StepRows | None = None
        self._place = self._packed()
        model.train()

    def _groups(self) -> list[dict[str, Any]]:
        """The trained weights by their factor on the learning rate; norms and biases do not decay."""
        factors = factor_by_parameter(self.model, self.recipe.train.lr_scale, "train.lr_scale")
        trained = self.model.trained()
        groups = []
        for scale in dict.fromkeys(factors.get(p, 1.0) for p in trained):
            own = [self.shards.local_of[p] for p in trained if factors.get(p, 1.0) == scale]
            groups += [
                {"params": [p for p in own if p.dim() > 1], "scale": scale},
                {"params": [p for p in own if p.dim() <= 1], "scale": scale, "weight_decay": 0.0},
            ]
        return groups

    # -- state

    def state(self) -> dict[str, Any]:
        """Where it is, as JSON: its progress, and where the packer is in the stream."""
        return {
            "progress": asdict(self.progress),
            **(self._packed() if self._ahead is None else self._place),
        }

    def _packed(self) -> dict[str, Any]:
        """Where the packer is in the stream."""
        return {"waiting": [place for place, _ in self.packer.waiting], "arrived": self.packer.arrived}

    def save(self, run: RunFolder) -> None:
        """A checkpoint of this moment; the run's description is written apart, once."""
        average = None if self.ema is None else self.ema.tensors()
        run.write_checkpoint(self.progress.step, self.model, self.optimizer, self.state(), average)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same recipe and data, bit for bit.

        Raises TransfuseError naming the file that is missing, damaged or of another model.
        """
        checkpoint.load_weights(self.model)
        state = checkpoint.state
        try:
            self.progress = Progress(**state["progress"])
            self._resumed_at = self.progress.step
            self.packer.waiting = [(place, self.stream.sequence(place)) for place in state["waiting"]]
            self.packer.arrived = state["arrived"]
            self.rows, self._ahead = self.packer.rows(self.stream.sequences(self.packer.arrived)), None
        except (KeyError, TypeError) as error:
            raise TransfuseError(
                f"{checkpoint.folder / 'state.json'} is damaged ({error!r}): {CURE}"
            ) from error
        checkpoint.restore_optimizer(self.model, self.optimizer)
        if self.ema is not None:
            self.ema.restore(checkpoint.average(), self.progress.step)

    def averaged_weights(self) -> AbstractContextManager[None]:
        """While it is entered, the model has the weights to evaluate: averaged, if the recipe says so."""
        return nullcontext() if self.ema is None else self.ema.applied()

    def check_mask(self) -> None:
        """Raises TransfuseError where the mask shows a position what it is to predict, on the first row, or
        documents to each other, unless the recipe says ``crossing``."""
        packer = Packer(self.packer.budget, self.packer.look_ahead, skip=self.packer.skip)
        row = next(packer.rows(self.stream.sequences()))
        check_leak(self.model.mask, row)
        if len(row.arrivals) == 1:
            row = join([self.stream.sequence(place) for place in (0, 1)])
        self._check_separate([row])

    def _check_separate(self, rows: list[Row]) -> None:
        for row in rows:
            if not self.recipe.crossing:
                check_separate(self.model.mask, row)

    @property
    def done(self) -> bool:
        """Whether the recipe's budget is spent."""
        return self.progress.share(self.recipe) >= 1

    # -- one step

    def batch(self, row: Row) -> Batch:
        """A row with its noise drawn, on the model's device."""
        return collate(row, self.modalities, self.key, self.recipe.model.rope).to(self.device)

    def _made(self) -> StepRows:
        """The rows of the next step, and this rank's batches."""
        self._place = self._packed()
        rows = [next(self.rows) for _ in range(self.recipe.train.rows)]
        counts = add_counts(row_counts(row, self.model.layout.names) for row in rows)
        ids = np.unique(np.concatenate([row.targets[row.targets >= 0] for row in rows]))
        costs, own, idle = None, list(range(len(rows))), 0
        if self.ranks.size > 1:
            costs = [self.costs.flops(row) for row in rows]
            parts = deal(costs, self.ranks.size)
            own = parts[self.ranks.rank]
            idle = max(map(len, parts)) - len(own)
        batches = [(self.batch(rows[i]), 1) for i in own]
        if idle and costs is not None:
            cheapest = min(own or range(len(rows)), key=costs.__getitem__)
            batches += [(self.batch(rows[cheapest]), 0)] * idle
        return StepRows(rows, counts, torch.from_numpy(ids).to(self.device), batches, costs)

    def step(self) -> dict[str, float]:
        """One optimiser step; what it measured: the mean loss a modality, the rate, the gradient's norm.

        On a GPU no value is read before all of the step is on its way there and the next step's batches are made.
        Raises TransfuseError, and no weight is changed, where the loss or gradient is not finite.
        """
        started = time.process_time()
        made = self._ahead or self._made()
        self._ahead = None
        if not self.progress.step:
            self._check_separate(made.rows)
        rate = learning_rate(
            self.recipe, self.progress.share(self.recipe) + 0.5 / max(1, self._steps_ahead())
        )
        self.optimizer.zero_grad(set_to_none=True)
        self.model.zero_grad(set_to_none=True)
        self.model.predictable[made.ids] = True  # for the whole step, so that its rows add up to one batch
        losses = self.shards.add_up(self._backward(made), tuple(self.recipe.loss))
        for parameter, factor in self.gradient_scales.items():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        self.shards.hand_over()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        norm = self.shards.norm()
        clipped_step(
            self.optimizer, self.shards.trained.values(), self.recipe.train.clip, norm, losses.values()
        )
        if self.silence is not None:
            self.silence.heard(made.counts, sum(len(row.arrivals) for row in made.rows))
        if self.ema is not None:
            self.ema.update()
        if self.device.type == "cuda":
            self._ahead = self._made()
        read = dict(zip([*losses, ""], torch.stack([*losses.values(), norm]).tolist(), strict=True))
        norm = read.pop("")
        self._check_finite(read, norm, made.rows)
        self.progress.step += 1
        self.progress.flops += sum(made.costs or map(self.costs.flops, made.rows))
        self.progress.documents += sum(len(row.arrivals) for row in made.rows)
        self.progress.positions += sum(row.used for row in made.rows)
        self._say_silence()
        self.progress.seconds += time.process_time() - started
        self.progress.peak_memory = max(self.progress.peak_memory, peak_memory(self.device))
        return {**{f"loss_{name}": mean for name, mean in read.items()}, "lr": rate, "grad_norm": norm}

    def _backward(self, made: StepRows) -> dict[str, Tensor]:
        """The gradients of this rank's rows, and by modality its share of the step's mean loss."""
        losses: dict[str, Tensor] = {}
        for batch, weight in made.batches:
            with computing_in(self.model, self.recipe.train.dtype):
                combined = self.combiner.combine(self.model.losses(batch), made.counts)
            total = self.shards.through_all(combined.total)
            (total if weight else total * 0).backward()
            for name, share in combined.shares.items() if weight else ():
                losses[name] = losses[name] + share if name in losses else share
        return losses

    def _say_silence(self) -> None:
        """Once, when an epoch was read, or a run ends that did not go on from another."""
        if self.silence is None:
            return
        enough = max(ENOUGH, self.data.excerpt("train"))
        if self.silence.documents >= enough or (self.done and not self._resumed_at):
            self.silence.say()
            self.silence = None

    def _steps_ahead(self) -> float:
        """About how many steps the whole budget is: half a step sets the rate in a step's middle."""
        if self.recipe.train.steps:
            return self.recipe.train.steps
        each = self.progress.flops / self.progress.step if self.progress.step else math.inf
        return (self.recipe.train.flops or math.inf) / each if each != math.inf else 1000

    def _check_finite(self, means: Mapping[str, float], norm: float, rows: list[Row]) -> None:
        wrong = [name for name, mean in means.items() if not math.isfinite(mean)]
        if wrong or not math.isfinite(norm):
            what = f"the loss of {', '.join(wrong)}" if wrong else "the gradient"
            first = ", ".join(source for row in rows for source in row.sources[:3])
            raise TransfuseError(
                f"step {self.progress.step}: {what} is not finite, and no weight was changed; the step holds "
                f"{first} …; lower train.lr or train.clip"
            )


def peak_memory(device: torch.device) -> int:
    """Bytes held at most so far: on a GPU what torch allocated there, else resident memory; 0 where nobody says."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows has none
        return 0
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024
