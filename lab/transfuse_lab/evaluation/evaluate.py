"""A trained model put to its tasks: what it makes of held-out prompts, and its losses; arrays, for metrics."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from transfuse.config.recipe import EvalSettings
from transfuse.datasets import DataSet, item_bytes, restrict
from transfuse.documents import Document
from transfuse.errors import TransfuseError
from transfuse.generation import GenerationConfig, generate_chunks
from transfuse.metrics import Evaluation, Figure, Task
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality
from transfuse.model.model import Model
from transfuse.model.precision import DType

from transfuse_lab.evaluation.losses import loss_figures, losses
from transfuse_lab.evaluation.spread import distinct_texts, evenly
from transfuse_lab.evaluation.tasks import (
    Asked,
    Lazy,
    ask,
    checked_evaluable,
    examples,
    roles_of,
    tasks_of,
)
from transfuse_lab.progress import bar

ALONE = 40  # documents of text that are written from nothing, to be shown
FEW = 20_000  # prompts of training documents among which those that are asked are spread
Report = Callable[[str], None]


@dataclass
class Evaluated:
    """What an evaluation found.

    roles: of the data, each with some raw data of its own. tasks: that the data hold for a model of all roles.
    evaluations: a task each. figures: what is measured of every model, by name, and ``described``.
    faults: why a task could not be put to the model, or a part of it, by name. seconds: of process CPU time.
    """

    roles: Mapping[str, Any]
    tasks: Sequence[Task]
    evaluations: list[Evaluation] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    described: dict[str, Figure] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, figure: Figure, value: float) -> None:
        if np.isfinite(value):
            self.figures[figure.name], self.described[figure.name] = value, figure
        else:
            self.faults[figure.name] = f"it is {value}"


def evaluate(
    model: Model,
    data: DataSet,
    seed: int,
    settings: EvalSettings,
    report: Report = lambda _: None,
) -> Evaluated:
    """Everything that figures are computed from. Samples are drawn at the recipe's guidance, text greedily.

    A task that cannot be put to the model costs its own figures, with the reason among ``faults``; report is told of
    prompts that are left out. Raises TransfuseError where the data hold no task for the model.
    """
    model.eval()
    began, roles = time.process_time(), roles_of(data)
    found = Evaluated(roles, tasks_of(data, roles, split=settings.split))
    data = restrict(data, model.modalities)
    tasks = checked_evaluable(data, model.modalities, settings)
    with bar("evaluate") as progress:
        for number, task in enumerate(tasks):

            def along(share: float, note: str, number: int = number) -> None:
                progress.update((number + share) / len(tasks), note)

            try:
                found.evaluations.append(_put(model, data, task, seed, settings, found, report, along))
            except TransfuseError as error:
                found.faults[str(task)] = str(error)
        _held_out_losses(model, data, settings, found)
    found.seconds = time.process_time() - began
    return found


def _put(
    model: Model,
    data: DataSet,
    task: Task,
    seed: int,
    settings: EvalSettings,
    found: Evaluated,
    report: Report,
    along: Callable[[float, str], None],
) -> Evaluation:
    """A task put to the model, of held-out documents and perhaps of training documents."""
    split = settings.split
    held = _laid_out(model, ask(data, split, task, settings.prompts), report)
    if not held.instances:
        raise TransfuseError(f"data set {data.name!r}: split {split!r} holds no prompt that can be asked")
    seen = _seen(data, task, held, settings.trained)
    total = len(held) + (len(seen) if seen else 0)
    report(f"{task}: {len(held)} held-out prompts{f', {len(seen)} of training documents' if seen else ''}"
           f"{', the most that eval.prompts allows' if len(held) == settings.prompts else ''}")  # fmt: skip
    nats, tokens = _losses_of_task(model, held, found)
    modality, asked = model.modalities[task.want], len(held)
    ids = task.want in model.token_modalities
    made = _made(model, held, seed, settings.dtype, lambda done: along(done / total, str(task)))
    held, made, refused = _readable(model, held, made, found)
    if ids and task.given:
        pairs = zip(made, held.truth, strict=True)
        same = [np.array_equal(_encoded(modality, a), _encoded(modality, b)) for a, b in pairs]
        found.add(
            Figure(f"exact_match[{task}]", f"Exact match, {task}", "", "higher", "percent", detail=True,
                   meaning=f"the share of held-out prompts whose {task.want} was made id by id as it is"),
            sum(same) / asked,
        )  # fmt: skip
    if refused:
        found.add(
            Figure(f"unreadable[{task}]", f"Could not be read, {task}", "", "lower", "count", detail=True,
                   meaning=f"how many of the {asked} held-out prompts were answered with a {task.want} that its own "
                           "modality refuses; other figures of what was made leave them out, exact matches do not"),
            refused,
        )  # fmt: skip
        nats, tokens = _nats(model, held) if ids else (0.0, 0)
    trained = None
    if seen is not None:
        drawn = _made(
            model, seen, seed, settings.dtype, lambda done: along((asked + done) / total, str(task))
        )
        seen, drawn, _ = _readable(model, seen, drawn, found, "training ")
        trained = Evaluation(task, seen.prompts, seen.truth, drawn, "train")
    return Evaluation(
        task=task,
        prompts=held.prompts,
        truth=held.truth,
        made=made,
        split=split,
        rebuilt=Lazy(len(held), lambda i: seam.call(modality, "decode", _encoded(modality, held.truth[i]))),
        nats=nats,
        tokens=tokens,
        examples=examples(data, task),
        trained=trained,
    )


def _laid_out(model: Model, asked: Asked, report: Report) -> Asked:
    """Those of which prompt and truth can be laid out; what is wrong with the others is said."""
    kept, faults = [], []
    for i, one in enumerate(asked.instances):
        try:
            model.layout.sequence(asked.answered(i))
            kept.append(one)
        except TransfuseError as error:
            faults.append(str(error))
    if faults:
        report(f"{asked.task}: {len(faults)} of {len(asked)} prompts are left out; the first: {faults[0]}")
    return replace(asked, instances=tuple(kept))


def _seen(data: DataSet, task: Task, held: Asked, most: int) -> Asked | None:
    """The same asked of training documents, spread evenly, where prompts are texts of which nearly every one is
    another: one that names a class is seen in training anyway."""
    if not most or not distinct_texts(held.prompts):
        return None
    asked = ask(data, "train", task, FEW)
    if not distinct_texts([*asked.prompts, *held.prompts]):
        return None
    return replace(asked, instances=tuple(asked.instances[i] for i in evenly(len(asked), most)))


def _made(model: Model, asked: Asked, seed: int, dtype: DType, done: Callable[[int], None]) -> list[Any]:
    """What the model makes of each prompt, in the shape that the truth has; or the error that it ended in."""
    role = asked.task.want
    text = role == model.layout.marker_modality
    if text and not asked.task.given:
        asked = replace(asked, instances=asked.instances[:ALONE])
    config = GenerationConfig(want=role, seed=seed, dtype=dtype)
    if text:
        longest = max(len(_encoded(model.modalities[role], truth)) for truth in asked.truth)
        config = replace(config, tokens=longest + 1, greedy=bool(asked.task.given))
    labels = [None if text else _label(model, asked, i) for i in range(len(asked))]
    made: list[Any] = [None] * len(asked)
    finished = 0
    for label in dict.fromkeys(labels):
        places = [i for i in range(len(asked)) if labels[i] == label]
        questions = [asked.question(i) for i in places]
        documents = _continued(model, questions, replace(config, label=label), places)
        for i, question, document in zip(places, questions, documents, strict=True):
            made[i] = document if isinstance(document, TransfuseError) else _last(document, question, role)
            finished += 1
            done(finished)
    return made


def _continued(
    model: Model, questions: Sequence[Document], config: GenerationConfig, places: Sequence[int]
) -> Iterator[Document | TransfuseError]:
    """What each becomes. Where something in a chunk is refused, it is halved until what is refused stands alone."""
    done = 0
    try:
        for document in generate_chunks(model, questions, config, indices=places):
            yield document
            done += 1
    except TransfuseError as error:
        middle = (done + len(places)) // 2
        if middle == done:
            yield error
            return
        for part in (slice(done, middle), slice(middle, None)):
            yield from _continued(model, questions[part], config, places[part])


def _readable(
    model: Model, asked: Asked, made: list[Any], found: Evaluated, of: str = ""
) -> tuple[Asked, list[Any], int]:
    """The prompts whose samples their modality takes, those samples, and how many it does not: any ids may be
    sampled. The first fault is told with its prompt. Raises it where no sample can be read."""
    role, faults = asked.task.want, dict[int, TransfuseError]()
    for i, raw in enumerate(made):
        try:
            if isinstance(raw, TransfuseError):
                raise raw
            if role in model.token_modalities:
                with seam.at(f"encode of what decode gave, {raw!r:.40}"):
                    _encoded(model.modalities[role], raw)
        except TransfuseError as error:
            faults[i] = error
    if faults:
        first, error = next(iter(faults.items()))
        if len(faults) == len(made):
            raise error
        name = f"{asked.task}, {len(faults)} of {len(made)} {of}samples"
        found.faults[name] = f"the first, for the prompt of {asked.place(first)}: {error}"
    kept = [i for i in range(len(asked)) if i not in faults]
    left = replace(asked, instances=tuple(asked.instances[i] for i in kept))
    return left, [made[i] for i in kept if i < len(made)], len(faults)


def _encoded(modality: Modality, raw: Any) -> np.ndarray:
    return seam.payload(modality, "encode", raw)


def _label(model: Model, asked: Asked, i: int) -> str | None:
    item = asked.items(i)[1]
    modality = model.modalities[item.modality]
    return seam.spans(modality, item, _encoded(modality, item.data))[0].label


def _last(document: Document, question: Document, role: str) -> Any:
    """The item that was made; an empty text where the document was ended at once."""
    new = [item.data for item in document.items[len(question.items) :] if item.modality == role]
    return new[-1] if new else ""


# -- losses


def _losses_of_task(model: Model, asked: Asked, found: Evaluated) -> tuple[float, int]:
    """The wanted items' loss given their prompts, and by how much it rises when each is given another
    document's prompt instead. Of ids: nats and their number, else zeros."""
    role, name, places = asked.task.want, str(asked.task), range(len(asked))
    own = losses(model, [asked.answered(i) for i in places])[role]
    ids = role in model.token_modalities
    unit = "nats" if ids else "loss a span"
    found.add(
        Figure(f"loss[{name}]", f"Loss, {name}", unit, "lower", detail=True,
               meaning=f"the mean loss of {role} given {_spoken(asked.task)}, of held-out documents"),
        own.mean,
    )  # fmt: skip
    others = another_prompt(asked)
    if others is not None:
        swapped = losses(model, [asked.answered(i, others[i]) for i in places])[role]
        found.add(
            Figure(f"given_effect[{name}]", f"What the given is worth, {name}", unit, "higher", detail=True,
                   meaning="by how much that loss rises when each document is given another one's prompt instead"),
            swapped.mean - own.mean,
        )  # fmt: skip
    return (own.total, int(own.count)) if ids else (0.0, 0)


