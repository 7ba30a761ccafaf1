"""The record of one run: a recipe, a seed, and everything a comparison or a report needs of it."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from transfuse.errors import TransfuseError
from transfuse.files import read_checked, write_checked
from transfuse.metrics import Figure

LARGEST_RECORD = 512 * 2**20  # bytes


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class CurvePoint(_Value):
    """A moment of training.

    flops: training FLOPs spent so far, codec training excluded. output_flops: of them the output layer's. documents,
    positions: trained on so far.
    losses: by modality, mean nats or squared error a count, over the steps since the last point.
    """

    step: int = Field(ge=0)
    flops: float = Field(ge=0)
    output_flops: float = Field(0.0, ge=0)
    documents: int = Field(0, ge=0)
    positions: int = Field(0, ge=0)
    losses: dict[str, float]


class Shown(_Value):
    """Raw data as a reader sees it: a text itself, or a drawing as `data_uri` writes it."""

    role: str
    text: str | None = None
    drawing: str | None = None


class Sample(_Value):
    """What was made of a prompt.

    task: such as ``text->image``. truth: what the document has. note: a metric's word on what was made, such as
    what a classifier reads in it. mistaken: it is another prompt's word. split: which split the prompt is from.
    """

    task: str
    given: tuple[Shown, ...] = ()
    made: Shown
    truth: Shown | None = None
    note: str | None = None
    mistaken: bool = False
    split: Literal["train", "heldout"] = "heldout"


class RunRecord(_Value):
    """One recipe trained with one seed.

    entry: what the run is called in a comparison, see ``entry_name``: runs of one entry differ by seed.
    metrics: figures by name, such as ``generation_accuracy``. figures: what each of them is, in order.
    faults: figures, metrics and tasks that there is no figure of, and why.
    settings: the resolved recipe and training settings, in full.
    facts: what else was measured or fixed: positions, codec training seconds, versions, guidance.
    """

    entry: str
    recipe: str
    seed: int
    metrics: dict[str, float]
    figures: tuple[Figure, ...] = ()
    faults: dict[str, str] = {}
    curve: tuple[CurvePoint, ...] = ()
    samples: tuple[Sample, ...] = ()
    settings: dict[str, Any] = {}
    facts: dict[str, Any] = {}

    @field_validator("settings", "facts", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return plain(value)


def plain(value: Any) -> Any:
    """A value as JSON has it: tuples are lists, keys strings, numpy's numbers Python's, NaN is null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def entry_name(recipe: str, axes: Mapping[str, Any] | None = None) -> str:
    """``transfusion``, or with axes ``transfusion;image.patch=2;loss.image=5``, keys sorted."""
    return ";".join([recipe, *(f"{key}={value}" for key, value in sorted((axes or {}).items()))])


def data_uri(drawing: str | bytes) -> str:
    """SVG text or the bytes of a PNG as a ``data:`` URI; in an ``img``, no script of an SVG runs."""
    kind = "svg+xml" if isinstance(drawing, str) else "png"
    body = drawing.encode() if isinstance(drawing, str) else drawing
    return f"data:image/{kind};base64,{base64.b64encode(body).decode('ascii')}"


def drawing_of(uri: str) -> str | bytes:
    """The drawing that `data_uri` wrote."""
    head, _, body = uri.partition(",")
    drawing = base64.b64decode(body)
    return drawing.decode() if "svg" in head else drawing


def save_record(path: Path, record: RunRecord) -> None:
    """Writes the record as JSON with a checksum of itself, whole or not at all."""
    write_checked(path, json.loads(record.model_dump_json()))  # which writes NaN as a word


def load_record(path: Path) -> RunRecord:
    """Reads a record. Raises TransfuseError naming the file where it is not there, damaged, or not a record."""
    value = read_checked(path, "record", cap=LARGEST_RECORD, cure="evaluate the run again")
    try:
        return RunRecord.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise TransfuseError(f"{path}: not a run's record: {place}: {first['msg']}") from error
