"""Metrics on the tasks they apply to; one that fails costs its own figures and nothing else."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from transfuse.config.parts import Chosen
from transfuse.errors import TransfuseError
from transfuse.metrics import AppliesTo, Evaluation, Figure, Metric, Task
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality

from transfuse_lab.evaluation.evaluate import Evaluated

LOOKED_AT = 64  # truths of a task whose shapes are looked at


def measure(
    modalities: Mapping[str, Modality], evaluated: Evaluated, metrics: Mapping[str, Chosen[Metric]]
) -> tuple[dict[str, Any], dict[Task, list[str]]]:
    """Adds each metric's figures to ``evaluated``, or why it has none. Returns what each judged with, by metric; and
    by task the first metric's word on each thing that was made, where one has any.

    A figure goes by its name for the first of the data's tasks that the metric may apply to, so that it means the
    same whatever roles a recipe has; for other tasks by ``name[task]``, or ``name[role]`` where a role is all
    that matters.
    """
    applying: list[tuple[str, Metric, list[Evaluation]]] = []
    facts: dict[str, Any] = {}
    notes: dict[Task, list[str]] = {}
    for name, chosen in metrics.items():
        try:
            metric = chosen.build()
            applied = _applying(metric.applies_to, modalities, evaluated.evaluations)
        except Exception as error:
            evaluated.faults[name] = _reason(error)
            continue
        applying.append((name, metric, applied))
        if applied:
            facts[name] = {**chosen.dump(), "split": applied[0].split, **_facts(metric)}
    for evaluation in evaluated.evaluations:
        for name, metric in ((name, metric) for name, metric, applied in applying if evaluation in applied):
            place = _suffix(metric.applies_to, evaluation.task, evaluated)
            try:
                for figure, value in _figures(metric, evaluation, evaluated.figures.keys(), place):
                    evaluated.add(figure, value)
            except Exception as error:
                evaluated.faults[f"{name}{place}"] = _reason(error)
            try:
                said = metric.notes(evaluation)
                if said is not None and evaluation.task not in notes:
                    notes[evaluation.task] = [str(note) for note in said]
            except Exception as error:
                evaluated.faults.setdefault(name, _reason(error))
    return facts, notes


def _figures(
    metric: Metric, evaluation: Evaluation, taken: Collection[str], place: str
) -> Iterator[tuple[Figure, float]]:
    """All of a metric's figures of one task. Raises TransfuseError where one is not its own to report."""
    declared = {figure.name: figure for figure in metric.figures}
    computed = metric.compute(evaluation)
    if not isinstance(computed, Mapping):
        raise TransfuseError(f"compute returned {type(computed).__name__}, not a mapping of figures by name")
    for key, value in computed.items():
        if key not in declared:
            raise TransfuseError(f"it reports {key!r}, which is not among its figures: {', '.join(declared)}")
        if f"{key}{place}" in taken:
            raise TransfuseError(f"{key}{place} is a figure of another metric: name it otherwise")
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise TransfuseError(f"{key} is {type(value).__name__}, not a number")
        if not np.isfinite(value):
            raise TransfuseError(f"{key} is {float(value)}")
    for key, value in computed.items():
        title = f"{declared[key].title}, {evaluation.task}" if place else declared[key].title
        yield replace(declared[key], name=f"{key}{place}", title=title), float(value)


def _applying(
    applies_to: AppliesTo, modalities: Mapping[str, Modality], evaluations: Sequence[Evaluation]
) -> list[Evaluation]:
    kept: list[Evaluation] = []
    for one in evaluations:
        again = applies_to.once_a_role and one.task.want in {other.task.want for other in kept}
        if not again and _applies(applies_to, one, modalities):
            kept.append(one)
    return kept


def _applies(said: AppliesTo, one: Evaluation, modalities: Mapping[str, Modality]) -> bool:
    suffixes = seam.call(modalities[one.task.want], "suffixes")
    if said.want_file is not None and said.want_file not in suffixes:
        return False
    prompts, truths = list(islice(one.prompts, LOOKED_AT)), list(islice(one.truth, LOOKED_AT))
    given = [item.data for prompt in prompts for item in prompt]
    one_shape = len({np.shape(raw) for raw in truths if isinstance(raw, np.ndarray)}) == 1
    return may_mean(said, one.task, given, truths) and (one_shape or not said.one_shape)


def may_mean(said: AppliesTo, task: Task, given: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Whether a task with such raw data is meant, as far as raw data tell."""
    if said.want not in (None, task.want) or said.given not in (None, task.given):
        return False
    if said.given_data is not None and not (given and all(_is(raw, said.given_data) for raw in given)):
        return False
    if said.want_data is not None and not all(_is(raw, said.want_data) for raw in wanted):
        return False
    axes = {raw.ndim for raw in wanted if isinstance(raw, np.ndarray)}
    return said.axes is None or axes == {said.axes}


def _suffix(said: AppliesTo, task: Task, evaluated: Evaluated) -> str:
    """What a figure's name ends in: nothing for the first of the data's tasks that ``said`` may mean."""
    raws = evaluated.roles

    def meant(one: Task) -> bool:
        return may_mean(said, one, [raws[role] for role in one.given], [raws[one.want]])

    first = next(filter(meant, evaluated.tasks), task)
    if said.once_a_role:
        return "" if first.want == task.want else f"[{task.want}]"
    return "" if first == task else f"[{task}]"


def _is(raw: Any, data: str) -> bool:
    return isinstance(raw, str if data == "text" else np.ndarray)


def _facts(metric: Metric) -> dict[str, Any]:
    try:
        return dict(metric.facts())
    except Exception as error:
        return {"facts": f"none: {_reason(error)}"}


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, TransfuseError) else f"{type(error).__name__}: {error}"
