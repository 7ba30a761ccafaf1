"""Training: rows from the stream, the combined loss, AdamW, until the budget is spent.

A run's folder holds all it takes to go on: training in a folder that holds the same run resumes it,
step for step as if it had never stopped.
"""

import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from transfuse import checkpoints
from transfuse.assembly import build_modalities, build_model, fit_modalities
from transfuse.batch import Batch, collate
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.losses import Combiner, add_counts
from transfuse.modality import Modality, Report
from transfuse.model import Model, check_leak, flops
from transfuse.packing import Packer, Row
from transfuse.plugins import Plugins
from transfuse.randomness import Key
from transfuse.recipes import Recipe
from transfuse_lab.progress import bar, say
from transfuse_lab.stream import Stream

SAVE_EVERY = 60.0  # seconds between checkpoints


@dataclass
class Spent:
    """What training has used up so far; all of it is saved and resumed."""

    step: int = 0
    flops: float = 0.0
    documents: int = 0
    positions: int = 0
    seconds: float = 0.0  # process CPU time of the steps

    def share(self, recipe: Recipe) -> float:
        """The share of the budget that is spent."""
        train = recipe.train
        return self.step / train.steps if train.steps else self.flops / (train.flops or math.inf)


def learning_rate(recipe: Recipe, share: float) -> float:
    """Linear warm-up, then a cosine down to ``final_lr``, by share of the budget spent (paper, section 4.1)."""
    train = recipe.train
    if share < train.warmup:
        return train.lr * share / train.warmup
    along = min(1.0, (share - train.warmup) / max(1e-9, 1 - train.warmup))
    return train.lr * (train.final_lr + (1 - train.final_lr) * 0.5 * (1 + math.cos(math.pi * along)))


@dataclass
class Trainer:
    """One run: its model, optimiser and stream; ``step`` goes on by one optimiser step."""

    recipe: Recipe
    model: Model
    data: DataSet
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        train = self.recipe.train
        self.key = Key(train.seed)
        self.modalities: dict[str, Modality] = dict(self.model.parts())
        self.combiner = Combiner(self.recipe.loss)
        self.stream = Stream(self.data, self.model.layout, self.key, train.drop)
        self.packer = Packer(train.budget)
        self.rows = self.packer.rows(self.stream.sequences())
        self.optimizer = torch.optim.AdamW(
            self.model.trained(), lr=0.0, betas=train.betas, eps=train.eps, weight_decay=train.weight_decay
        )
        self.model.train()

    # -- state

    def state(self) -> dict[str, Any]:
        return {
            "spent": vars(self.spent).copy(),
            "waiting": [place for place, _ in self.packer.waiting],
            "arrived": self.packer.arrived,
        }

    def resume(self, state: Mapping[str, Any], optimizer: Mapping[str, torch.Tensor]) -> None:
        self.spent = Spent(**state["spent"])
        self.packer.waiting = [(place, self.stream.sequence(place)) for place in state["waiting"]]
        self.packer.arrived = state["arrived"]
        self.rows = self.packer.rows(self.stream.sequences(self.packer.arrived))
        checkpoints.restore_optimizer(self.model, self.optimizer, optimizer)

    @property
    def done(self) -> bool:
        return self.spent.share(self.recipe) >= 1

    # -- one step

    def batch(self, row: Row) -> Batch:
        return collate(row, self.modalities, self.key, self.recipe.model.rope).to(self.model.tokens.weight.device)

    def step(self) -> dict[str, float]:
        """One optimiser step; what it measured: the mean loss a modality, the rate, the gradient's norm.

        Raises TransfuseError, before any weight is changed, where the loss or gradient is not finite.
        """
        started = time.process_time()
        rows = [next(self.rows) for _ in range(self.recipe.train.rows)]
        if self.spent.step == 0:
            check_leak(self.model.mask, rows[0])
        batches = [self.batch(row) for row in rows]
        counts = add_counts(batch.counts for batch in batches)
        rate = learning_rate(self.recipe, self.spent.share(self.recipe) + 0.5 / max(1, self._steps_ahead()))
        self.optimizer.zero_grad(set_to_none=True)
        means: dict[str, float] = {}
        for batch in batches:
            combined = self.combiner.combine(self.model.losses(batch), counts)
            combined.total.backward()
            for name, mean in combined.means.items():
                means[name] = means.get(name, 0.0) + mean
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.trained(), self.recipe.train.clip))
        self._check_finite(means, norm, rows)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.spent.step += 1
        self.spent.flops += sum(flops(self.model, row) for row in rows)
        self.spent.documents += sum(len(row.arrivals) for row in rows)
        self.spent.positions += sum(row.used for row in rows)
        self.spent.seconds += time.process_time() - started
        return {**{f"loss_{name}": mean for name, mean in means.items()}, "lr": rate, "grad_norm": norm}

    def _steps_ahead(self) -> float:
        """About how many steps the whole budget is: half a step sets the rate in a step's middle."""
        if self.recipe.train.steps:
            return self.recipe.train.steps
        each = self.spent.flops / self.spent.step if self.spent.step else math.inf
        return (self.recipe.train.flops or math.inf) / each if each != math.inf else 1000

    def _check_finite(self, means: Mapping[str, float], norm: float, rows: list[Row]) -> None:
        wrong = [name for name, mean in means.items() if not math.isfinite(mean)]
        if wrong or not math.isfinite(norm):
            what = f"the loss of {', '.join(wrong)}" if wrong else "the gradient"
            first = ", ".join(source for row in rows for source in row.sources[:3])
            raise TransfuseError(
                f"step {self.spent.step}: {what} is not finite, and no weight was changed; the step holds "
                f"{first} …; lower train.lr or train.clip"
            )


