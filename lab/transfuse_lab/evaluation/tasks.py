"""Which tasks a data set holds for a model, and their instances: which items of which documents."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, pairwise
from typing import Any, TypeVar, overload

from transfuse.config.recipe import EvalSettings
from transfuse.datasets import DataSet, restrict
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.metrics import Task
from transfuse.randomness import Key

DOCUMENTS, VISITS = 256, 4  # training documents that are looked at, and how often, for the tasks they suggest
T = TypeVar("T")


def tasks_of(
    data: DataSet, roles: Collection[str], named: Sequence[str] | None = None, split: str = "test"
) -> tuple[Task, ...]:
    """The tasks that a model of these roles is asked of a split.

    They are those ``named`` (a recipe's); else those that the data set names for the split, where all their roles are
    among these; else each ordered pair of roles that stand beside each other as training reads the documents, in the
    order in which they are met, and each role that only stands alone.
    Raises TransfuseError where there is none.
    """
    if named is None and data.tasks_in(split):
        parsed = [Task.parse(text) for text in data.tasks_in(split)]
        found = [task for task in parsed if {*task.given, task.want} <= set(roles)] or _suggested(data, roles)
    elif named is not None:
        found = [Task.parse(text) for text in named]
    else:
        found = _suggested(data, roles)
    if not found:
        raise TransfuseError(
            f"data set {data.name!r} holds no task for a model of {', '.join(roles)}: its documents have none of "
            f"these roles in training; name what is to be asked, such as `eval --task 'text->image'` or --set "
            f"'eval.tasks=[text->image]'"
        )
    return tuple(dict.fromkeys(found))


def _suggested(data: DataSet, roles: Collection[str]) -> list[Task]:
    pairs: dict[Task, None] = {}
    alone: dict[str, None] = {}
    for document in _read(data):
        own = [item.modality for item in document.items if item.modality in roles]
        alone |= dict.fromkeys(own if len(own) == 1 else ())
        pairs |= {Task(want, (given,)): None for given, want in pairwise(own)}
    wanted = {task.want for task in pairs}
    return [*pairs, *(Task(role) for role in alone if role not in wanted)]


def roles_of(data: DataSet) -> dict[str, Any]:
    """The roles of the data's documents, in the order they are met, with the first raw data of each."""
    found: dict[str, Any] = {}
    for document in _read(data):
        for item in document.items:
            found.setdefault(item.modality, item.data)
    return found


def _read(data: DataSet) -> Iterator[Document]:
    """Some training documents as they stand, then as training visits them."""
    most = min(DOCUMENTS, data.size("train"))
    yield from (data.document("train", index) for index in range(most))
    for visit in range(VISITS):
        for index in range(most):
            yield data.document("train", index, Key(0).rng("tasks", visit, index))


@dataclass(frozen=True)
class Instance:
    """A document of a split, and which of its items are given and wanted."""

    document: int
    given: tuple[int, ...]
    want: int


def instances(document: Document, task: Task, number: int = 0) -> Iterator[Instance]:
    """Each item of the wanted role, with the nearest earlier item of each given role; where the document has
    none before it, the nearest after it. An item is not given a later one of its own role."""
    roles = [item.modality for item in document.items]
    for want in (i for i, role in enumerate(roles) if role == task.want):
        chosen: list[int] = []
        for role in task.given:
            fit = [i for i, own in enumerate(roles) if own == role and i != want and i not in chosen]
            fit = [i for i in fit if i < want or role != task.want]
            if fit:
                chosen.append(min(fit, key=lambda i: (i > want, abs(i - want))))
        if len(chosen) == len(task.given):
            yield Instance(number, tuple(sorted(chosen)), want)


class Lazy(Sequence[T]):
    """``length`` values that are made each time they are asked for, so that they need not be held."""

    def __init__(self, length: int, get: Callable[[int], T]) -> None:
        self.length, self.get = length, get

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self.get(i) for i in range(*index.indices(self.length))]
        if not -self.length <= index < self.length:
            raise IndexError(index)
        return self.get(index % self.length)


@dataclass(frozen=True)
class Asked:
    """Instances of a task in a split, whose documents are read when they are needed."""

    data: DataSet
    split: str
    task: Task
    instances: tuple[Instance, ...]

    def __len__(self) -> int:
        return len(self.instances)

    def items(self, i: int) -> tuple[tuple[Item, ...], Item]:
        """The items given, clean, and the item wanted."""
        return _items(self.data, self.split, self.instances[i])

    @property
    def prompts(self) -> Sequence[tuple[Item, ...]]:
        return Lazy(len(self), lambda i: self.items(i)[0])

    @property
    def truth(self) -> Sequence[Any]:
        return Lazy(len(self), lambda i: self.items(i)[1].data)

    def question(self, i: int) -> Document:
        """What is given, to be gone on from."""
        return Document(self.items(i)[0], id=i, source=self.place(i))

    def answered(self, i: int, given: int | None = None) -> Document:
        """What is given, and the truth, the only item with a loss. given: as another instance is given."""
        context = self.items(i if given is None else given)[0]
        items = (*(replace(item, loss=False) for item in context), replace(self.items(i)[1], loss=True))
        return Document(items, id=i, source=self.place(i))

    def place(self, i: int) -> str:
        return f"{self.data.name} {self.split} {self.instances[i].document}: {self.task}"


def ask(data: DataSet, split: str, task: Task, most: int | None = None) -> Asked:
    """The first instances of a task in a split."""
    found = (one for i in range(data.excerpt(split)) for one in instances(data.document(split, i), task, i))
    return Asked(data, split, task, tuple(islice(found, most)))


def examples(data: DataSet, task: Task) -> Callable[[str], Iterator[tuple[tuple[Item, ...], Any]]]:
    """`Evaluation.examples`: every instance of a task in a split, one document after another."""

    def of(split: str) -> Iterator[tuple[tuple[Item, ...], Any]]:
        for index in range(data.excerpt(split)):
            document = data.document(split, index)
            for one in instances(document, task):
                items = document.items
                yield tuple(items[i] for i in one.given), items[one.want].data

    return partial(of)


def _items(data: DataSet, split: str, one: Instance) -> tuple[tuple[Item, ...], Item]:
    items = data.document(split, one.document).items
    return tuple(replace(items[i], noised=False) for i in one.given), items[one.want]


def checked_evaluable(data: DataSet, roles: Collection[str], settings: EvalSettings) -> tuple[Task, ...]:
    """The tasks, where documents of the split hold them. Raises TransfuseError before anything is trained."""
    data, split = restrict(data, roles), settings.split
    if split not in data.splits:
        raise TransfuseError(
            f"eval.split: data set {data.name!r} has no split {split!r}; {did_you_mean(split, data.splits)}"
        )
    if not data.size(split):
        raise TransfuseError(
            f"data set {data.name!r}: split {split!r} holds nothing of {', '.join(roles)}, and evaluation needs some: "
            f'mark a few documents that do "split": "{split}", or give other data'
        )
    return tasks_of(data, roles, settings.tasks, split)
