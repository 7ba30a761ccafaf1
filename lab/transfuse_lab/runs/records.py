"""The record of one run: a recipe, a seed, and everything a comparison or a report needs of it."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from transfuse.errors import TransfuseError
from transfuse.files import read_json, write_text
from transfuse_pictures.files import image_bytes

LARGEST_RECORD = 512 * 2**20  # bytes


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class CurvePoint(_Value):
    """A moment of training.

    flops: training FLOPs spent so far, codec training excluded. positions: positions trained on so far.
    losses: by modality, mean nats or squared error a count, over the steps since the last point.
    """

    step: int = Field(ge=0)
    flops: float = Field(ge=0)
    positions: int = Field(0, ge=0)
    losses: dict[str, float]


class Sample(_Value):
    """An image generated for a prompt.

    image: as ``png_base64`` makes it. seen: what the classifier reads in it, None where none judged.
    real: a real image with this caption. split: which split the prompt is from.
    """

    prompt: str
    image: str
    seen: str | None = None
    real: str | None = None
    split: Literal["train", "heldout"] = "heldout"


class Captioned(_Value):
    """A held-out image with its true and its greedy caption."""

    image: str
    truth: str
    predicted: str


class RunRecord(_Value):
    """One recipe trained with one seed.

    entry: what the run is called in a comparison, see ``entry_name``: runs of one entry differ by seed.
    metrics: figures by name, such as ``generation_accuracy``.
    settings: the resolved recipe and training settings, in full.
    facts: what else was measured or fixed: positions, codec training seconds, versions, guidance.
    """

    entry: str
    recipe: str
    seed: int
    metrics: dict[str, float]
    curve: tuple[CurvePoint, ...] = ()
    samples: tuple[Sample, ...] = ()
    captions: tuple[Captioned, ...] = ()
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


def png_base64(image: np.ndarray) -> str:
    """A PNG, base64, of a float image ``[channels, height, width]`` in [0, 1] (clipped; NaN is black)."""
    return base64.b64encode(image_bytes(image)).decode("ascii")


def save_record(path: Path, record: RunRecord) -> None:
    """Writes the record as JSON, whole or not at all."""
    write_text(path, record.model_dump_json(indent=1) + "\n")


def load_record(path: Path) -> RunRecord:
    """Reads a record. Raises TransfuseError naming the file where it is not there or not a record."""
    try:
        return RunRecord.model_validate(read_json(path, "record", LARGEST_RECORD))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise TransfuseError(f"{path}: not a run's record: {place}: {first['msg']}") from error