def prepare(
    recipe: Recipe, data: DataSet, plugins: Plugins, report: Report, codecs: Path | None = None, effort: float = 1.0
) -> Model:
    """The model of a recipe, untrained; its codecs fit to the data, or taken from a folder that holds them."""
    modalities = build_modalities(recipe)
    if codecs is not None:
        checkpoints.restore_codecs(codecs, modalities)
    else:
        fit_modalities(modalities, data, 0, report, effort)
    return build_model(recipe, modalities, plugins)


def open_run(
    recipe: Recipe, data: DataSet, folder: Path, plugins: Plugins, report: Report, codecs: Path | None = None
) -> Trainer:
    """The run in a folder, resumed if the folder holds one.

    Raises TransfuseError where the folder holds another run, naming what differs.
    """
    facts = {"data": data.identity(), "plugins": versions(plugins)}
    if (folder / "modalities.json").is_file() and checkpoints.newest(folder):
        _check_same(folder, recipe, data, plugins)
        _, model = checkpoints.rebuild(folder, plugins)
        saved = checkpoints.read_checkpoint(folder, model)
        trainer = Trainer(recipe, model, data)
        trainer.resume(saved.state, saved.optimizer)
        report(f"{folder}: going on after step {trainer.spent.step}")
        return trainer
    trainer = Trainer(recipe, prepare(recipe, data, plugins, report, codecs), data)
    checkpoints.write_description(folder, recipe, trainer.model, facts)
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    save(folder, trainer)
    return trainer


def versions(plugins: Plugins) -> dict[str, str]:
    return {row.name: f"{row.distribution} {row.version}" for row in plugins.listing() if row.status == "loaded"}


def _check_same(folder: Path, recipe: Recipe, data: DataSet, plugins: Plugins) -> None:
    saved = checkpoints.read_recipe(folder, plugins)
    cure = "use another --out, or repeat the command that began it"
    if saved != recipe:
        before, now = _flat(saved.dump()), _flat(recipe.dump())
        differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        told = ", ".join(f"{key} (there {before.get(key)!r}, here {now.get(key)!r})" for key in differing[:3])
        raise TransfuseError(f"{folder} holds another run: {told} differ; {cure}")
    there = checkpoints.read_json(folder / "modalities.json", "run").get("data")
    if there != data.identity():
        raise TransfuseError(f"{folder} holds a run on other data ({there and there.get('name')}); {cure}")


def _flat(tree: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {place: tree}
    return {k: v for key, sub in tree.items() for k, v in _flat(sub, f"{place}.{key}" if place else key).items()}


def save(folder: Path, trainer: Trainer) -> None:
    tensors = checkpoints.optimizer_tensors(trainer.model, trainer.optimizer)
    checkpoints.write_checkpoint(folder, trainer.spent.step, trainer.model, tensors, trainer.state())


def train(
    recipe: Recipe,
    data: DataSet,
    folder: Path,
    plugins: Plugins,
    *,
    report: Report = say,
    codecs: Path | None = None,
) -> Trainer:
    """Train until the recipe's budget is spent, or go on with what the folder holds.

    Writes ``metrics.jsonl``, a line a step. Interrupted (Ctrl-C, SIGTERM), it finishes the step, saves
    and raises KeyboardInterrupt.
    """
    trainer = open_run(recipe, data, folder, plugins, report, codecs)
    log = folder / "metrics.jsonl"
    _forget_after(log, trainer.spent.step)
    with log.open("a") as lines, bar(f"train {recipe.name}") as progress, _interrupts() as interrupted:
        saved = time.monotonic()
        while not trainer.done:
            measured = trainer.step()
            line = {"step": trainer.spent.step, "flops": trainer.spent.flops, **measured}
            lines.write(json.dumps(line) + "\n")
            losses = "  ".join(f"{k[5:]} {v:.3f}" for k, v in measured.items() if k.startswith("loss_"))
            progress.update(min(1.0, trainer.spent.share(recipe)), f"step {trainer.spent.step}  {losses}")
            if interrupted.is_set() or time.monotonic() - saved > SAVE_EVERY:
                lines.flush()
                save(folder, trainer)
                saved = time.monotonic()
            if interrupted.is_set():
                raise KeyboardInterrupt
        lines.flush()
        save(folder, trainer)
    return trainer


def _forget_after(log: Path, step: int) -> None:
    """Drop the lines of steps after the checkpoint: they will be done again."""
    if log.is_file():
        kept = [line for line in log.read_text().splitlines() if _step_of(line) <= step]
        log.write_text("".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return math.inf  # a line that was being written when the process died


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a step is never left half done."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, lambda *_: event.set()) for name in names}
    try:
        yield event
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
