"""What is wrong with a run, told from its log, its last checkpoint, and its data put through its model.

Each check is one function that yields symptoms; thresholds stand above. A run that is well has none.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor
from transfuse.checkpoints import RunFolder
from transfuse.checkpoints.checkpoint import EMA_FILE, MODEL, OPTIMIZER
from transfuse.checkpoints.weights import module_tensors
from transfuse.config.recipe import Recipe
from transfuse.datasets import ENDLESS, DataSet, restrict
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins
from transfuse.training import Trainer
from transfuse.training.parameter_groups import parameter_groups

from transfuse_lab.datasets import open_section
from transfuse_lab.runs.log import EVENTS, read_events, read_log

ENOUGH = 20
"""Lines of a log from which on its course is judged."""
FLAT = 0.98
"""A loss whose last quarter is more than this share of its first has learnt nothing."""
NOTHING_LEFT = 0.02
"""Nats a token: what has so little to predict was told the answer."""
EXPLODING = 20.0
"""So many times its usual length a gradient has exploded."""
MOVED = 0.02
"""An average that went less than this share of its weights' way from their start is dead."""
DISTINCT, LOOKED_AT = 0.5, 400
"""Of so many documents that are read one after the other at least this share should be different ones."""
VISITS = 100
"""Epochs from which on a data set is repeated too often to learn more from."""
SIGNAL = 0.1
"""The strongest correlation of noised spans with clean ones is over this, or all that is seen is noise."""
CLEARER = 0.9
"""Where ids at another place are predicted at less than this share of the next one's loss, targets are shifted."""


@dataclass(frozen=True)
class Symptom:
    """What is wrong: its short name, and where and how it shows, with a cure."""

    name: str
    text: str


@dataclass(frozen=True)
class Examined:
    """A run's folder, opened as far as it goes."""

    run: RunFolder
    plugins: Plugins
    recipe: Recipe

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        return read_log(self.run.metrics_file, 10**12)

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        return read_events(self.run.path / EVENTS, 10**12)

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        return self.run.checkpoint.tensors(MODEL)

    @cached_property
    def start(self) -> dict[str, Tensor] | None:
        """The weights as they were drawn; None where they were not, but taken from elsewhere."""
        if self.recipe.model.pretrained or "from" in self.run.description:
            return None
        return module_tensors(self.run.build_model(self.recipe, self.plugins))

    @cached_property
    def data(self) -> DataSet:
        place = f"{self.run.description_file}: data_section"
        return open_section(self.run.description.get("data_section", {}), self.plugins, place)

    @cached_property
    def trainer(self) -> Trainer:
        """With the trained weights, at the beginning of the stream."""
        model = self.run.build_model(self.recipe, self.plugins)
        self.run.checkpoint.load_weights(model)
        return Trainer(self.recipe, model, restrict(self.data, model.modalities))

    @cached_property
    def frozen(self) -> set[str]:
        """The weights that nothing is to train: codecs', and groups whose learning rate is 0."""
        trainer = self.trainer
        return {name for name, p in trainer.model.named_parameters() if not p.requires_grad}

    def losses(self, role: str) -> list[float]:
        return [line[f"loss_{role}"] for line in self.lines if f"loss_{role}" in line]


def examine_run(folder: Path, plugins: Plugins) -> list[Symptom]:
    """All that is found. Raises TransfuseError where the folder holds no run, or its last state is not whole."""
    run = RunFolder(folder)
    examined = Examined(run, plugins, run.recipe(plugins))
    run.sound_checkpoint()
    found: list[Symptom] = []
    for check in CHECKS:
        try:
            found += check(examined)
        except TransfuseError as error:
            if Symptom("unreadable", str(error)) not in found:
                found.append(Symptom("unreadable", str(error)))
    return found


# -- its log


def _steps_lost(e: Examined) -> Iterator[Symptom]:
    skipped = [event for event in e.events if event["event"] == "skipped"]
    if skipped:
        last = skipped[-1]
        yield Symptom(
            "steps skipped",
            f"{len(skipped)} steps were not finite, the last of them step {last['step']}, in {', '.join(last['of'])} "
            f"({', '.join(last['documents'][:3])}): look at these documents, or lower train.lr",
        )
    if jumps := [event for event in e.events if event["event"] == "jump"]:
        worst = max(jumps, key=lambda event: event["loss"] - event["usual"])
        yield Symptom(
            "loss jumps",
            f"{len(jumps)} times, most at step {worst['step']}, from {worst['usual']:.3g} to {worst['loss']:.3g}, with "
            f"{', '.join(worst['documents'][:3])} …: look at these documents, or lower train.lr",
        )


