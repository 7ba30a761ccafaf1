"""Hugging Face data sets on this disk: what `save_to_disk` left, or a folder of parquet files; nothing is downloaded.

Rows are read by number from memory-mapped Arrow. Pictures are decoded here, from the bytes in the row: a row that only
names a file is refused, and so are pickles and scripts, which are never run. One bad row is a RecordError, which
training leaves out and counts.

Needs `pip install 'transfuse[huggingface]'`; imported on use.
"""

import hashlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from transfuse.plugin import (
    DataSet,
    Document,
    Item,
    RecordError,
    TransfuseError,
    checked_index,
    checked_split,
    did_you_mean,
)

from transfuse_adapters import samples

HELDOUT = ("heldout", "validation", "valid", "dev", "test")
HELDOUT_SHARE = 10  # every so-manyth row, where no split is one of these
USUAL = {"text": ("text", "caption"), "image": ("image", "picture", "img")}


class HuggingFace(DataSet):
    """The rows of a data set; split ``train`` is trained on, the first of ``HELDOUT`` that there is held out.

    columns: by role, the column that holds its data, in a document's order; None: the usual names. Where there is no
    split to hold out, every tenth row is. channels, size: of pictures, as elsewhere; size None: as they are.
    Raises TransfuseError where nothing of the kind is there, or a column is not.
    """

    reversed_share = samples.REVERSED_SHARE

    def __init__(
        self,
        path: str | Path,
        columns: Mapping[str, str] | None = None,
        channels: int = 3,
        size: int | None = None,
    ) -> None:
        self.path, self.channels, self.side = Path(path), channels, size
        self.name = self.path.resolve().name
        found = _opened(self.path)
        heldout = next((split for split in HELDOUT if split in found), None)
        train = found.get("train") or next(iter(found.values()))
        self.columns = dict(columns or _usual(self.path, train.column_names))
        for column in self.columns.values():
            if column not in train.column_names:
                raise TransfuseError(
                    f"data {path}: no column {column!r}; {did_you_mean(column, train.column_names)}"
                )
        self._rows = {"train": self._raw(train)}
        numbers = np.arange(len(train))
        self._numbers = {"train": numbers, "heldout": numbers[:0]}
        if heldout is not None:
            self._rows["heldout"] = self._raw(found[heldout])
            self._numbers["heldout"] = np.arange(len(found[heldout]))
        else:
            self._rows["heldout"] = self._rows["train"]
            held = numbers % HELDOUT_SHARE == HELDOUT_SHARE - 1
            self._numbers = {"train": numbers[~held], "heldout": numbers[held]}
        if not self.size("train"):
            raise TransfuseError(f"data {path}: no row is left to train on")
        prints = [getattr(found[split], "_fingerprint", "") for split in sorted(found)]
        self._hash = hashlib.sha256(repr((prints, self.columns)).encode()).hexdigest()

    def size(self, split: str) -> int:
        return len(self._numbers[checked_split(self.name, split)])

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        number = int(self._numbers[split][checked_index(self.name, split, index, self.size(split))])
        place = f"{self.name} {split} {index}"
        try:
            row = self._rows[split][number]
            items = [Item(role, self._value(row[column], place)) for role, column in self.columns.items()]
        except (TransfuseError, ValueError, TypeError, OSError, KeyError) as error:
            raise RecordError(f"{place} (row {number}): {str(error)[:300]}") from error
        of_heldout = self._rows["heldout"] is not self._rows["train"] and split == "heldout"
        return samples.document(items, number + of_heldout * len(self._rows["train"]), place, rng)

    def document_roles(self, split: str, index: int) -> list[str]:
        return list(self.columns)

    def identity(self) -> dict[str, Any]:
        sizes = {split: self.size(split) for split in ("train", "heldout")}
        return {"name": self.name, **sizes, "content": self._hash, "licence": "as its owner says"}

    def account(self) -> str:
        return (
            f"{self.size('train') + self.size('heldout'):,} rows, columns {', '.join(self.columns.values())}"
        )

    def _raw(self, rows: Any) -> Any:
        """The columns asked for, pictures not decoded by others."""
        image = import_datasets(self.path).Image
        rows = rows.select_columns(list(dict.fromkeys(self.columns.values())))
        for name, feature in rows.features.items():
            if isinstance(feature, image):
                rows = rows.cast_column(name, image(decode=False))
        return rows

    def _value(self, value: Any, place: str) -> Any:
        if isinstance(value, str):
            return samples.text(value)
        if isinstance(value, dict) and "bytes" in value:
            body = value["bytes"]
            if not isinstance(body, bytes) or len(body) > samples.LARGEST:
                raise ValueError(
                    "a picture that lies in a file elsewhere, or is too large; embed it in the data set"
                )
            return samples.picture(body, place, self.channels, self.side)
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" or array.nbytes > samples.LARGEST:
            raise ValueError(f"a {type(value).__name__}, neither text, picture nor numbers of one shape")
        return array.astype(np.float32) if array.dtype == np.float64 else array


def import_datasets(path: Path) -> Any:
    """The module, or the sentence that says how to get it."""
    try:
        return import_module("datasets")
    except ImportError as error:
        raise TransfuseError(f"data {path}: needs datasets: pip install 'transfuse[huggingface]'") from error


def _opened(path: Path) -> dict[str, Any]:
    """Data sets by split."""
    datasets = import_datasets(path)
    try:
        if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(path))
            return dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}
        files = sorted(path.rglob("*.parquet"))
        by_split: dict[str, list[str]] = {}
        for file in files:
            split = next((split for split in HELDOUT if split in file.stem), "train")
            by_split.setdefault(split, []).append(str(file))
        made = {split: datasets.Dataset.from_parquet(of, split=split) for split, of in by_split.items()}
    except Exception as error:  # pyarrow raises kinds of its own
        raise TransfuseError(f"data {path}: cannot be read ({str(error)[:200]})") from error
    if not made:
        raise TransfuseError(
            f"data {path}: neither what datasets' save_to_disk left nor parquet files are there: name that folder"
        )
    return made


def _usual(path: Path, names: list[str]) -> dict[str, str]:
    found = {role: next((name for name in usual if name in names), None) for role, usual in USUAL.items()}
    if not (known := {role: name for role, name in found.items() if name}):
        raise TransfuseError(
            f"data {path}: say which columns hold what, such as columns={{text: {names[0]}}}"
        )
    return known
