"""Which of what was made is shown, and beside what: an even spread, none chosen by hand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transfuse.documents import Item
from transfuse.errors import TransfuseError
from transfuse.metrics import Evaluation, Task
from transfuse.model.model import Model

from transfuse_lab.evaluation.evaluate import Evaluated
from transfuse_lab.evaluation.spread import spread
from transfuse_lab.raw_drawing import drawn
from transfuse_lab.runs.records import Sample, Shown, data_uri

SHOWN = 40  # of a task and a split


def samples(model: Model, evaluated: Evaluated, notes: Mapping[Task, Sequence[str]]) -> Iterator[Sample]:
    """What was made of held-out prompts, then of those that were trained on; each drawn by its own modality.

    A note is a mistake where it is not its prompt and all notes of the task are prompts of it, so that they answer.
    """
    for one in evaluated.evaluations:
        yield from _samples(model, one, notes.get(one.task))
        if one.trained is not None:
            yield from _samples(model, one.trained, None)


def _samples(model: Model, one: Evaluation, notes: Sequence[str] | None) -> Iterator[Sample]:
    spoken = {_spoken(prompt) for prompt in one.prompts} if notes else set()
    answers = notes is not None and set(notes) <= spoken
    for i in spread(one.prompts[: len(one)], SHOWN):
        note = notes[i] if notes is not None and i < len(notes) else None
        yield Sample(
            task=str(one.task),
            given=tuple(shown(model, item.modality, item.data) for item in one.prompts[i]),
            made=shown(model, one.task.want, one.made[i]),
            truth=shown(model, one.task.want, one.truth[i]) if one.task.given else None,
            note=note,
            mistaken=answers and note is not None and note != _spoken(one.prompts[i]),
            split="train" if one.split == "train" else "heldout",
        )


def _spoken(prompt: Sequence[Item]) -> str:
    return " + ".join(item.data if isinstance(item.data, str) else item.modality for item in prompt)


def shown(model: Model, role: str, raw: Any) -> Shown:
    """Raw data as its role's modality draws it; a text as it is. What cannot be drawn says why."""
    if isinstance(raw, str):
        return Shown(role=role, text=raw)
    try:
        return Shown(role=role, drawing=data_uri(drawn(model.modalities[role], raw)))
    except TransfuseError as error:
        return Shown(role=role, text=f"(not drawn: {error})")
