"""The record of a trained run: figures, learning curve, samples, settings and facts."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from transfuse.config.parts import Chosen
from transfuse.metrics import Figure, Metric
from transfuse.training import Progress
from transfuse.training.counts import parameter_counts

from transfuse_lab.device import title
from transfuse_lab.evaluation.evaluate import Evaluated
from transfuse_lab.evaluation.measure import measure
from transfuse_lab.evaluation.shown import samples
from transfuse_lab.runs.log import read_log
from transfuse_lab.runs.made_by import MADE_BY, made_by
from transfuse_lab.runs.records import CurvePoint, RunRecord, entry_name
from transfuse_lab.runs.trained import TrainedRun

TRAINING = (
    Figure(
        "positions_per_second", "Speed", "positions/s", "higher", "count",
        "training positions a second of process CPU time (all threads; a comparison runs one), where this ran",
    ),
    Figure("train_flops", "Training FLOPs", "", "", "number", "what the run spent, by the formula above"),
    Figure(
        "train_flops_without_output", "Training FLOPs without the output layer", "", "", "number",
        "the same without the output layer, whose share grows with the vocabulary and falls with the model's size",
        detail=True,
    ),
    Figure("training_seconds", "Training time", "s", "", "count", "process CPU time of the steps", detail=True),
    Figure(
        "peak_memory", "Memory of training", "MiB", "", "count",
        "the most that the training process held at once: on a GPU what torch allocated there, else resident memory",
        detail=True,
    ),
    Figure("evaluation_seconds", "Evaluation time", "s", "", "count",
           "process CPU time of evaluating, metrics apart", detail=True),
)  # fmt: skip


def run_record(
    run: TrainedRun,
    evaluated: Evaluated,
    metrics: Mapping[str, Chosen[Metric]],
    entry: str | None = None,
) -> RunRecord:
    """What an evaluation leaves of a run, measured by these metrics. entry: its name in a comparison."""
    recipe = run.recipe
    progress = Progress(**run.folder.checkpoint.state["progress"])
    judged, notes = measure(run.model.modalities, evaluated, metrics)
    of_training = {
        "positions_per_second": progress.positions / max(progress.seconds, 1e-9),
        "train_flops": progress.flops,
        "train_flops_without_output": progress.flops - progress.output_flops,
        "training_seconds": progress.seconds,
        "peak_memory": progress.peak_memory / 2**20,
        "evaluation_seconds": evaluated.seconds,
    }
    for figure in TRAINING:
        evaluated.add(figure, of_training[figure.name])
    return RunRecord(
        entry=entry or entry_name(recipe.name),
        recipe=recipe.name,
        seed=recipe.train.seed,
        metrics=evaluated.figures,
        figures=tuple(evaluated.described.values()),
        samples=tuple(samples(run.model, evaluated, notes)),
        faults=evaluated.faults,
        curve=tuple(_curve(read_log(run.folder.metrics_file, progress.step))),
        settings=recipe.dump(),
        facts={**_facts(run, progress, evaluated), "metrics": judged},
    )


def _facts(run: TrainedRun, progress: Progress, evaluated: Evaluated) -> dict[str, Any]:
    """What else was measured or fixed."""
    described_run = run.folder.description
    codecs = {
        name: facts.get("codec") for name, facts in described_run["modalities"].items() if facts.get("codec")
    }
    units = dict.fromkeys(run.model.token_modalities, "nats an id")
    return {
        "parameters": parameter_counts(run.model),
        "steps": progress.step,
        "documents": progress.documents,
        "positions": progress.positions,
        "codec_seconds": described_run.get("codec_seconds", 0.0),
        "codecs": codecs,
        "plugins": described_run.get("plugins", {}),
        **{key: described_run[key] for key in ("history", "from") if key in described_run},
        "device": title(run.model.tokens.weight.device),
        "split": run.recipe.eval.split,
        **({"sampled_otherwise": run.overrides} if run.overrides else {}),
        MADE_BY: made_by(),
        "trained_by": described_run.get(MADE_BY, []),
        "prompts": {str(one.task): len(one) for one in evaluated.evaluations},
        "prompts_trained_on": {
            str(one.task): len(one.trained) for one in evaluated.evaluations if one.trained is not None
        },
        "versions": {"transfuse": version("transfuse")},
        "loss_units": units | dict.fromkeys(run.model.span_modalities, "loss a span"),
    }


def _curve(lines: Sequence[dict[str, Any]], points: int = 100) -> Iterator[CurvePoint]:
    """The training log in at most so many points, losses averaged between them."""
    for part in np.array_split(np.arange(len(lines)), min(points, len(lines)) or 1):
        if not len(part):
            return
        rows = [lines[i] for i in part]
        names = sorted({name for row in rows for name in row if name.startswith("loss_")})
        means = {
            name[len("loss_") :]: float(np.mean([row[name] for row in rows if name in row])) for name in names
        }
        last = rows[-1]
        spent = {name: last[name] for name in ("step", "flops", "output_flops", "documents", "positions")}
        yield CurvePoint(**spent, losses=means)
