"""Documents that a user writes: read as written, flag by flag, or an error that names line and item."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transfuse import TransfuseError
from transfuse.datasets import content_hash
from transfuse.documents import Item, View
from transfuse.registry.plugins import Plugins
from transfuse.training.trainer import Trainer
from transfuse_lab.commands.stores import pack
from transfuse_lab.datasets import data_section, open_data
from transfuse_lab.datasets.interleaved import Interleaved

STORY = [
    {"text": "first the cat", "droppable": True},
    {"image": "a.png", "noised": False},
    {"text": " then the dog", "loss": False},
    {"image": "sub/b.png"},
    {"image": "a.png", "loss": False, "droppable": True},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, and no documents yet."""
    (tmp_path / "sub").mkdir()
    for name, shade in (("a.png", 51), ("sub/b.png", 102)):
        Image.new("RGB", (8, 8), (shade, 0, 255)).save(tmp_path / name)
    return tmp_path


def write(folder: Path, *documents: Any) -> Path:
    lines = [document if isinstance(document, str) else json.dumps(document) for document in documents]
    (folder / "documents.jsonl").write_text("\n".join(lines))
    return folder


def test_items_come_in_the_order_written_with_their_flags(folder: Path) -> None:
    data = Interleaved(write(folder, {"items": STORY, "split": "train"}))
    document = data.document("train", 0, np.random.default_rng(0))
    assert [(item.modality, item.loss, item.noised, item.droppable) for item in document.items] == [
        ("text", True, True, True),
        ("image", True, False, False),
        ("text", False, True, False),
        ("image", True, True, False),
        ("image", False, True, True),
    ]
    assert [item.data for item in document.items if item.modality == "text"] == [
        "first the cat",
        " then the dog",
    ]
    shades = [item.data[:, 0, 0] * 255 for item in document.items if item.modality == "image"]
    np.testing.assert_allclose(shades, [[51, 0, 255], [102, 0, 255], [51, 0, 255]], rtol=1e-6)
    assert document.items[1].data.dtype == np.float32
    assert "documents.jsonl line 1" in document.source


def test_what_an_item_does_not_say_is_what_an_item_is_by_default(folder: Path) -> None:
    data = Interleaved(write(folder, {"items": [{"text": "a"}], "split": "train"}))
    assert data.document("train", 0).items == (Item("text", "a"),)


def test_sizes_channels_and_roles(folder: Path) -> None:
    items = [{"title": "t"}, {"text": "x"}, {"depth": "a.png"}, {"image": "sub/b.png"}]
    write(folder, {"items": items, "split": "train"})
    data = Interleaved(folder, 4, 1, ("title", "text"), ("depth", "image"))
    found = data.document("train", 0).items
    assert [item.modality for item in found] == ["title", "text", "depth", "image"]
    assert {item.data.shape for item in found[2:]} == {(1, 4, 4)}


def test_one_in_ten_is_held_out_and_adding_documents_moves_none(folder: Path) -> None:
    def held_out(count: int) -> set[str]:
        write(folder, *({"items": [{"text": str(number)}]} for number in range(count)))
        return set(Interleaved(folder).raw("test", "text"))

    few, many = held_out(200), held_out(400)
    assert 20 <= len(many) <= 60
    assert few == {text for text in many if int(text) < 200}


def test_the_same_document_twice_is_in_one_split(folder: Path) -> None:
    numbers = [number % 40 for number in range(80)]
    data = Interleaved(write(folder, *({"items": [{"text": str(number)}]} for number in numbers)))
    assert not set(data.raw("train", "text")) & set(data.raw("test", "text"))
    ids = [data.document(split, i).id for split in ("train", "tune", "test") for i in range(data.size(split))]
    assert sorted(ids) == list(range(80))
    one, two = ({"items": [{"text": "1"}], "split": split} for split in ("train", "test"))
    with pytest.raises(TransfuseError, match=r"line 2: the same document is test here and train above"):
        Interleaved(write(folder, one, two))


