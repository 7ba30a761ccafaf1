"""A folder of more pictures than are held in memory is the same data set, read picture by picture."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transfuse import TransfuseError
from transfuse.datasets import SPLITS, content_hash, restrict
from transfuse_lab.datasets import images
from transfuse_lab.datasets.folder import Folder
from transfuse_lab.datasets.interleaved import Interleaved
from transfuse_lab.runs.survey import survey

COUNT, BYTES = 8, 3 * 6 * 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        picture = rng.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(f"picture {number}")
    items = [{"items": [{"text": "a"}, {"image": f"{number}.png"}]} for number in range(COUNT)]
    (tmp_path / "documents.jsonl").write_text("\n".join(map(json.dumps, items)))
    return tmp_path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of pictures as they are decoded."""
    names: list[str] = []
    real = images.read_image

    def read(path: Path, *rest: Any) -> np.ndarray:
        names.append(path.name)
        return real(path, *rest)

    monkeypatch.setattr(images, "read_image", read)
    return names


@pytest.mark.parametrize("data", [Folder, Interleaved])
@pytest.mark.parametrize("held", [0, 1, 3 * BYTES, 100 * BYTES])
def test_the_data_set_is_the_same_whatever_is_held(
    folder: Path, monkeypatch: pytest.MonkeyPatch, data: Any, held: int
) -> None:
    whole = data(folder).identity()
    monkeypatch.setattr(images, "HELD", held)
    assert data(folder).identity() == whole
    assert content_hash(data(folder, side=3)) == content_hash(data(folder, side=3))


def test_what_is_held_is_bounded_and_the_rest_is_decoded_when_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    monkeypatch.setattr(images, "HELD", 3 * BYTES)
    data = Folder(folder)
    assert decoded == ["0.png", "1.png", "2.png"]
    for _ in range(2):
        list(data.raw("train", "image")), list(data.raw("test", "image"))
    assert len(decoded) == 3 + 2 * (COUNT - 3)
    assert sum(image.nbytes for image in data._images._held.values()) <= 3 * BYTES


@pytest.mark.parametrize("data", [Folder, Interleaved])
def test_captions_and_roles_are_read_without_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str], data: Any
) -> None:
    monkeypatch.setattr(images, "HELD", 0)
    made = data(folder)
    assert len([*made.raw("train", "text"), *made.raw("test", "text")]) == COUNT
    part = restrict(made, ["text"])
    assert (part.size("train"), part.account()) == (made.size("train"), made.account())
    assert decoded == []
    for split in ("train", "tune", "test"):
        for index in range(made.size(split)):
            document = made.document(split, index)
            assert made.document_roles(split, index) == [item.modality for item in document.items]
        for role in ("text", "image"):
            plain = [item.data for i in range(made.size(split)) for item in made.document(split, i).items
                     if item.modality == role]  # fmt: skip
            assert all(np.array_equal(a, b) for a, b in zip(made.raw(split, role), plain, strict=True))


@pytest.mark.parametrize("held", [0, 100 * BYTES])
def test_what_a_header_tells_is_an_error_before_anything_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(images, "HELD", held)
    Image.new("RGB", (9, 4)).save(folder / "7.png")
    with pytest.raises(TransfuseError, match=r"7\.png is 9 x 4 pixels, others are 6 x 6; leave size=own out"):
        Folder(folder, side="own")
    Folder(folder, side=4)
    (folder / "7.png").write_bytes(b"no picture")
    for side in (None, "own", 4):
        with pytest.raises(TransfuseError, match=r"7\.png: not a readable image"):
            Folder(folder, side=side)


def test_what_only_the_pixels_tell_is_named_when_the_folder_is_hashed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "HELD", 0)
    body = (folder / "7.png").read_bytes()
    (folder / "7.png").write_bytes(body[: len(body) // 2])
    with pytest.raises(TransfuseError, match=r"7\.png: not a readable image"):
        Folder(folder).identity()


def test_a_picture_that_changes_while_it_is_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "HELD", 0)
    data = Folder(folder)
    for number in range(COUNT):
        Image.new("RGB", (5, 6)).save(folder / f"{number}.png")
    with pytest.raises(
        TransfuseError, match=r"\.png: 5 x 6 pixels are not what its header said, or said before"
    ):
        data.document("train", 0)


@pytest.mark.parametrize("data", [Folder, Interleaved])
def test_outlines_have_the_shapes_and_no_pixels_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str], data: Any
) -> None:
    monkeypatch.setattr(images, "HELD", 0)
    made = data(folder)
    outlines = {
        split: [made.outline(split, i, {"image"}) for i in range(made.size(split))] for split in SPLITS
    }
    assert decoded == []
    for split, those in outlines.items():
        for index, outline in enumerate(those):
            document = made.document(split, index)
            assert (outline.id, outline.source) == (document.id, document.source)
            for there, here in zip(outline.items, document.items, strict=True):
                assert np.shape(there.data) == np.shape(here.data)
                assert getattr(there.data, "dtype", there.data) == getattr(here.data, "dtype", here.data)


def test_the_survey_of_a_folder_reads_no_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str], small_recipe: Callable
) -> None:
    monkeypatch.setattr(images, "HELD", 0)
    survey(small_recipe("transfusion"), Folder(folder), lambda line: None)
    assert decoded == []
