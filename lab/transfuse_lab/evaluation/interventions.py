"""What predictions rest on: the transformer's output taken away, and what is given exchanged for another document's."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from transfuse.config.recipe import EvalSettings
from transfuse.datasets import DataSet, restrict
from transfuse.modalities import seam
from transfuse.model.model import Model
from transfuse.sequences.batch import Batch

from transfuse_lab.evaluation.evaluate import another_prompt
from transfuse_lab.evaluation.losses import LEVELS, level_of, losses
from transfuse_lab.evaluation.tasks import ask, checked_evaluable


@dataclass(frozen=True)
class Bypass:
    """A modality of spans without the transformer's output, which is set to 0.

    moved: root mean square of how far predictions move, over that of predictions: near 0 the patcher predicts by
    itself. loss, without: of the spans, as it is and without.
    """

    role: str
    moved: float
    loss: float
    without: float


def bypasses(model: Model, batches: Iterable[Batch]) -> list[Bypass]:
    """Of each modality of spans that is predicted in these rows."""
    sums: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        for batch in batches:
            hidden, states = model(batch)
            for group, state in zip(batch.groups, states, strict=True):
                own = torch.from_numpy(np.flatnonzero(group.loss))
                if not len(own):
                    continue
                modality = model.span_modalities[group.modality]
                target, t = group.target[own], group.t[own]
                whole, alone = (
                    model.predict(x, group, state)[own] for x in (hidden, torch.zeros_like(hidden))
                )
                found = [
                    float((whole - alone).double().square().sum()), float(whole.double().square().sum()),
                    *(float(seam.score(modality, x, target, t, copy=group.copy).sum) for x in (whole, alone)),
                    len(own),
                ]  # fmt: skip
                sums[group.modality] = sums.get(group.modality, np.zeros(5)) + found
    return [
        Bypass(role, float(np.sqrt(moved / max(size, 1e-30))), loss / spans, without / spans)
        for role, (moved, size, loss, without, spans) in sums.items()
    ]


@dataclass(frozen=True)
class GivenEffect:
    """By how much a task's loss rises when each document is given another one's prompt, with its error over documents.

    unit: of the loss. by_level: the same where the share of noise lies in each part from 0 to 1, of spans.
    """

    task: str
    unit: str
    loss: float
    effect: float
    error: float
    by_level: list[float | None] = field(default_factory=list)


def given_effects(model: Model, data: DataSet, settings: EvalSettings) -> list[GivenEffect]:
    """Of each task that gives something, on documents of the settings' split."""
    data, found = restrict(data, model.modalities), []
    for task in checked_evaluable(data, model.modalities, settings):
        asked = ask(data, settings.split, task, settings.prompts)
        others = another_prompt(asked) if len(asked) else None
        if others is None:
            continue
        right = losses(model, [asked.answered(i) for i in range(len(asked))])[task.want]
        wrong = losses(model, [asked.answered(i, others[i]) for i in range(len(asked))])[task.want]
        ids = task.want in model.token_modalities
        each = wrong.by_document[:, 0] - right.by_document[:, 0]
        units = right.count / len(asked)
        found.append(
            GivenEffect(
                str(task), "nats an id" if ids else "loss a span", right.mean, float(each.mean() / units),
                float(each.std(ddof=1) / units / len(each) ** 0.5) if len(each) > 1 else float("nan"),
                [] if ids else _by_level(right.levels, wrong.levels),
            )
        )  # fmt: skip
    return found


def _by_level(right: list[tuple[float, float]], wrong: list[tuple[float, float]]) -> list[float | None]:
    means = []
    for one in (right, wrong):
        shares, values = np.array(one).reshape(-1, 2).T
        at = level_of(shares)
        means.append([values[at == k].mean() if (at == k).any() else np.nan for k in range(LEVELS)])
    return [float(b - a) if np.isfinite(b - a) else None for a, b in zip(*means, strict=True)]
