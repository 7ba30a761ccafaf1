"""Hugging Face data sets on the disk are read by number, pictures from the bytes in the row."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transfuse import TransfuseError
from transfuse.errors import RecordError
from transfuse.registry.plugins import Plugins
from transfuse_adapters.huggingface import HuggingFace
from transfuse_lab.datasets import open_data


def png(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def rows(count: int, first: int = 0) -> Any:
    datasets = pytest.importorskip("datasets")
    numbers = range(first, first + count)
    pictures = [{"bytes": png(number), "path": None} for number in numbers]
    told = {
        "caption": [f"grey {n}" for n in numbers],
        "image": pictures,
        "series": [[n, n + 0.5] for n in numbers],
    }
    features = datasets.Features(
        caption=datasets.Value("string"),
        image=datasets.Image(),
        series=datasets.List(datasets.Value("float32")),
    )
    return datasets.Dataset.from_dict(told, features=features)


def test_what_save_to_disk_left(tmp_path: Path, installed: Plugins) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict(train=rows(20), test=rows(5, 100)).save_to_disk(str(tmp_path / "pets"))
    data = open_data(f"huggingface;path={tmp_path / 'pets'};channels=1", installed)
    assert (data.size("train"), data.size("heldout")) == (20, 5)
    for split, first in (("train", 0), ("heldout", 100)):
        for index in range(data.size(split)):
            text, image = data.document(split, index).items
            assert (text.data, text.droppable, image.data.shape) == (f"grey {first + index}", True, (1, 8, 8))
            assert round(float(image.data[0, 0, 0]) * 255) == first + index
    ids = [data.document(split, i).id for split in ("train", "heldout") for i in range(data.size(split))]
    assert len(set(ids)) == 25


def test_parquet_files_and_columns_of_your_own(tmp_path: Path) -> None:
    rows(20).to_parquet(str(tmp_path / "a.parquet"))
    data = HuggingFace(tmp_path, {"series": "series", "text": "caption"})
    assert (data.size("train"), data.size("heldout")) == (18, 2)
    series, text = data.document("heldout", 0).items
    assert text.data == "grey 9"
    assert np.array_equal(series.data, np.float32([9, 9.5]))


def test_a_bad_row_is_a_record_error(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    bad = {"caption": ["a", "b", "x" * 100_001, "c"], "image": [
        {"bytes": b"none", "path": None}, {"bytes": None, "path": "/etc/passwd"},
        {"bytes": png(1), "path": None}, {"bytes": png(2), "path": None}]}  # fmt: skip
    kept = {
        "bytes": datasets.Value("binary"),
        "path": datasets.Value("string"),
    }  # no Image, which reads files on saving
    features = datasets.Features(caption=datasets.Value("string"), image=kept)
    datasets.Dataset.from_dict(bad, features=features).save_to_disk(str(tmp_path / "pets"))
    data = HuggingFace(tmp_path / "pets")
    for index, message in enumerate(["row 0", "lies in a file elsewhere", "more than 100,000"]):
        with pytest.raises(RecordError, match=message):
            data.document("train", index)
    assert data.document("train", 3).items[0].data == "c"


def test_what_is_none_is_named(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(TransfuseError, match="neither what datasets' save_to_disk left nor parquet"):
        HuggingFace(tmp_path)
    rows(3).save_to_disk(str(tmp_path / "pets"))
    with pytest.raises(TransfuseError, match=r"no column 'capton'; did you mean 'caption'"):
        HuggingFace(tmp_path / "pets", {"text": "capton"})
    (tmp_path / "pets/state.json").write_text("{")
    with pytest.raises(TransfuseError, match="cannot be read"):
        HuggingFace(tmp_path / "pets")


def test_without_datasets_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TransfuseError, match=r"pip install 'transfuse\[huggingface\]'"):
        HuggingFace(tmp_path)
