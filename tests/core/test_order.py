"""Which document comes when is a function of seed and place: nothing of ranks, workers or restarts changes it."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transfuse.datasets import DataSet, checked_index, restrict
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.randomness import Key
from transfuse.training.order import ROUND, WINDOW, Mixture, Shuffle, order_of

SIZES, BLOCKS = st.integers(1, 300), st.integers(0, 9)


class Numbered(DataSet):
    """So many documents; every third is of a role of its own."""

    reversed_share = 0.0

    def __init__(self, size: int, block: int = 0, name: str = "numbered") -> None:
        self.length, self.block, self.name = size, block, name

    def size(self, split: str) -> int:
        return self.length

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        number = checked_index(self.name, split, index, self.length)
        return Document((Item("text" if number % 3 else "other", f"{number}"),), number)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}


class Several(Numbered):
    """Data sets end to end, as a mixture is."""

    def __init__(self, runs: list[tuple[int, float, int]]) -> None:
        super().__init__(sum(size for size, _, _ in runs))
        self.runs = runs

    def mixed(self, split: str) -> list[tuple[int, float, int]]:
        return self.runs


@given(size=SIZES, block=BLOCKS, seed=st.integers(0, 99), visits=st.integers(1, 3))
@settings(deadline=None)
def test_each_visit_has_every_document_once(size: int, block: int, seed: int, visits: int) -> None:
    shuffle = Shuffle(size, Key(seed), block)
    read = [shuffle.index(place) for place in range(size * visits)]
    assert [visit for visit, _ in read] == sorted(visit for visit, _ in read)
    for visit in range(visits):
        assert sorted(index for of, index in read if of == visit) == list(range(size))


@given(size=st.integers(2, 300), block=BLOCKS, seed=st.integers(0, 99), data=st.data())
@settings(deadline=None)
def test_a_place_means_the_same_whatever_was_asked_before(
    size: int, block: int, seed: int, data: Any
) -> None:
    wanted = [Shuffle(size, Key(seed), block).index(place) for place in range(3 * size)]
    asked = data.draw(st.lists(st.integers(0, 3 * size - 1), max_size=30))
    shuffle = Shuffle(size, Key(seed), block)
    assert [shuffle.index(place) for place in asked] == [wanted[place] for place in asked]


@given(size=st.integers(50, 400), block=st.integers(1, 9), seed=st.integers(0, 99))
@settings(deadline=None)
def test_a_window_reads_few_blocks(size: int, block: int, seed: int) -> None:
    shuffle = Shuffle(size, Key(seed), block)
    for start in range(0, size, WINDOW * block):
        window = [
            shuffle.index(place)[1] // block for place in range(start, min(start + WINDOW * block, size))
        ]
        assert len(set(window)) <= WINDOW


def test_blocks_and_what_is_in_them_are_shuffled() -> None:
    shuffle = Shuffle(40 * 10, Key(0), 10)
    visits = [[shuffle.index(visit * 400 + place)[1] for place in range(400)] for visit in range(2)]
    assert visits[0] != visits[1]
    for read in visits:
        assert [number // 10 for number in read[:160]] != sorted(number // 10 for number in read[:160])
        assert {number // 10 for number in read[:160]} != set(range(16))
    assert Shuffle(400, Key(1), 10).index(0) != Shuffle(400, Key(0), 10).index(0)


def test_a_store_of_one_window_is_read_as_what_was_packed() -> None:
    packed, plain = Shuffle(160, Key(3), 10), Shuffle(160, Key(3))
    assert [packed.index(place) for place in range(400)] == [plain.index(place) for place in range(400)]


RUNS = st.lists(st.tuples(st.integers(1, 50), st.floats(0.05, 9), BLOCKS), min_size=1, max_size=4)


@given(runs=RUNS, seed=st.integers(0, 99), first=st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_a_mixture_has_its_shares_and_visits_each_evenly(
    runs: list[tuple[int, float, int]], seed: int, first: int
) -> None:
    order = order_of(Several(runs), Key(seed))
    assert isinstance(order, Mixture)
    ends = np.cumsum([size for size, _, _ in runs])
    read = [order.index(place) for place in range(ROUND * (first + 1))]
    counts = Counter(int(np.searchsorted(ends, index, side="right")) for _, index in read[ROUND * first :])
    total = sum(share for _, share, _ in runs)
    for number, (_, share, _) in enumerate(runs):
        assert abs(counts[number] - ROUND * share / total) <= 2
    for index, times in Counter(index for _, index in read).items():
        number = int(np.searchsorted(ends, index, side="right"))
        mine = [times for other, times in Counter(i for _, i in read).items()
                if int(np.searchsorted(ends, other, side="right")) == number]  # fmt: skip
        assert max(mine) - min(mine) <= 1
        break
    assert len(set(read)) == len(read)  # no visit of a document comes twice


def dealt(
    order: Shuffle | Mixture, cursor: int, batch: int, ranks: int, workers: int, micro: int
) -> list[list[int]]:
    """What the ranks read of one global batch: each a share, by workers that each take every so-manyth of it, in
    micro-batches. By rank."""
    places = list(range(cursor, cursor + batch))
    read = []
    for rank in range(ranks):
        mine = places[len(places) * rank // ranks : len(places) * (rank + 1) // ranks]
        by_worker = [
            iter([order.index(place)[1] for place in mine[worker::workers]]) for worker in range(workers)
        ]
        rows = [next(by_worker[i % workers]) for i in range(len(mine))]
        read.append([row for start in range(0, len(rows), micro) for row in rows[start : start + micro]])
    return read


STAGES = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    min_size=1,
    max_size=5,
)


@given(runs=RUNS, seed=st.integers(0, 99), batch=st.integers(1, 40), stages=STAGES)
@settings(deadline=None, max_examples=50)
def test_ranks_workers_and_micro_batches_may_change_at_any_restart(
    runs: list[tuple[int, float, int]], seed: int, batch: int, stages: list[tuple[int, int, int, int]]
) -> None:
    """1 → 4 → 2 → 3 ranks, or any: the same global batches in the same order, none lost and none twice."""
    data: DataSet = Several(runs) if len(runs) > 1 else Numbered(runs[0][0], runs[0][2])
    whole = order_of(data, Key(seed))
    assert whole is not None
    cursor, read = 0, list[list[int]]()
    for ranks, workers, micro, batches in [(1, 1, 1, 1), (4, 2, 3, 2), (2, 1, 1, 1), (3, 3, 2, 1), *stages]:
        order = order_of(data, Key(seed))  # a process that begins knows the cursor, and nothing else
        assert order is not None
        for _ in range(batches):
            read.append(
                [index for share in dealt(order, cursor, batch, ranks, workers, micro) for index in share]
            )
            cursor += batch
    for number, indices in enumerate(read):
        assert indices == [whole.index(number * batch + at)[1] for at in range(batch)]


def test_a_recipes_part_of_a_mixture_keeps_the_shares() -> None:
    mixture = restrict(Several([(30, 3.0, 0), (60, 1.0, 4)]), ["text"])
    order = order_of(mixture, Key(0))
    assert isinstance(order, Mixture)
    assert [shuffle.size for shuffle in order.shuffles] == [20, 40]
    read = [order.index(place)[1] for place in range(ROUND)]
    assert sum(index < 20 for index in read) == ROUND * 3 // 4
    assert {mixture.document("train", index).items[0].modality for index in read} == {"text"}


def test_a_data_set_of_which_nothing_is_left_has_no_share() -> None:
    mixture = Several([(1, 1.0, 0), (60, 1.0, 4)])
    with pytest.raises(TransfuseError, match=r"number 1 has a share of 1\.0, and of its 1 documents none"):
        order_of(restrict(mixture, ["text"]), Key(0))
