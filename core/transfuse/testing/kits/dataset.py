"""The kit for data sets: documents by number that stay what they are, and splits that do not meet."""

import json
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from transfuse.datasets import ENDLESS, DataSet
from transfuse.documents import Document, Encoded, Item
from transfuse.modalities.raw import as_numbers
from transfuse.testing.kits.raw_case import off
from transfuse.testing.kits.runner import Kit, LeftOut, expect, global_randomness_untouched

DATASET: Kit["DataSetCase"] = Kit("data set")
READ = 24
"""So many documents of a split are read."""
NUMBERED = 2000
"""So many are asked for their number."""


@dataclass(frozen=True)
class DataSetCase:
    """A data set. anew: another of the same settings, opened again, where there is one."""

    part: DataSet
    anew: DataSet | None = None

    def documents(
        self, split: str, rng: np.random.Generator | None = None, most: int = READ
    ) -> list[Document]:
        """The first of a split. Raises LeftOut where raw data of theirs are none: one check says so."""
        found = [self.part.document(split, i, rng) for i in range(min(self.part.size(split), most))]
        if strange := next(filter(None, map(_strange, found)), None):
            raise LeftOut(strange)
        return found

    def read(self) -> list[Document]:
        """The first documents of each split."""
        return [document for split in self.part.splits for document in self.documents(split)]


def alike(a: Document, b: Document) -> bool:
    """The same items, flags and number."""
    plain = lambda d: [(i.modality, i.loss, i.noised, i.droppable) for i in d.items]  # noqa: E731
    same = a.id == b.id and plain(a) == plain(b)
    return same and all(off(x.data, y.data) == 0 for x, y in zip(a.items, b.items, strict=True))


@DATASET.check(
    "change name so that it is a text, and size so that it is a whole number for each of its splits"
)
def it_has_a_name_and_sizes(at: DataSetCase) -> None:
    """It has a name, training documents, and a size of each split."""
    name = getattr(at.part, "name", None)
    expect(isinstance(name, str) and name, f"name is {name!r}")
    sizes = {split: at.part.size(split) for split in at.part.splits}
    expect(all(isinstance(n, int) and n >= 0 for n in sizes.values()), f"the sizes are {sizes}")
    expect(sizes["train"] > 0, "there is no training document")


@DATASET.check(
    "change document so that each item's data are a string or a numeric array: several parts are columns of one, or"
    " items of two roles"
)
def raw_data_are_text_or_arrays(at: DataSetCase) -> None:
    """Every item's data are a string or an array of numbers, which can be hashed, packed and written to files."""
    for split in at.part.splits:
        for index in range(min(at.part.size(split), READ)):
            strange = _strange(at.part.document(split, index))
            expect(not strange, strange)


@DATASET.check("change document so that it returns a Document with at least one item, each with data")
def documents_hold_items(at: DataSetCase) -> None:
    """Every document has items, and every item data."""
    for document in at.read():
        expect(isinstance(document, Document), f"document gave {type(document).__name__}, not a Document")
        expect(document.items, f"{document.source} has no item")
        for i, item in enumerate(document.items):
            expect(item.data is not None and np.size(item.data), f"{document.source}: item {i} has no data")
            numbers = as_numbers(item.data)
            finite = numbers is None or np.isfinite(numbers).all()
            expect(finite, f"{document.source}: item {i} holds NaN or infinity")


@DATASET.check("change document so that it rests on split, index and rng alone")
def a_document_is_the_same_each_time(at: DataSetCase) -> None:
    """Asked twice, a document is the same; nothing is drawn from a global random state."""
    with global_randomness_untouched():
        pairs = zip(at.read(), at.read(), strict=True)
    for one, two in pairs:
        expect(alike(one, two), f"{one.source} is another when it is read again")


@DATASET.check("change document so that it makes new arrays, or hands out ones that nobody else has")
def documents_are_not_shared(at: DataSetCase) -> None:
    """Writing into a document's arrays changes no later reading of it."""
    arrays = [array for array in _arrays(at) if array.flags.writeable]
    if not arrays:
        raise LeftOut("its first document holds no array that can be written")
    kept = [array.copy() for array in _arrays(at)]
    for array in arrays:
        array += 1
    again = [array.copy() for array in _arrays(at)]
    for array in arrays:
        array -= 1
    same = all(np.array_equal(a, b) for a, b in zip(kept, again, strict=True))
    expect(same, "the first document is another once its arrays were written into")


@DATASET.check("change document so that what it has handed out stays as it is")
def reading_on_leaves_documents_as_they_are(at: DataSetCase) -> None:
    """A document that was read does not change when the next ones are."""
    for split in at.part.splits:
        first = at.documents(split, most=1)
        kept = deepcopy(first)
        at.documents(split)
        same = all(alike(a, b) for a, b in zip(first, kept, strict=True))
        expect(same, f"the first document of {split} is another when the next have been read")


