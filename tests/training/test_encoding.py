"""Codecs' work dealt to ranks: an item is encoded once, its payload is everywhere, and so is what is wrong with it."""

from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.training.encoding import encode_together
from transfuse.training.ranks import Ranks

SIZE = 3


class Pretended(Ranks):
    """Ranks that are threads of this process, and gather by a list."""

    def gathered_bytes(self, body: bytes) -> list[bytes]:
        barrier, bodies = self.waiting
        bodies[self.rank] = body
        barrier.wait(timeout=60)
        return list(bodies)


class Squares:
    """A layout whose payload is the square of an item's data; a negative one it refuses."""

    def __init__(self) -> None:
        self.encoded: list[float] = []

    def payload(self, document: Document, index: int) -> np.ndarray:
        data = document.items[index].data
        if data < 0:
            raise TransfuseError(f"{document.source}: item {index} is negative")
        self.encoded.append(data)
        return np.array([[data**2]])


def together(asked: Callable[[int], list[float]]) -> tuple[list[Any], list[Squares]]:
    """What each of three ranks is told, or the error that it ends in."""
    shared = Barrier(SIZE), [b""] * SIZE
    told: list[Any] = [None] * SIZE
    layouts = [Squares() for _ in range(SIZE)]

    def one(rank: int) -> None:
        wanted = {
            ("role", bytes([int(abs(x))])): (Document((Item("role", x),), source=f"document {x}"), 0)
            for x in asked(rank)
        }
        try:
            told[rank] = encode_together(layouts[rank], wanted, Pretended(rank, SIZE, waiting=shared))  # type: ignore[arg-type]
        except TransfuseError as error:
            told[rank] = str(error)

    threads = [Thread(target=one, args=(rank,)) for rank in range(SIZE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told, layouts


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_each_is_encoded_once_and_known_to_all(count: int) -> None:
    told, layouts = together(lambda rank: [float(i) for i in range(count)])
    assert sorted(x for layout in layouts for x in layout.encoded) == [float(i) for i in range(count)]
    for each in told:
        assert [(key[1][0], value.item()) for key, value in each.items()] == [(i, i**2) for i in range(count)]


def test_what_one_cannot_encode_is_told_by_all() -> None:
    told, _ = together(lambda rank: [1.0, 2.0, 3.0, 4.0, -5.0])
    assert told == ["document -5.0: item 0 is negative"] * SIZE


def test_ranks_that_read_other_documents_end() -> None:
    told, _ = together(lambda rank: [1.0, 2.0 + (rank == 2)])
    assert all("has read other documents than rank" in each for each in told)
