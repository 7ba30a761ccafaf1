"""The record of a trained run: figures, learning curve, samples, captions, settings and facts."""

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transfuse.metrics import Evaluation, Metric
from transfuse.modalities.modality import TokenModality
from transfuse.model.counts import parameter_counts
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins
from transfuse.training import Progress

from transfuse_lab.evaluation.shown import SHOWN, Drawn
from transfuse_lab.runs.records import Captioned, CurvePoint, RunRecord, Sample, entry_name, png_base64
from transfuse_lab.runs.trained import TrainedRun, text_and_image


def run_record(
    run: TrainedRun,
    evaluation: Evaluation,
    drawn: Sequence[Drawn],
    plugins: Plugins,
    entry: str | None = None,
) -> RunRecord:
    """What an evaluation leaves of a run. drawn: the images to show. entry: its name in a comparison."""
    recipe = run.recipe
    progress = Progress(**run.folder.checkpoint.state["progress"])
    figures = measure(evaluation, plugins) | {
        "positions_per_second": progress.positions / max(progress.seconds, 1e-9),
        "train_flops": progress.flops,
    }
    return RunRecord(
        entry=entry or entry_name(recipe.name),
        recipe=recipe.name,
        seed=recipe.train.seed,
        metrics=figures,
        curve=tuple(_curve(run.folder.metrics_file)),
        samples=tuple(
            Sample(
                prompt=one.prompt,
                image=png_base64(one.image),
                seen=one.read_as,
                real=png_base64(one.real),
                split=one.split,
            )
            for one in drawn
        ),
        captions=tuple(
            Captioned(
                image=png_base64(evaluation.heldout_images[i]),
                truth=evaluation.heldout_captions[i],
                predicted=evaluation.predicted_captions[i],
            )
            for i in range(min(SHOWN, len(evaluation.heldout_captions)))
        ),
        settings=recipe.dump(),
        facts=_facts(run, progress, evaluation),
    )


def measure(evaluation: Evaluation, plugins: Plugins) -> dict[str, float]:
    """Every metric on offer."""
    figures: dict[str, float] = {}
    for name in sorted(plugins.parts("metric")):
        figures |= plugins.choose("metric", {"name": name}, "metric", Metric).build().compute(evaluation)
    return figures


def _facts(run: TrainedRun, progress: Progress, evaluation: Evaluation) -> dict[str, Any]:
    """What else was measured or fixed."""
    described, (text, image) = run.folder.description, text_and_image(run.model)
    codecs = {
        name: facts.get("codec") for name, facts in described["modalities"].items() if facts.get("codec")
    }
    return {
        "parameters": parameter_counts(run.model),
        "steps": progress.step,
        "documents": progress.documents,
        "positions": progress.positions,
        "training_seconds": progress.seconds,
        "codec_seconds": described.get("codec_seconds", 0.0),
        "codecs": codecs,
        "plugins": described.get("plugins", {}),
        "threads": torch.get_num_threads(),
        "evaluated_pairs": len(evaluation.prompts),
        "evaluated_seen_prompts": len(evaluation.seen_prompts),
        "versions": {name: version(name) for name in ("transfuse", "torch", "numpy")},
        "loss_units": {text: "nats a token", image: _unit(run.model, image)},
    }


def _unit(model: Model, image: str) -> str:
    return "nats a code" if isinstance(model.modalities[image], TokenModality) else "squared error a latent"


def _curve(log: Path, points: int = 100) -> Iterator[CurvePoint]:
    """The training log in at most so many points, losses averaged between them."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    for part in np.array_split(np.arange(len(lines)), min(points, len(lines))):
        rows = [lines[i] for i in part]
        names = sorted({name for row in rows for name in row if name.startswith("loss_")})
        means = {
            name[len("loss_") :]: float(np.mean([row[name] for row in rows if name in row])) for name in names
        }
        last = rows[-1]
        yield CurvePoint(step=last["step"], flops=last["flops"], positions=last["positions"], losses=means)