def test_data_opens_a_folder_that_holds_documents_or_the_listing_itself(
    folder: Path, installed: Plugins
) -> None:
    write(folder, {"items": STORY, "split": "train"})
    other = folder / "stories.jsonl"
    other.write_text((folder / "documents.jsonl").read_text())
    assert data_section(str(folder), installed) == {"name": "interleaved", "path": str(folder)}
    assert open_data(f"{folder};size=4", installed).document("train", 0).items[1].data.shape == (3, 4, 4)
    named = open_data(f"{other};texts=[text, title]", installed)
    assert (named.name, open_data(str(folder), installed).name) == ("stories", folder.name)
    assert content_hash(named) == content_hash(open_data(str(folder), installed))
    (folder / "captions.jsonl").write_text("")
    with pytest.raises(
        TransfuseError, match=r"holds both captions\.jsonl and documents\.jsonl; write --data"
    ):
        open_data(str(folder), installed)
    assert open_data(str(folder / "documents.jsonl"), installed).size("train") == 1


def test_a_store_holds_them_too(folder: Path, tmp_path: Path, installed: Plugins) -> None:
    write(folder, {"items": STORY, "split": "train"}, {"items": STORY[:2], "split": "test"})
    assert pack(str(folder), tmp_path / "stories.zarr", installed)
    packed = open_data(str(tmp_path / "stories.zarr"), installed)
    assert content_hash(packed) == content_hash(Interleaved(folder))


def items(*entries: Any, **more: Any) -> dict[str, Any]:
    return {"items": list(entries), **more}


BAD_LINES = {
    "not JSON": ('{"items": [', "line 2: not JSON"),
    "not an object": ("[1]", "line 2: not an object"),
    "misspelt key": ({"itmes": []}, "line 2: unknown key 'itmes', did you mean 'items'"),
    "no items": ({"split": "train"}, "line 2: items must be a list of 1 to 1000"),
    "empty": (items(), "line 2: items must be a list"),
    "too many": (items(*[{"text": "a"}] * 1001), "line 2: items must be a list"),
    "unknown split": (items({"text": "a"}, split="dev"), "line 2: split must be one of train, tune, test, heldout"),
    "a bare text": (items("a"), "line 2, item 0: must be an object"),
    "misspelt role": (items({"text": "a"}, {"imgae": "a.png"}), "line 2, item 1: unknown key 'imgae', did you mean"),
    "misspelt flag": (items({"text": "a", "los": False}), "line 2, item 0: unknown key 'los', did you mean 'loss'"),
    "two in one": (items({"text": "a", "image": "a.png"}), "item 0: holds text and image; an item is one"),
    "none in one": (items({"loss": True}), "item 0: holds no data; an item is one text or one image"),
    "a number as flag": (items({"text": "a", "loss": 0}), "item 0: loss must be true or false, not 0"),
    "a word as flag": (items({"text": "a", "noised": "no"}), "item 0: noised must be true or false, not 'no'"),
    "null as flag": (items({"text": "a", "droppable": None}), "item 0: droppable must be true or false, not None"),
    "a number as text": (items({"text": 3}), "item 0: text must be a string, not 3"),
    "empty text": (items({"text": ""}), "item 0: the text is empty"),
    "long text": (items({"text": "x" * 100_001}), "item 0: the text is longer than 100000 characters"),
    "half a surrogate": ('{"items": [{"text": "\\ud800"}]}', "item 0: the text holds half"),
    "absolute path": (items({"image": "/etc/a.png"}), "item 0: image '/etc/a.png' must be a path inside"),
    "parent": (items({"image": "../a.png"}), "item 0: image '../a.png' must be a path inside"),
    "not there": (items({"image": "q.png"}), "item 0: image 'q.png' is not in the folder"),
    "not an image": (items({"image": "a.svg"}), "item 0: image 'a.svg' is not one of"),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "message"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_named(folder: Path, bad: Any, message: str) -> None:
    write(folder, {"items": STORY, "split": "train"}, bad)
    with pytest.raises(TransfuseError, match=message):
        Interleaved(folder)


def test_what_else_is_wrong_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match=r"documents\.jsonl: not there; write one document a line"):
        Interleaved(folder)
    with pytest.raises(TransfuseError, match="no document is left to train on"):
        Interleaved(write(folder, ""))
    with pytest.raises(TransfuseError, match="no document is left to train on"):
        Interleaved(write(folder, items({"text": "a"}, split="heldout")))
    write(folder, items({"text": "a"}, split="train"))
    for texts in (("text", "text"), ("image",), ("loss",), ("",)):
        with pytest.raises(TransfuseError, match="cannot name a role"):
            Interleaved(folder, texts=texts)
    Image.new("RGB", (9, 4)).save(folder / "wide.png")
    write(folder, items({"image": "a.png"}, {"image": "sub/b.png"}, {"image": "wide.png"}, split="train"))
    with pytest.raises(TransfuseError, match=r"wide\.png is 9 x 4 pixels, others are 8 x 8; .*;size=32'"):
        Interleaved(folder, side="own")


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    Image.new("RGB", (8, 8)).save(outside)
    (folder / "link.png").symlink_to(outside)
    write(folder, items({"image": "link.png"}, split="train"))
    with pytest.raises(TransfuseError, match=r"link\.png is a link that leads out of the folder"):
        Interleaved(folder)


