"""A record that is not what was written: training names it, counts it, reads the next, and at a limit stops."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transfuse import TransfuseError
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.documents import Document
from transfuse.errors import RecordError
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.training import Stream, stream
from transfuse_adapters.store import arrays
from transfuse_adapters.store.reader import Store
from transfuse_adapters.store.writer import pack


class Damaged(DataSet):
    """A data set of which some records are bad."""

    def __init__(self, data: DataSet, bad: set[int]) -> None:
        self.data, self.bad = data, bad
        self.name, self.reversed_share = data.name, data.reversed_share

    def size(self, split: str) -> int:
        return self.data.size(split)

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        if split == "train" and index in self.bad:
            raise RecordError(f"file {index} was changed")
        return self.data.document(split, index, rng)

    def identity(self) -> dict[str, str]:
        return {"name": self.name}


@pytest.fixture(scope="module")
def model(
    small_recipe: Callable[..., Recipe], shapes: Callable[..., DataSet], fitted: Callable[..., Model]
) -> Model:
    return fitted(small_recipe(), shapes(train=30))


def quietly(action: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        action()


def told(action: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(one.message) for one in caught]


def test_the_next_stands_in_its_place(model: Model, shapes: Callable[..., DataSet]) -> None:
    data, bad = shapes(train=30), {3, 4, 29}
    whole = Stream(data, model.layout, Key(0), 0.0)
    hurt = Stream(Damaged(data, bad), model.layout, Key(0), 0.0)
    wanted = [whole.document(place)[0].id for place in range(60)]
    found = list[int]()
    warned = told(lambda: found.extend(hurt.document(place)[0].id for place in range(60)))
    ids = [data.document("train", index).id for index in range(30)]
    instead = {ids[3]: ids[5], ids[4]: ids[5], ids[29]: ids[0]}
    assert found == [instead.get(id, id) for id in wanted]
    assert hurt.bad.keys() == bad
    assert len(warned) == 3  # once each, though each was met twice
    assert all(f"file {index} was changed" in " ".join(warned) for index in bad)


def test_a_run_that_goes_on_reads_the_same(model: Model, shapes: Callable[..., DataSet]) -> None:
    def read(places: range) -> list[int]:
        again = Stream(Damaged(shapes(train=30), {3, 4, 29}), model.layout, Key(0), 0.0)
        return [again.document(place)[0].id for place in places]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read(range(60))[35:] == read(range(35, 60))


def test_a_limit_stops_the_run(
    model: Model, shapes: Callable[..., DataSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BAD", 5)
    hurt = Stream(Damaged(shapes(train=30), set(range(0, 20, 2))), model.layout, Key(0), 0.0)
    with pytest.raises(
        TransfuseError, match=r"5 records are not what was written; the first: file .* was changed"
    ):
        quietly(lambda: [hurt.document(place) for place in range(30)])
    assert len(hurt.bad) == 5
    nothing = Stream(Damaged(shapes(train=3), {0, 1, 2}), model.layout, Key(0), 0.0)
    with pytest.raises(TransfuseError, match="3 records are not what was written"):
        quietly(lambda: nothing.document(0))


def test_of_a_store_the_file_is_named(
    model: Model, shapes: Callable[..., DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "CHUNK", 512)
    pack(shapes(train=30, test=2), tmp_path / "a.zarr")
    file = tmp_path / "a.zarr/part-000000/data_image/c/0"
    body = bytearray(file.read_bytes())
    body[10] ^= 1
    file.write_bytes(body)
    read = Stream(Store(tmp_path / "a.zarr"), model.layout, Key(0), 0.0)
    (warned, *more) = told(lambda: [read.sequence(place) for place in range(30)])
    assert "part-000000/data_image/c/0 was changed since it was written (chunk 0)" in warned
    assert 0 < len(read.bad) == len(more) + 1 < 30