def _nats(model: Model, asked: Asked) -> tuple[float, int]:
    """Of the wanted items, made of ids, given their prompts: nats and the number of ids."""
    own = losses(model, [asked.answered(i) for i in range(len(asked))])[asked.task.want]
    return own.total, int(own.count)


def _spoken(task: Task) -> str:
    return " and ".join(task.given) or "nothing"


def another_prompt(asked: Asked) -> list[int] | None:
    """For each prompt another one whose content differs, from half the split away on; None where there is none."""
    if not asked.task.given:
        return None
    contents = [_content(asked, i) for i in range(len(asked))]
    if len(set(contents)) < 2:
        return None
    n, others = len(contents), []
    for i, content in enumerate(contents):
        later = ((i + n // 2 + step) % n for step in range(n))
        others.append(next(j for j in later if contents[j] != content))
    return others


def _content(asked: Asked, i: int) -> tuple[Any, ...]:
    prompt, place = asked.items(i)[0], asked.place(i)
    try:
        return tuple(hash(item_bytes(item.data, place)) for item in prompt)
    except TransfuseError:  # raw data of another kind: no two are the same
        return (i,)


def _held_out_losses(model: Model, data: DataSet, settings: EvalSettings, found: Evaluated) -> None:
    """Each modality's loss on held-out documents as they stand, and of spans by the share of noise."""
    split = settings.split
    documents = [data.document(split, i) for i in range(min(settings.prompts, data.size(split)))]
    kept = []
    for document in documents:
        try:
            model.layout.sequence(document)
            kept.append(document)
        except TransfuseError as error:
            found.faults.setdefault("heldout_loss", f"left out: {error}")
    for figure, value in loss_figures(model, kept) if kept else ():
        found.add(figure, value)
