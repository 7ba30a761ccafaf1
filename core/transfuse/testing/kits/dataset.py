"""The kit for data sets: documents by number that stay what they are, and splits that do not meet."""

import json
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from transfuse.datasets import ENDLESS, DataSet
from transfuse.documents import Document
from transfuse.testing.kits.raw_data import off
from transfuse.testing.kits.runner import Kit, LeftOut, expect, global_randomness_untouched

DATASET: Kit["DataSetCase"] = Kit("data set")
READ = 24
"""So many documents of a split are read."""
NUMBERED = 2000
"""So many are asked for their number."""


@dataclass(frozen=True)
class DataSetCase:
    part: DataSet

    def documents(
        self, split: str, rng: np.random.Generator | None = None, most: int = READ
    ) -> list[Document]:
        return [self.part.document(split, i, rng) for i in range(min(self.part.size(split), most))]

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


@DATASET.check("change document so that it returns a Document with at least one item, each with data")
def documents_hold_items(at: DataSetCase) -> None:
    """Every document has items, and every item data."""
    for document in at.read():
        expect(isinstance(document, Document), f"document gave {type(document).__name__}, not a Document")
        expect(document.items, f"{document.source} has no item")
        for i, item in enumerate(document.items):
            expect(item.data is not None and np.size(item.data), f"{document.source}: item {i} has no data")


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


def _arrays(at: DataSetCase) -> list[np.ndarray]:
    """Those of the first training document, as it is read anew."""
    (document,) = at.documents("train", most=1)
    return [item.data for item in document.items if isinstance(item.data, np.ndarray)]


def _content(document: Document) -> str:
    """What two documents of the same items have in common."""
    raws = [item.data for item in document.items]
    plain = [raw if isinstance(raw, str) else np.asarray(raw).tobytes() for raw in raws]
    return repr([*zip((item.modality for item in document.items), plain, strict=True)])
