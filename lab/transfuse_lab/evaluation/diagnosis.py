"""What is diagnosed of trained runs: interference of losses, attention, what predictions rest on; in one JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from transfuse.checkpoints import Checkpoint
from transfuse.datasets import restrict
from transfuse.errors import TransfuseError
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.packing import Packer
from transfuse.training import Progress, Stream

from transfuse_lab.evaluation.attention_mass import Mass, attention_mass
from transfuse_lab.evaluation.gradients import ALL, Compared, Estimate, compare, gradients
from transfuse_lab.evaluation.interventions import Bypass, GivenEffect, bypasses, given_effects
from transfuse_lab.evaluation.losses import LEVELS
from transfuse_lab.runs.records import plain
from transfuse_lab.runs.trained import TrainedRun

NOISE = Key(20240823)  # of every diagnosis, whatever the run's seed
ATTENTION_ROWS = 4


@dataclass(frozen=True)
class Diagnosis:
    """Of one moment of one run. rows: of training documents, on each of which gradients were taken."""

    run: str
    recipe: str
    step: int
    flops: float
    rows: int
    gradients: list[Compared]
    attention: list[Mass]
    bypass: list[Bypass]
    effects: list[GivenEffect]

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return plain(asdict(self))


def diagnose(run: TrainedRun, checkpoint: Checkpoint, rows: int) -> Diagnosis:
    """A trained run, its model with the weights of a checkpoint, on rows of its training documents with noise of their
    own, and on the documents that evaluation asks. Raises TransfuseError where the recipe has one loss, or the data no
    task."""
    recipe, model = run.recipe, run.model.eval()
    batches = list(islice(_batches(run), rows))
    by_layer, names = gradients(model, batches, recipe.loss)
    if len({name.partition("@")[0] for name in names}) < 2:
        raise TransfuseError(
            f"{run.folder.path}: its losses are of {' and '.join(names) or 'nothing'} alone: diagnose a run of two "
            f"modalities that learn"
        )
    progress = Progress(**checkpoint.state["progress"])
    return Diagnosis(
        str(run.folder.path),
        recipe.name,
        progress.step,
        progress.flops,
        rows,
        compare(by_layer, names),
        attention_mass(model, batches[:ATTENTION_ROWS]),
        bypasses(model, batches),
        given_effects(model, run.data, recipe.eval),
    )


def _batches(run: TrainedRun) -> Iterator[Batch]:
    """Rows as training packs them, of the documents that it read first, with other noise."""
    recipe, model = run.recipe, run.model
    train = recipe.train
    longest = train.budget if train.too_long == "cut" else None
    stream = Stream(restrict(run.data, model.modalities), model.layout, Key(train.seed), train.drop, longest)
    packer = Packer(train.budget, train.look_ahead, skip=train.too_long == "skip")
    for row in packer.rows(stream.sequences()):
        yield collate(row, model.modalities, NOISE, recipe.model.rope).to(model.tokens.weight.device)


def lines(found: Diagnosis) -> Iterator[str]:
    """A diagnosis as a terminal shows it."""
    yield f"{found.run}: {found.recipe}, step {found.step:,}, {found.flops:.3g} FLOPs, {found.rows} rows"
    whole = [one for one in found.gradients if one.layer == ALL]
    for one in (one for one in whole if not _levels(one)):
        first, second = one.losses
        yield (
            f"  gradients of {first} and {second}: cosine {_told(one.cosine)}, norms {_told(one.ratio)} : 1; of half "
            f"the rows a side {one.half:+.2f}; of halves of {first} {one.own[0]:+.2f}, of {second} {one.own[1]:+.2f}"
        )
        at = [other for other in whole if _levels(other) and _roles(other) == set(one.losses)]
        for role in one.losses:
            if own := sorted(
                (other for other in at if role in _levels(other)), key=lambda o: _levels(o)[role]
            ):
                told = ", ".join(f"{_levels(o)[role]}: {_told(o.cosine)}" for o in own)
                yield f"    by the noise of {role}, of {LEVELS} levels: {told}"
    for one in found.bypass:
        yield (
            f"  {one.role} without the transformer's output: predictions move by {one.moved:.0%}, loss {one.loss:.4f} "
            f"becomes {one.without:.4f}"
        )
    for one in found.effects:
        rises = _told(Estimate(one.effect, one.error), 4)
        yield f"  {one.task} given another prompt: {one.loss:.4f} {one.unit} rises by {rises}"
    for one in _last(found.attention):
        shares = ", ".join(
            f"{share:.0%} to {name} (even {one.even[name]:.0%})" for name, share in one.keys.items()
        )
        yield f"  attention of {one.query} in the last layer: {shares}"


def _last(found: Sequence[Mass]) -> list[Mass]:
    return [one for one in found if one.layer == max(other.layer for other in found)]


def _levels(one: Compared) -> dict[str, int]:
    """The noise levels that the losses are of, by role."""
    return {name.partition("@")[0]: int(name.partition("@")[2]) for name in one.losses if "@" in name}


def _roles(one: Compared) -> set[str]:
    return {name.partition("@")[0] for name in one.losses}


def _told(one: Estimate, digits: int = 2) -> str:
    if one.value is None:
        return "lost in noise"
    return f"{one.value:.{digits}f}" + (f" ± {one.error:.{digits}f}" if one.error is not None else "")
