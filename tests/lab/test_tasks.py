"""Which tasks documents suggest, and which items an instance of one gives and wants."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse.config.recipe import EvalSettings
from transfuse.datasets import DataSet, in_either_order
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.metrics import Task
from transfuse_lab.evaluation.spread import evenly, spread
from transfuse_lab.evaluation.tasks import ask, checked_evaluable, examples, instances, tasks_of

ROLES = ("text", "image", "series")


class Listed(DataSet):
    """Documents of these roles, whose data are their places; read backwards in a share of visits."""

    name = "listed"

    def __init__(self, *documents: str, reversed_share: float = 0.0, heldout: int = 1) -> None:
        self.documents, self.reversed_share, self.heldout = documents, reversed_share, heldout

    def size(self, split: str) -> int:
        return len(self.documents) if split == "train" else self.heldout

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        roles = self.documents[index].split()
        items = tuple(Item(role, f"{role} {place}") for place, role in enumerate(roles))
        return in_either_order(Document(items, index), self.reversed_share, rng)

    def identity(self) -> dict:
        return {"name": self.name}


def suggested(*documents: str, roles: tuple[str, ...] = ROLES, **how: float) -> list[str]:
    return [str(task) for task in tasks_of(Listed(*documents, **how), roles)]  # type: ignore[arg-type]


def test_tasks_are_the_pairs_that_stand_beside_each_other_as_training_reads_them() -> None:
    assert suggested("text image") == ["text->image"]
    assert suggested("text image", reversed_share=0.5) == ["text->image", "image->text"]
    assert suggested("text image series") == ["text->image", "image->series"]
    assert suggested("text image text") == ["text->image", "image->text"]
    assert suggested("text image image") == ["text->image", "image->image"]


def test_items_of_other_roles_are_not_there() -> None:
    assert suggested("text image series", roles=("text", "series")) == ["text->series"]
    assert suggested("text image", roles=("image",)) == ["image"]


def test_a_role_that_only_stands_alone_is_a_task_without_a_given() -> None:
    assert suggested("text") == ["text"]
    assert suggested("text", "text image", "series") == ["text->image", "text", "series"]


def test_named_tasks_come_before_what_documents_suggest() -> None:
    data = Listed("text image")
    data.tasks = ("text->image", "text->series")
    assert [str(task) for task in tasks_of(data, ("text", "image"))] == ["text->image"]
    assert [str(task) for task in tasks_of(data, ROLES, ["image", "image"])] == ["image"]
    data.tasks = ()
    with pytest.raises(TransfuseError, match=r"holds no task for a model of series: .* --set 'eval.tasks="):
        tasks_of(data, ("series",))


def found(document: str, task: str) -> list[tuple[tuple[int, ...], int]]:
    one = Listed(document).document("train", 0)
    return [(each.given, each.want) for each in instances(one, Task.parse(task))]


def test_the_nearest_earlier_item_is_given_else_the_nearest_later_one() -> None:
    assert found("text image text image", "text->image") == [((0,), 1), ((2,), 3)]
    assert found("text image text image", "image->text") == [((1,), 0), ((1,), 2)]
    assert found("image image image", "image->image") == [((0,), 1), ((1,), 2)]
    assert found("image text image", "text+image->image") == [((0, 1), 2)]
    assert found("text image", "series->image") == []
    assert found("text image", "image") == [((), 1)]


@given(
    st.lists(st.sampled_from(ROLES), min_size=1, max_size=7),
    st.sampled_from(ROLES),
    st.lists(st.sampled_from(ROLES), max_size=2),
)
def test_an_instance_gives_the_roles_of_its_task_in_reading_order_and_never_what_it_wants(
    roles: list[str], want: str, roles_given: list[str]
) -> None:
    for one, place in found(" ".join(roles), str(Task(want, tuple(roles_given)))):
        assert roles[place] == want
        assert sorted(roles[i] for i in one) == sorted(roles_given)
        assert list(one) == sorted(set(one) - {place})


def test_prompts_are_read_when_they_are_asked_for() -> None:
    data = Listed("text image", "series", "text image", heldout=3)
    asked = ask(data, "heldout", Task("image", ("text",)), 5)
    assert len(asked) == 2
    assert [prompt[0].data for prompt in asked.prompts] == ["text 0", "text 0"]
    assert not asked.prompts[1][0].noised
    assert asked.truth[-1] == "image 1"
    answered = asked.answered(0)
    assert [(item.modality, item.loss) for item in answered.items] == [("text", False), ("image", True)]
    assert [item.modality for item in asked.question(1).items] == ["text"]
    assert [data for _, data in examples(data, asked.task)("train")] == ["image 1", "image 1"]


def test_another_documents_prompt_keeps_what_is_wanted(shapes: Callable) -> None:
    asked = ask(shapes(), "test", Task("image", ("text",)))
    own, other = asked.answered(0), asked.answered(0, given=1)
    assert own.items[0].data != other.items[0].data
    assert own.items[1] is not None
    np.testing.assert_array_equal(own.items[1].data, other.items[1].data)
    assert (own.id, other.id) == (0, 0)


def test_an_empty_split_is_said_before_anything_is_trained(shapes: Callable) -> None:
    with pytest.raises(TransfuseError, match="split 'test' holds nothing of"):
        checked_evaluable(shapes(test=0), ("text", "image"), EvalSettings())


def test_spreads_are_even_and_hold_both_ends() -> None:
    names = [(Item("text", f"name {n}"),) for n in range(1000)]
    classes = [(Item("text", name),) for name in ("up", "down", "up", "up")]
    assert evenly(1000, 5) == [0, 250, 500, 749, 999]
    assert evenly(3, 5) == [0, 1, 2]
    assert spread(names, 3) == [0, 500, 999]
    assert spread(classes, 2) == [0, 1]
    assert spread([()] * 3, 2) == [0, 2]


@pytest.mark.parametrize("text", ["", "->image", "text->", "a->b->c", "text image", "text+->image"])
def test_what_is_no_task(text: str) -> None:
    with pytest.raises(TransfuseError, match="write roles such as text->image"):
        Task.parse(text)


@given(st.lists(st.sampled_from(ROLES), max_size=3), st.sampled_from(ROLES))
def test_a_task_survives_its_round_trip(roles_given: list[str], want: str) -> None:
    task = Task(want, tuple(roles_given))
    assert Task.parse(str(task)) == task == replace(task)