def grey_stories(folder: Path, **flags: Any) -> Interleaved:
    """Documents of two images each, one of which is told more by ``flags``."""
    documents = [
        items({"text": f"word {n}"}, {"image": "a.png", **flags}, {"image": "sub/b.png"}, split="train")
        for n in range(6)
    ]
    return Interleaved(write(folder, *documents), channels=1)


def test_a_recipe_trains_on_them_and_the_loss_falls(
    folder: Path, small_recipe: Callable, fitted: Callable
) -> None:
    data = grey_stories(folder, noised=False)
    recipe = small_recipe("transfusion", "train.steps=24", "train.lr=0.01")
    trainer = Trainer(recipe, fitted(recipe, data), data)
    losses = [trainer.step() for _ in range(24)]
    for key in ("loss_text", "loss_image"):
        assert np.mean([line[key] for line in losses[-5:]]) < 0.8 * np.mean(
            [line[key] for line in losses[:5]]
        )


@pytest.mark.parametrize(
    ("flags", "counted", "noised"),
    [({}, 2, 2), ({"loss": False}, 1, 2), ({"noised": False}, 1, 1), ({"droppable": True}, 2, 2)],
)
def test_flags_reach_the_model(
    folder: Path, small_recipe: Callable, fitted: Callable, flags: dict[str, bool], counted: int, noised: int
) -> None:
    data = grey_stories(folder, **flags)
    model = fitted(small_recipe("transfusion"), data)
    sequence = model.layout.sequence(data.document("train", 0))
    spans = [placed.span for placed in sequence.spans]
    assert [span.loss for span in spans].count(True) == counted
    assert [span.noised for span in spans].count(True) == noised
    kept = data.document("train", 0).seen(View())
    assert len(kept.items) == (2 if flags.get("droppable") else 3)


def test_a_text_without_loss_is_not_counted(folder: Path, small_recipe: Callable, fitted: Callable) -> None:
    written = [
        items({"text": "seen"}, {"text": "told", "loss": loss}, split="train") for loss in (True, False)
    ]
    data = Interleaved(write(folder, *written, items({"image": "a.png"}, split="train")), channels=1)
    layout = fitted(small_recipe("transfusion"), data).layout
    whole, half = (layout.sequence(data.document("train", index)) for index in (0, 1))
    own = len(layout.modalities["text"].encode("told"))
    # With the text goes the end of the document, which follows it.
    assert (whole.targets >= 0).sum() - (half.targets >= 0).sum() == own + 1