def _norm(e: Examined) -> Iterator[Symptom]:
    norms = [line["grad_norm"] for line in e.lines if "grad_norm" in line]
    if len(norms) >= ENOUGH:
        usual, last = median(norms[: len(norms) // 2]), median(norms[-max(3, len(norms) // 10) :])
        if last > EXPLODING * usual:
            yield Symptom(
                "exploding norm",
                f"the gradient's norm was {usual:.3g} and is {last:.3g} at the end: lower train.lr or train.clip, or "
                f"say model.qk_norm=true",
            )


def _course(e: Examined) -> Iterator[Symptom]:
    for role, weight in e.recipe.loss.items():
        losses = e.losses(role)
        if weight and not losses and e.lines:
            yield Symptom(
                "dead modality",
                f"{role} had no loss in {len(e.lines)} steps: no item of it is to be predicted, see `transfuse data "
                f"show`",
            )
        if len(losses) < ENOUGH:
            continue
        quarter = len(losses) // 4
        first, last = fmean(losses[:quarter]), fmean(losses[-quarter:])
        if weight and last > FLAT * first:
            yield Symptom(
                "learns nothing",
                f"the loss of {role} was {first:.3g} and is {last:.3g} after {len(losses)} steps",
            )
        if role in _writing(e) and last < NOTHING_LEFT:
            yield Symptom(
                "told the answer",
                f"the loss of {role} is {last:.3g} nats a token: it sees what it predicts, or reads the same again "
                f"and again",
            )


def _weights_missing(e: Examined) -> Iterator[Symptom]:
    documents = (e.data.document("train", i) for i in range(min(50, e.data.size("train"))))
    present = {item.modality for document in documents for item in document.items if item.loss}
    for role, weight in e.recipe.loss.items():
        if not weight and role in present:
            yield Symptom(
                "λ missing",
                f"{role} weighs 0 in the loss, and the data have items of it to predict: set loss.{role}",
            )


# -- its last checkpoint


def _frozen(e: Examined) -> Iterator[Symptom]:
    if e.start is None or not e.lines:
        return
    still = {n for n, t in e.start.items() if n in e.weights and torch.equal(t, e.weights[n])}
    moments = e.run.checkpoint.tensors(OPTIMIZER)
    rare = {n for n in still if not bool(moments.get(f"{n}/exp_avg_sq", torch.zeros(1)).any())}
    parameters = dict(e.trainer.model.named_parameters())
    wanted = e.recipe.train.lr_scale or {}
    for group, own in parameter_groups(e.trainer.model).items():
        names = {n for n, p in parameters.items() if any(p is q for q in own) and not _is_codec(e, n)}
        if names and names <= still and wanted.get(group) != 0 and not _inside_zero(wanted, group):
            how = "no gradient reached them" if names <= rare else "though gradients did reach them"
            yield Symptom(
                "frozen",
                f"the weights of {group} are as they were drawn, {how}: is requires_grad off, or its loss 0?",
            )


def _inside_zero(wanted: Any, group: str) -> bool:
    outer, _, inner = group.partition(".")
    within = wanted.get(outer)
    return within == 0 or (bool(inner) and isinstance(within, dict) and within.get(inner) == 0)


def _is_codec(e: Examined, name: str) -> bool:
    return name.startswith("modality_modules.") and ".codec." in name


def _average(e: Examined) -> Iterator[Symptom]:
    if not e.recipe.train.ema or len(e.lines) < ENOUGH:
        return
    averages = e.run.checkpoint.tensors(EMA_FILE)
    if all(torch.equal(average, e.weights[name]) for name, average in averages.items()):
        yield Symptom(
            "dead EMA", "the averaged weights are the trained ones, bit for bit: nothing was averaged"
        )
    elif e.start is not None:
        way = math.hypot(*(float((e.weights[n] - e.start[n]).norm()) for n in averages))
        went = math.hypot(*(float((average - e.start[n]).norm()) for n, average in averages.items()))
        if way and went < MOVED * way:
            yield Symptom("dead EMA", "the averaged weights are still those that the run began with")


# -- its data, and what its model does with them


def _repeated(e: Examined) -> Iterator[Symptom]:
    size, stream = e.data.size("train"), e.trainer.stream
    looked = LOOKED_AT if size == ENDLESS else min(LOOKED_AT, size)
    if looked > 1:
        seen = {_content(stream.document(place)[0]) for place in range(looked)}
        if len(seen) < DISTINCT * looked:
            yield Symptom(
                "data repeated",
                f"of {looked} documents that are read one after the other {len(seen)} are different",
            )
    documents = e.run.checkpoint.state.get("progress", {}).get("documents", 0)
    if size != ENDLESS and documents > VISITS * size:
        yield Symptom("data repeated", f"{size:,} documents were read {documents / size:,.0f} times each")


def _content(document: Any) -> tuple[Any, ...]:
    parts = []
    for item in document.items:
        raw = item.data.tobytes() if hasattr(item.data, "tobytes") else str(item.data)
        parts.append((item.modality, raw))
    return tuple(sorted(map(hash, parts)))


def _leak(e: Examined) -> Iterator[Symptom]:
    try:
        e.trainer.check_mask()
    except TransfuseError as error:
        yield Symptom("leaking mask", str(error))


def _noise_only(e: Examined) -> Iterator[Symptom]:
    row = next(iter(e.trainer.packer.rows(e.trainer.stream.sequences())))
    clean = {(p.modality, p.start): torch.from_numpy(p.span.payload) for p in row.spans}
    found: dict[str, list[float]] = {}
    for group in e.trainer.batch(row).groups:
        for start, noised, asked in zip(group.index[:, 0].tolist(), group.x_t, group.loss, strict=True):
            own = clean.get((group.modality, start))
            if asked and own is not None and own.numel() > 3 and own.std() > 0:
                both = torch.stack([own.flatten().double(), noised.flatten().double()])
                found.setdefault(group.modality, []).append(abs(float(torch.corrcoef(both)[0, 1])))
    for role, seen in found.items():
        strongest = sorted(seen)[-max(1, len(seen) // 4) :]
        if len(seen) >= 4 and fmean(strongest) < max(SIGNAL, 2 / math.sqrt(_numbers(e, row, role))):
            yield Symptom(
                "noise only",
                f"what the model sees of {role} has nothing to do with the data (correlation "
                f"{fmean(strongest):.2g} at most): look at the objective's times and the codec's scale",
            )


def _numbers(e: Examined, row: Any, role: str) -> int:
    return min(place.span.payload.size for place in row.spans if place.modality == role)


@torch.no_grad()
def _shifted(e: Examined) -> Iterator[Symptom]:
    """How well each position's output predicts the id at its own place, the next, and the one behind that."""
    if len(e.lines) < ENOUGH or not e.trainer.model.token_modalities:
        return
    trainer, model = e.trainer, e.trainer.model.eval()
    row = next(trainer.packer.rows(trainer.stream.sequences()))
    hidden, _ = model(trainer.batch(row))
    logs = model.logits(hidden).log_softmax(-1)
    tokens, doc = torch.from_numpy(row.tokens), torch.from_numpy(row.columns["doc"])
    losses: dict[int, float] = {}
    for ahead in (0, 1, 2):
        here = torch.arange(len(tokens) - 2)
        here = here[(torch.from_numpy(row.targets)[here] >= 0) & (tokens[here + ahead] >= 0)]
        here = here[doc[here] == doc[here + ahead]]
        own = -logs[here, tokens[here + ahead]]
        own = own[own.isfinite()]
        losses[ahead] = float(own.mean()) if len(own) else math.inf
    best = min(losses, key=losses.__getitem__)
    if best != 1 and losses[best] < CLEARER * losses[1]:
        where = "its own place" if best == 0 else "the place after the next"
        yield Symptom(
            "shifted targets",
            f"outputs predict the id at {where} ({losses[best]:.3g} nats) and not the next ({losses[1]:.3g})",
        )


def _writing(e: Examined) -> Sequence[str]:
    return list(e.trainer.model.token_modalities)


CHECKS: tuple[Callable[[Examined], Iterator[Symptom]], ...] = (
    _steps_lost, _norm, _course, _weights_missing, _frozen, _average, _repeated, _leak, _noise_only, _shifted,
)  # fmt: skip
