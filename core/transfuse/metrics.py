"""Tasks, what a model made of one, and metrics: named figures of it.

A task is: given items of these roles, an item of that one is wanted. ``text->image`` draws captions,
``image->text`` captions images, ``text+depth->image`` is given two, and ``image`` alone is given nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from transfuse.documents import Item
from transfuse.errors import TransfuseError

ARROW = "->"


@dataclass(frozen=True)
class Task:
    """Given items of these roles, in the order of the document, an item of ``want`` is asked for.

    >>> str(Task("image", ("text",))), Task.parse("text + depth -> image").given, Task.parse("image").given
    ('text->image', ('text', 'depth'), ())
    """

    want: str
    given: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'+'.join(self.given)}{ARROW}{self.want}" if self.given else self.want

    @staticmethod
    def parse(text: str) -> "Task":
        """The task that ``str`` writes. Raises TransfuseError where it is none."""
        given, arrow, want = text.rpartition(ARROW)
        roles = [role.strip() for role in given.split("+")] if arrow else []
        words = [*roles, want.strip()]
        if not all(words) or any(sign in word for word in words for sign in (ARROW, "+", " ")):
            raise TransfuseError(
                f"task {text!r:.80}: write roles such as text->image, text+depth->image, or image"
            )
        return Task(words[-1], tuple(roles))


@dataclass(frozen=True)
class Figure:
    """A number that is reported, as a reader meets it.

    better: ``higher``, ``lower``, or empty where neither is.
    form: percent (of a share from 0 to 1), number (three significant digits), count (whole).
    meaning: what it is, in a sentence without its full stop. headline: what the report's first sentences call
    it; empty: it is not among them. detail: shown among the details.
    """

    name: str
    title: str
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    form: Literal["percent", "number", "count"] = "number"
    meaning: str = ""
    headline: str = ""
    detail: bool = False


@dataclass(frozen=True)
class AppliesTo:
    """Of which tasks a metric is computed; what is not said may be anything.

    given, want: the roles, by name; ``given=()`` is a role alone.
    given_data, want_data: ``text`` (strings) or ``array``; of the given, all of them, and at least one.
    axes: how many the wanted arrays have. one_shape: they all have one shape.
    want_file: a suffix of files that the wanted modality's raw data can be kept in, such as ``.png``.
    once_a_role: only of the first task that wants a role, where the given do not matter.
    """

    given: tuple[str, ...] | None = None
    want: str | None = None
    given_data: Literal["text", "array"] | None = None
    want_data: Literal["text", "array"] | None = None
    axes: int | None = None
    one_shape: bool = False
    want_file: str | None = None
    once_a_role: bool = False


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One task put to a model: raw data by role, of any shapes, and no model.

    Sequences are aligned, a place a prompt, and may read their data when asked: go through them once.

    prompts: the items each prompt gave. truth: what the document has. made: what the model made.
    split: whose documents they are. rebuilt: each truth through its modality's codec and back.
    nats, tokens: the negative log-likelihood of all truths given their prompts, a text's end included, and how many
        ids that covers; 0 where the wanted modality is not made of ids.
    examples: every instance of the task in a split, read one by one: (items given, raw data wanted).
    trained: the same task asked of training documents, where nearly every prompt is another one.
    """

    task: Task
    prompts: Sequence[tuple[Item, ...]]
    truth: Sequence[Any]
    made: Sequence[Any]
    split: str = "test"
    rebuilt: Sequence[Any] = ()
    nats: float = 0.0
    tokens: int = 0
    examples: Callable[[str], Iterator[tuple[tuple[Item, ...], Any]]] = field(
        default=lambda split: iter(()), repr=False
    )
    trained: "Evaluation | None" = None

    def __len__(self) -> int:
        return len(self.made)

    def given(self, role: str) -> list[Any]:
        """The raw data of a role that each prompt gave; the first, where it gave several."""
        return [next(item.data for item in items if item.modality == role) for items in self.prompts]


class Metric(ABC):
    """A pure function of an evaluation, for the tasks it applies to.

    figures: all that it may report. applies_to: which tasks it is handed.
    """

    name: str
    figures: ClassVar[Sequence[Figure]]
    applies_to: ClassVar[AppliesTo] = AppliesTo()

    @abstractmethod
    def compute(self, evaluation: Evaluation) -> Mapping[str, float]:
        """Its figures by name, all or some of them: ``{"generation_accuracy": 0.97}``; none where there is nothing
        to measure. What it raises, NaN, or a name that is not among ``figures`` costs it this task, and no other."""

    def notes(self, evaluation: Evaluation) -> Sequence[str] | None:
        """A word on each of ``made``, such as what a classifier reads in it, shown beside it; none by default."""
        return None

    def facts(self) -> dict[str, Any]:
        """JSON of what it judges with, kept in the record: a hash of weights, their settings."""
        return {}
