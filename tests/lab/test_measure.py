"""A metric gets the tasks it applies to; one that fails costs its own figures and nothing else."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transfuse.config.parts import Part, Settings
from transfuse.documents import Item
from transfuse.metrics import AppliesTo, Evaluation, Figure, Metric, Task
from transfuse.registry.hooks import hookimpl
from transfuse.registry.plugins import Plugins
from transfuse_lab.evaluation.evaluate import Evaluated
from transfuse_lab.evaluation.measure import measure

RAW: dict[str, Any] = {
    "text": "seven",
    "image": np.zeros((1, 4, 4)),
    "depth": np.ones((1, 4, 4)),
    "series": np.ones(5),
}
MODALITIES: Any = {
    role: SimpleNamespace(suffixes=(".png",) if np.ndim(raw) == 3 else (".npy", ".txt"))
    for role, raw in RAW.items()
}
ANY = AppliesTo()
TASKS = tuple(map(Task.parse, ("text->image", "image->text", "text->depth", "text->series")))


def evaluated(*tasks: Task, of_data: Sequence[Task] = TASKS) -> Evaluated:
    def three(task: Task) -> Evaluation:
        prompt = tuple(Item(role, RAW[role]) for role in task.given)
        return Evaluation(task, [prompt] * 3, [RAW[task.want]] * 3, [RAW[task.want]] * 3)

    return Evaluated(RAW, of_data, [three(task) for task in tasks])


def chosen(*metrics: type[Metric]) -> Mapping[str, Any]:
    class Plugin:
        @staticmethod
        @hookimpl
        def transfuse_metrics() -> list[Part]:
            return [
                Part(metric.name, Settings, lambda settings, metric=metric: metric()) for metric in metrics
            ]

    plugins = Plugins.of({"mine": Plugin})
    return {metric.name: plugins.choose("metric", metric.name) for metric in metrics}


def metric(name: str, applies_to: AppliesTo = ANY, value: Any = 1.0, key: str = "") -> type[Metric]:
    class Made(Metric):
        figures = (Figure(name, name.title()),)

        def compute(self, evaluation: Evaluation) -> Any:
            if isinstance(value, Exception):
                raise value
            return value if isinstance(value, list) else {key or name: value}

        def notes(self, evaluation: Evaluation) -> list[str]:
            return [name] * len(evaluation)

        def facts(self) -> dict[str, Any]:
            return {"weights": "abc"}

    Made.name, Made.applies_to = name, applies_to
    return Made


@pytest.mark.parametrize(
    ("applies_to", "tasks"),
    [
        (AppliesTo(), ["text->image", "image->text", "text->depth", "text->series"]),
        (AppliesTo(want="series"), ["text->series"]),
        (AppliesTo(given=("image",)), ["image->text"]),
        (AppliesTo(given_data="text", want_data="array", axes=3), ["text->image", "text->depth"]),
        (AppliesTo(want_data="text"), ["image->text"]),
        (AppliesTo(want_file=".png"), ["text->image", "text->depth"]),
        (AppliesTo(want_data="array", axes=1), ["text->series"]),
        (AppliesTo(given=()), []),
    ],
)
def test_a_metric_gets_the_tasks_it_applies_to(applies_to: AppliesTo, tasks: list[str]) -> None:
    one = evaluated(*TASKS)
    _, notes = measure(MODALITIES, one, chosen(metric("good", applies_to)))
    names = ["good", *(f"good[{task}]" for task in tasks[1:])]
    assert list(one.figures) == names[: len(tasks)]
    assert one.faults == {}
    assert {str(task) for task in notes} == set(tasks)


def test_shapes_that_differ_are_no_business_of_a_metric_of_one_shape() -> None:
    one = evaluated(TASKS[3])
    one.evaluations[0].truth[1:] = [np.ones(7)] * 2  # type: ignore[index]
    measure(MODALITIES, one, chosen(metric("good", AppliesTo(one_shape=True))))
    assert one.figures == {}


def test_a_figure_means_the_same_whatever_roles_a_recipe_has() -> None:
    """Its plain name is of the first of the data's tasks, whether or not this model was asked that."""
    one = evaluated(TASKS[2])
    measure(
        MODALITIES,
        one,
        chosen(metric("good"), metric("once", AppliesTo(once_a_role=True, want_data="array"))),
    )
    assert set(one.figures) == {"good[text->depth]", "once[depth]"}
    alone = evaluated(Task("image"))
    measure(MODALITIES, alone, chosen(metric("once", AppliesTo(once_a_role=True, want_data="array"))))
    assert set(alone.figures) == {"once"}


@pytest.mark.parametrize(
    ("liar", "reason"),
    [
        (metric("bad", value=RuntimeError("boom")), "RuntimeError: boom"),
        (metric("bad", value=float("nan")), "bad is nan"),
        (metric("bad", value=float("inf")), "bad is inf"),
        (metric("bad", value=None), "bad is NoneType, not a number"),
        (metric("bad", value=[3]), "compute returned list, not a mapping"),
        (metric("bad", key="good"), "it reports 'good', which is not among its figures: bad"),
        (metric("bad", key="loss"), "it reports 'loss', which is not among its figures: bad"),
    ],
)
def test_a_metric_that_fails_costs_its_own_figure(liar: type[Metric], reason: str) -> None:
    one = evaluated(TASKS[0])
    facts, _ = measure(MODALITIES, one, chosen(liar, metric("good")))
    assert one.figures == {"good": 1.0}
    assert list(one.faults) == ["bad"]
    assert one.faults["bad"].startswith(reason)
    assert facts["good"] == {"name": "good", "split": "test", "weights": "abc"}


def test_a_figure_that_is_taken_stays_who_it_was() -> None:
    first, second = metric("a_first"), metric("b_second", key="a_first")
    second.figures = first.figures
    one = evaluated(TASKS[0])
    measure(MODALITIES, one, chosen(first, second))
    assert one.figures == {"a_first": 1.0}
    assert "is a figure of another metric" in one.faults["b_second"]
