"""Data sets mixed by weight are one data set, of which a run reads shares and goes on exactly."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transfuse import TransfuseError
from transfuse.datasets import ENDLESS, restrict
from transfuse.documents import Document, Item
from transfuse.randomness import Key
from transfuse.registry.plugins import Plugins
from transfuse.training.order import Mixture as Order
from transfuse.training.order import order_of
from transfuse_adapters.store.writer import pack
from transfuse_lab.datasets import data_section, open_data, open_section
from transfuse_lab.datasets.digits import Digits
from transfuse_lab.datasets.mixture import Mixture


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "digits.zarr"
    pack(Digits(), path, parts=2)
    return path


def test_a_store_and_a_data_set_by_shares(packed: Path, installed: Plugins) -> None:
    data = open_data(f"mix;of={{digits: 1, {packed}: 3}}", installed)
    assert isinstance(data, Mixture)
    assert [data.size(split) for split in data.splits] == [2600, 400, 594]
    first, second = (data.document("train", index) for index in (7, 1307))
    assert first.items[0] == second.items[0]
    assert np.array_equal(first.items[1].data, second.items[1].data)
    order = order_of(data, Key(1))
    assert isinstance(order, Order)
    counts = Counter(order.index(place)[1] >= 1300 for place in range(4096))
    assert counts[True] == 3 * counts[False]
    assert "75.0% digits (1,300 documents)" in data.account()


def test_ids_are_unique_over_all(packed: Path, installed: Plugins) -> None:
    data = open_data(f"mix;of={{digits: 1, {packed}: 1}}", installed)
    ids = [data.document(split, i).id for split in data.splits for i in range(data.size(split))]
    assert len(set(ids)) == len(ids)


def test_a_section_means_the_same_from_anywhere(
    packed: Path, installed: Plugins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(packed.parent)
    section = data_section("mix;of={digits: 1, digits.zarr: 2}", installed)
    assert section["of"] == {"digits": 1, str(packed.resolve()): 2}
    monkeypatch.chdir(tmp_path)
    again = open_section(section, installed)
    assert again.identity()["mixed"][1]["share"] == 2
    assert again.identity() == open_section(section, installed).identity()


def test_what_others_hold_out_is_dealt(installed: Plugins) -> None:
    """As a recipe reads them: every other document to the two."""

    class Plain(Digits):
        splits = ("train", "heldout")
        name = "plain"

        def size(self, split: str) -> int:
            return {"train": 3, "heldout": 5}[split]

        def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
            return Document((Item("text", f"{split} {index}"),), index + 3 * (split == "heldout"))

        def identity(self) -> dict[str, Any]:
            return {"name": self.name}

    mixed = Mixture({"a": 1, "b": 1}, {"a": Plain(), "b": Digits()}, 10)
    plain, of_recipe = Mixture({"a": 1}, {"a": Plain()}, 10), restrict(Plain(), ["text"])
    assert plain.splits == ("train", "heldout")
    for split, size in (("train", 3), ("tune", 2), ("test", 3)):
        assert mixed.size(split) == size + Digits().size(split)
        found = [mixed.document(split, i).items[0].data for i in range(size)]
        assert found == [of_recipe.document(split, i).items[0].data for i in range(size)]


def test_of_one_without_end_so_many_take_part(installed: Plugins) -> None:
    data = open_data("mix;of={digits: 1, scenes: 1};endless=50", installed)
    assert data.size("train") == 1350
    assert open_data("scenes", installed).size("train") == ENDLESS
    assert data.document("train", 1349).items


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mix;of={digits: 0}", "of.digits"),
        ("mix;of={digits: -1}", "of.digits"),
        ("mix;of={}", "of"),
        ("mix", "of"),
        ("mix;of={digtis: 1}", "'digtis' is neither a data set nor a folder or store; did you mean 'digits'"),
    ],
)
def test_what_is_none_is_refused(text: str, message: str, installed: Plugins) -> None:
    with pytest.raises(TransfuseError, match=message):
        open_data(text, installed)
