"""One training run in memory: rows from the stream, the combined loss, AdamW, one step at a time.

    trainer = Trainer(recipe, model, data)
    while not trainer.done:
        measured = trainer.step()

Where it runs, what is logged, and when it is saved is the caller's affair. Among several ranks each packs the same rows
and computes those that it is dealt.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transfuse.checkpoints import Checkpoint, RunFolder
from transfuse.checkpoints.checkpoint import EMA_FILE, MODEL, OPTIMIZER
from transfuse.checkpoints.weights import module_tensors
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
from transfuse.training.deferred import Recording
from transfuse.training.ema import EMA
from transfuse.training.growing import Inherited
from transfuse.training.guards import Guard, out_of_memory
from transfuse.training.mask_checks import check_leak, check_separate
from transfuse.training.optimizer import adamw, clipped_step, optimizer_tensors
from transfuse.training.parameter_groups import factor_by_parameter, freeze
from transfuse.training.pieces import load_state, read_own
from transfuse.training.progress import Progress, StepRows, number, peak_memory
from transfuse.training.ranks import ALONE, Ranks
from transfuse.training.recompute import recompute_layers
from transfuse.training.saving import Saver, write_checkpoint
from transfuse.training.schedules import learning_rate
from transfuse.training.sharding import Shards
from transfuse.training.silence import Silence
from transfuse.training.stream import Stream


class Trainer:
    """One run of a recipe: ``step`` goes on by one optimiser step, until the recipe's budget is spent.

    model: the recipe's, put into training mode. data: its split ``train`` is read, without items of roles that
    the recipe lacks, in an order that ``train.seed`` fixes. Everything drawn is keyed by that seed, so equal
    arguments give equal steps. Raises TransfuseError for a factor in ``train.lr_scale`` or ``train.grad_scale``
    that the model has no place for, or where the data hold no item for the recipe. inherited: what the model has from
    a run that this one began from, for ``train.lr_scale.inherited``.

    ranks: the processes that train together, this one alone by default; the model's weights are divided among them
    as ``train.shard`` says. recording: where the model was built without memory (`deferred.built`), how its weights
    are drawn; they are, unless ``drawn`` is false, for a checkpoint is resumed from. begin: puts into the weights, once
    they are divided, what they begin with: those of a language model, or of another run.

    progress: how far it has come. optimizer: AdamW. ema: the average of the weights, where the recipe has one.
    rows: the packed rows of the stream, without end; each is trained on once.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Model,
        data: DataSet,
        inherited: Inherited | None = None,
        ranks: Ranks = ALONE,
        recording: Recording | None = None,
        drawn: bool = True,
        begin: Callable[[Model], None] | None = None,
    ) -> None:
        self.recipe, self.model, self.progress, self.ranks = recipe, model, Progress(), ranks
        self.inherited = inherited
        self.data = restrict(data, model.modalities)
        train = recipe.train
        freeze(model, train.lr_scale, inherited)
        self.key = Key(train.seed)
        self.modalities = model.modalities
        self.combiner = Combiner(recipe.loss)
        longest = train.budget if train.too_long == "cut" else None
        self.stream = Stream(self.data, model.layout, self.key, train.drop, longest, ranks)
        self.packer = Packer(train.budget, train.look_ahead, train.fill, skip=train.too_long == "skip")
        self.rows = self.packer.rows(self.stream.sequences())
        self.shards = Shards(model, ranks, train.shard, train.dtype == "bfloat16", recording, drawn)
        if begin is not None:
            begin(model)
        held = None if inherited is None else inherited.held_rows(model, train)
        self.held_rows = None if held is None else held.of_parts(self.shards.local_of)
        self.device = model.tokens.weight.device
        self.optimizer = adamw(self._groups(), train, self.device)
        self.gradient_scales = factor_by_parameter(model, train.grad_scale, "train.grad_scale")
        self.ema = EMA(self.shards.trained, train.ema) if train.ema else None
        self.silence: Silence | None = Silence(recipe, model)
        if train.recompute:
            recompute_layers(model)
        self.costs = Costs(model)
        self.guard = Guard(train.skips)
        self._resumed_at = 0
        self._saver: Saver | None = None
        self._ahead: StepRows | None = None
        self._place = self._packed()
        model.train()

    def _groups(self) -> list[dict[str, Any]]:
        """The trained weights by their factor on the learning rate; norms and biases do not decay."""
        scale = self.recipe.train.lr_scale
        factors = factor_by_parameter(self.model, scale, "train.lr_scale", self.inherited)
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
            "guard": self.guard.state(),
            **(self._packed() if self._ahead is None else self._place),
        }

    def _packed(self) -> dict[str, Any]:
        """Where the packer is in the stream."""
        return {"waiting": [place for place, _ in self.packer.waiting], "arrived": self.packer.arrived}

    def save(self, run: RunFolder, wait: bool = True) -> None:
        """A checkpoint of this moment; the run's description is written apart, once.

        wait: until it is on the disk. Ranks that train together need not: it counts once `finish_saving` finds it.
        """
        train, average = self.recipe.train, None if self.ema is None else self.ema.tensors()
        moments = optimizer_tensors(self.shards.trained, self.optimizer)
        step, kept, every = self.progress.step, train.keep_last, train.keep_every
        if self.ranks.size == 1:
            write_checkpoint(run, step, self.model, moments, self.state(), average, kept, every)
            return
        if self._saver is None:
            self._saver = Saver(run, self.ranks, kept, every)
        kinds: dict[str, Mapping[str, Tensor]] = {MODEL: module_tensors(self.model)}
        whole = self.shards.as_whole
        kinds[OPTIMIZER] = {name: whole(name.rpartition("/")[0], part) for name, part in moments.items()}
        if average is not None:
            kinds[EMA_FILE] = {name: whole(name, part) for name, part in average.items()}
        self._saver.begin(step, kinds, self.state())
        self.finish_saving(wait)

    def finish_saving(self, wait: bool = False) -> None:
        """Between steps, on every rank: what is being saved counts, where all ranks have written it."""
        if self._saver is not None:
            self._saver.finish(wait)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same recipe and data, bit for bit where as many ranks train.

        Raises TransfuseError naming the file that is missing, damaged or of another model.
        """
        load_state(checkpoint, self.model, self.shards, self.optimizer)
        state = checkpoint.state
        try:
            self.progress = Progress.of(state["progress"])
            self.guard.restore(state["guard"])
            self._resumed_at = self.progress.step
            places = [number(place, int) for place in state["waiting"]]
            self.stream.encode_ahead(places)
            self.packer.waiting = [(place, self.stream.sequence(place)) for place in places]
            self.packer.arrived = number(state["arrived"], int)
            self.rows, self._ahead = self.packer.rows(self.stream.sequences(self.packer.arrived)), None
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise TransfuseError(
                f"{checkpoint.folder / 'state.json'} is damaged ({error!r}): {CURE}"
            ) from error
        if self.ema is not None:
            targets = {name: self.shards.parameters[name] for name in self.shards.trained}
            self.ema.restore(
                read_own(checkpoint.part(EMA_FILE), targets), self.progress.step - self.guard.skipped
            )

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
        return StepRows(rows, counts, torch.from_numpy(ids).to(self.device), own, batches, costs)

    def step(self) -> dict[str, float]:
        """One optimiser step; what it measured: the mean loss a modality, the rate, the gradient's norm.

        On a GPU no value is read before all of the step is on its way there and the next step's batches are made.
        Where the loss or gradient is not finite, no weight is changed: the step is skipped, counted and warned about,
        and after ``train.skips`` in a row Diverged is raised. TransfuseError where there is not enough memory.
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
        if self.held_rows is not None:
            self.held_rows.before_step()
        norm = self.shards.norm()
        clipped_step(
            self.optimizer, self.shards.trained.values(), self.recipe.train.clip, norm, losses.values()
        )
        if self.held_rows is not None:
            self.held_rows.after_step()
        if self.silence is not None:
            self.silence.heard(made.counts, sum(len(row.arrivals) for row in made.rows))
        if self.device.type == "cuda":
            self._ahead = self._made()
        read = dict(zip([*losses, ""], torch.stack([*losses.values(), norm]).tolist(), strict=True))
        norm = read.pop("")
        finite = self.guard.finite(self.progress.step, read, norm)
        if finite and self.ema is not None:
            self.ema.update()
        self.progress.step += 1
        self.progress.flops += sum(made.costs or map(self.costs.flops, made.rows))
        self.progress.output_flops += sum(map(self.costs.output_flops, made.rows))
        self.progress.documents += sum(len(row.arrivals) for row in made.rows)
        self.progress.positions += sum(row.used for row in made.rows)
        self._say_silence()
        self.progress.seconds += time.process_time() - started
        self.progress.peak_memory = max(self.progress.peak_memory, peak_memory(self.device))
        self._watch(made, read, finite)
        return {**{f"loss_{name}": mean for name, mean in read.items()}, "lr": rate, "grad_norm": norm}

    def _watch(self, made: StepRows, means: Mapping[str, float], finite: bool) -> None:
        """Tells the guard of a step that was done. Raises TransfuseError where too many in a row were skipped."""
        step = self.progress.step - 1
        if finite:
            loss = sum(self.combiner.weight(name) * mean for name, mean in means.items())
            self.guard.look(step, loss, [source for row in made.rows for source in row.sources])
            return
        guilty = [i for i, share in zip(made.own, self._shares, strict=False) if not share.isfinite()]
        told = sorted({i for each in self.ranks.gathered(guilty) for i in each}) or range(len(made.rows))
        self.guard.skip(step, means, [source for i in told for source in made.rows[i].sources])

    @property
    def events(self) -> list[dict[str, Any]]:
        """What happened since this was last asked: steps that were skipped, losses that jumped."""
        told, self.guard.events = self.guard.events, []
        return told

    def _backward(self, made: StepRows) -> dict[str, Tensor]:
        """The gradients of this rank's rows, and by modality its share of the step's mean loss."""
        losses: dict[str, Tensor] = {}
        self._shares: list[Tensor] = []
        for batch, weight in made.batches:
            try:
                with computing_in(self.model, self.recipe.train.dtype):
                    combined = self.combiner.combine(self.model.losses(batch), made.counts)
                total = self.shards.through_all(combined.total)
                (total if weight else total * 0).backward()
            except (RuntimeError, MemoryError) as error:
                told = out_of_memory(error, len(batch), self.recipe.train.budget)
                raise (told or error) from error
            self._shares.append(total.detach())
            for name, share in combined.shares.items() if weight else ():
                losses[name] = losses[name] + share if name in losses else share
        return losses

    def _say_silence(self) -> None:
        """Once, when an epoch was read, or a run ends that did not go on from another."""
        ended = self.done and not self._resumed_at
        if self.silence is not None and (ended or self.silence.enough(self.data.excerpt("train"))):
            self.silence.say()
            self.silence = None

    def _steps_ahead(self) -> float:
        """About how many steps the whole budget is: half a step sets the rate in a step's middle."""
        if self.recipe.train.steps:
            return self.recipe.train.steps
        each = self.progress.flops / self.progress.step if self.progress.step else math.inf
        return (self.recipe.train.flops or math.inf) / each if each != math.inf else 1000