@DATASET.check("change the data set so that it opens with its documents in one order: sort what is listed")
def opened_anew_it_is_the_same(at: DataSetCase) -> None:
    """Another of the same settings has the same documents by number."""
    if at.anew is None:
        raise LeftOut("there is no other of the same settings")
    for split in at.part.splits:
        for i, document in enumerate(at.documents(split)):
            same = alike(document, at.anew.document(split, i))
            expect(same, f"{document.source} is another where the data set is opened anew")


@DATASET.check("change droppable so that it marks prompts alone: nothing follows the last item")
def the_last_item_is_no_prompt(at: DataSetCase) -> None:
    """In no form of a document is its last item droppable."""
    for rng in (None, *map(np.random.default_rng, range(4))):
        for document in (document for split in at.part.splits for document in at.documents(split, rng)):
            last = document.items[-1:]
            expect(
                not any(item.droppable for item in last), f"the last item of {document.source} is droppable"
            )


@DATASET.check("change outline so that shapes, types, texts and flags are those of document")
def outlines_are_those_of_documents(at: DataSetCase) -> None:
    """outline has the same items, of whose arrays only the values may be others."""
    for split in at.part.splits:
        for i, document in enumerate(at.documents(split)):
            found = at.part.outline(split, i, {item.modality for item in document.items})
            here, there = ([_outline(item) for item in d.items] for d in (document, found))
            expect(here == there, f"{document.source} is {here[:2]}, and its outline {there[:2]}")


@DATASET.check("change period so that it is the number of documents after which the roles come again")
def roles_come_again_after_a_period(at: DataSetCase) -> None:
    """Of an endless split the roles of documents repeat after ``period``."""
    for split in (split for split in at.part.splits if at.part.size(split) == ENDLESS):
        period = at.part.period(split)
        for i in range(READ):
            here, there = (at.part.document_roles(split, j) for j in (i, i + period))
            expect(
                list(here) == list(there), f"{split} {i} has {here}, and a period of {period} later {there}"
            )


@DATASET.check(
    "change document so that rng alone reverses it, reversed_share says how often, and None does not"
)
def as_many_visits_are_reversed_as_is_said(at: DataSetCase) -> None:
    """Visits find a document in reverse order as often as reversed_share says, and in its plain form else."""
    plain, visits = at.documents("train", most=12), 32
    counts = np.zeros(len(plain))
    for seed in range(visits):
        found = at.documents("train", np.random.default_rng(seed), most=12)
        counts += [_in_another_order(a, b) for a, b in zip(plain, found, strict=True)]
    most, mean = counts.max() / visits, counts.mean() / visits
    seen = f"reversed_share is {at.part.reversed_share}, {mean:.0%} of visits find another order than without rng"
    share = at.part.reversed_share
    expect(mean <= share + 0.1 and most <= share + 0.35, f"{seen}, of one document {most:.0%}")


@DATASET.check("change document so that each has an id of its own over all splits: noise is drawn by it")
def ids_are_their_own(at: DataSetCase) -> None:
    """No two documents have one id, in whichever split."""
    seen: dict[int, str] = {}
    for split in at.part.splits:
        for document in at.documents(split, most=NUMBERED):
            expect(
                document.id not in seen,
                f"{document.source} and {seen.get(document.id)} have the id {document.id}",
            )
            seen[document.id] = document.source


@DATASET.check("change document so that source names data set, split and number: messages begin with it")
def sources_name_documents(at: DataSetCase) -> None:
    """Every document says where it is from, each otherwise."""
    sources = Counter(document.source for document in at.read())
    (source, count), *_ = sources.most_common(1)
    expect(count == 1, f"{count} documents have the source {source!r}")


@DATASET.check(
    "change document so that it raises for an index outside the split: transfuse.plugin.checked_index does"
)
def an_index_outside_is_refused(at: DataSetCase) -> None:
    """There is no document behind the last, and none before the first."""
    for split in at.part.splits:
        for index in (at.part.size(split), -1)[at.part.size(split) == ENDLESS :]:
            try:
                found = at.part.document(split, index)
            except Exception:
                continue
            expect(False, f"document({split!r}, {index}) of {at.part.size(split)} gave {found.source!r}")


@DATASET.check("change document so that what rng varies is drawn from it, and from nothing else")
def visits_are_fixed_by_their_generator(at: DataSetCase) -> None:
    """Visits of one seed are the same."""
    visits = [at.documents("train", np.random.default_rng(7)) for _ in "ab"]
    for one, two in zip(*visits, strict=True):
        expect(alike(one, two), f"{one.source} is another under a generator of the same seed")


@DATASET.check("change document so that what rng varies keeps the document's id")
def visits_keep_the_id(at: DataSetCase) -> None:
    """A visit's form of a document has its number."""
    for seed in range(3):
        for plain, visit in zip(
            at.documents("train"), at.documents("train", np.random.default_rng(seed)), strict=True
        ):
            expect(
                plain.id == visit.id,
                f"{plain.source} has the id {plain.id}, and {visit.id} under a generator",
            )


@DATASET.check("change document_roles so that it names the roles of document's items, in order")
def roles_are_those_of_the_items(at: DataSetCase) -> None:
    """document_roles is what the items say."""
    for split in at.part.splits:
        for i, document in enumerate(at.documents(split)):
            said, found = at.part.document_roles(split, i), [item.modality for item in document.items]
            expect(
                list(said) == found, f"{document.source} has {found}, and document_roles says {list(said)}"
            )


@DATASET.check("change raw so that it gives the data of a role, document after document")
def raw_data_are_those_of_the_items(at: DataSetCase) -> None:
    """raw goes through the items of a role in order."""
    documents = at.documents("train")
    for role in sorted({item.modality for document in documents for item in document.items}):
        wanted = [item.data for document in documents for item in document.items if item.modality == role]
        found = list(islice(at.part.raw("train", role), len(wanted)))
        same = len(found) == len(wanted) and all(off(a, b) == 0 for a, b in zip(found, wanted, strict=True))
        expect(same, f"raw('train', {role!r}) is not what the documents hold")


@DATASET.check("change identity so that it is JSON with a name, and tells data sets of other content apart")
def its_identity_is_json(at: DataSetCase) -> None:
    """identity comes back from JSON, is the same each time, and has the name."""
    at.read()  # whose data can be hashed
    found: Any = at.part.identity()
    back = json.loads(json.dumps(found))
    expect(back == json.loads(json.dumps(at.part.identity())), "identity is another each time")
    expect("name" in back, f"identity has no name: {str(back)[:60]}")


@DATASET.check(
    "change reversed_share so that it is a share, and tasks so that they are of roles that documents have"
)
def shares_and_tasks_are_lawful(at: DataSetCase) -> None:
    """reversed_share lies within 0 and 1, and every task names roles that there are."""
    from transfuse.metrics import Task

    share = at.part.reversed_share
    expect(0 <= share <= 1, f"reversed_share is {share!r}")
    roles = {item.modality for document in at.read() for item in document.items}
    for text in at.part.tasks:
        task = Task.parse(text)
        strange = sorted({task.want, *task.given} - roles)
        expect(not strange, f"the task {text!r} is of {strange}, and documents have {sorted(roles)}")


@DATASET.check("change document so that nothing of the other splits is in train")
def heldout_documents_are_no_training_documents(at: DataSetCase) -> None:
    """No held-out document that was read has the content of a training document that was read."""
    held_out = [split for split in at.part.splits if split != "train"]
    if not sum(map(at.part.size, held_out)):
        raise LeftOut("it holds nothing out")
    of = {split: {_content(d): d.source for d in at.documents(split, most=200)} for split in at.part.splits}
    for split in held_out:
        both = of["train"].keys() & of[split].keys()
        few = len(both) <= 0.02 * len(of[split])  # what is small and discrete may repeat by chance
        first = next((of[split][content] for content in both), "")
        expect(few, f"{len(both)} documents of {split} are training documents too, such as {first}")


def _strange(document: Any) -> str:
    """What of a document's data is neither a text nor an array of numbers; empty where all are."""
    for item in getattr(document, "items", ()):
        array = isinstance(item.data, np.ndarray) and item.data.dtype.kind in "biuf"
        if not array and not isinstance(item.data, (str, Encoded, type(None))):
            of = (
                f"array of {item.data.dtype}"
                if isinstance(item.data, np.ndarray)
                else type(item.data).__name__
            )
            return f"{document.source}: data of role {item.modality!r} are of type {of}"
    return ""


def _arrays(at: DataSetCase) -> list[np.ndarray]:
    """Those of the first training document, as it is read anew."""
    (document,) = at.documents("train", most=1)
    return [item.data for item in document.items if isinstance(item.data, np.ndarray)]


def _outline(item: Item) -> tuple:
    """What of an item an outline has to say."""
    data = item.data
    kind = (data.shape, data.dtype.name) if isinstance(data, np.ndarray) else data
    return item.modality, item.loss, item.noised, item.droppable, kind


def _in_another_order(a: Document, b: Document) -> bool:
    """Whether roles stand in another order, or the same data do; data that a visit varied say nothing."""
    (one, these), (two, those) = (
        ([i.modality for i in d.items], [np.asarray(i.data).tobytes() for i in d.items]) for d in (a, b)
    )
    return one != two or (these != those and sorted(these) == sorted(those))


def _content(document: Document) -> str:
    """What two documents of the same items have in common."""
    raws = [item.data for item in document.items]
    plain = [raw if isinstance(raw, str) else np.asarray(raw).tobytes() for raw in raws]
    return repr([*zip((item.modality for item in document.items), plain, strict=True)])
