"""What a store says of itself: ``plan.json`` first, ``manifest.json`` in each part when that is done, and one last.

A part without a manifest was not finished, and nothing of it is read; a store without one lacks parts. Each carries a
checksum of itself; a store's has those of its parts, a part's the sizes and hashes of its files and all checksums
of chunks. All of them are JSON, of bounded size, checked field by field.
"""

import hashlib
import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transfuse.files import parse_json
from transfuse.plugin import TransfuseError

from transfuse_adapters.store.arrays import DTYPES, Array
from transfuse_adapters.store.places import Place

MANIFEST, PLAN = "manifest.json", "plan.json"
LARGEST_MANIFEST = 64 * 2**20  # bytes
MOST_PARTS = 1_000_000
FIXED = ConfigDict(extra="forbid", frozen=True)


class Stored(BaseModel):
    """How items of a role are kept: text as UTF-8 bytes, raw arrays, or what a codec gave, of one type.

    payload: the type of what the codec gave, where it is kept in a smaller one; empty: the same.
    """

    model_config = FIXED
    name: str = Field(pattern=r"^[A-Za-z0-9_]{1,64}$")
    kind: Literal["text", "array", "encoded"]
    dtype: str = Field(pattern=DTYPES)
    payload: str = Field(default="", pattern=rf"^$|{DTYPES}")

    @property
    def array(self) -> str:
        """The name of the array that holds them."""
        return f"{'encoded' if self.kind == 'encoded' else 'data'}_{self.name}"


Splits = Annotated[dict[str, Annotated[int, Field(ge=0, lt=2**40)]], Field(min_length=1, max_length=100)]


class Plan(BaseModel):
    """What is to be packed: equal plans, equal stores. Its checksum stands in every part.

    splits: of each how many documents, in this order. origin: the identity of the data set. parts: into how many.
    codecs: by role, the hash of the codec or tokenizer that encodes it; none: raw.
    """

    model_config = FIXED
    format: Literal["transfuse store 2"] = "transfuse store 2"
    name: str = Field(max_length=1000)
    splits: Splits
    reversed_share: float = Field(ge=0, le=1)
    tasks: tuple[str, ...] = Field((), max_length=1000)
    origin: dict[str, Any]
    codecs: dict[str, str] = Field(default_factory=dict, max_length=100)
    parts: int = Field(ge=1, le=MOST_PARTS)


class Part(BaseModel):
    """A finished part: which documents it has, its arrays, and every file of it with its size and hash.

    number, of: ``part i/n``, from 0 on. content: a hash of its documents.
    """

    model_config = FIXED
    format: Literal["transfuse store part 2"] = "transfuse store part 2"
    plan: str
    number: int = Field(ge=0)
    of: int = Field(ge=1, le=MOST_PARTS)
    splits: Splits
    content: str
    stored: tuple[Stored, ...] = Field(max_length=1000)
    arrays: dict[str, Array]
    files: dict[str, tuple[int, str]]


class PartEntry(BaseModel):
    """A part as the store lists it. ids: added to the ids of its documents, where stores were merged."""

    model_config = FIXED
    folder: str = Field(pattern=r"^part-[0-9]{6}$")
    check: str
    splits: Splits
    ids: int = Field(0, ge=0, lt=2**62)


class Manifest(Plan):
    """A finished store: its plan, its parts, and the files of its codecs.

    content: of raw documents what their data set says (`transfuse.datasets.content_hash`), where it does; else a hash
    of the parts'.
    """

    content: str = Field(max_length=1000)

    entries: tuple[PartEntry, ...] = Field(max_length=MOST_PARTS)
    codec_files: dict[str, tuple[int, str]] = Field(default_factory=dict, max_length=1000)


M = TypeVar("M", bound=BaseModel)


def checksum(model: BaseModel) -> str:
    """SHA-256 of its JSON."""
    return hashlib.sha256(json.dumps(model.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def written(model: BaseModel) -> bytes:
    """What its file holds: all fields, and the checksum of them."""
    return json.dumps(model.model_dump(mode="json") | {"check": checksum(model)}, indent=1).encode() + b"\n"


def read(place: Place, name: str, kind: type[M], cure: str) -> M:
    """The inverse. Raises TransfuseError naming the file where it is missing, damaged, changed or another thing."""
    body = place.read(name, LARGEST_MANIFEST)
    file = f"{place}/{name}"
    try:
        fields = parse_json(body.decode())
        if not isinstance(fields, dict):
            raise ValueError("it should hold a mapping")
        check = fields.pop("check")
    except (ValueError, KeyError, RecursionError) as error:
        raise TransfuseError(f"{file} is damaged ({str(error)[:100]}): {cure}") from None
    try:
        found = kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise TransfuseError(
            f"{file} is no {kind.__name__.lower()} of a store ({where}: {first['msg']}): {cure}"
        ) from None
    if checksum(found) != check or written(found) != body:
        raise TransfuseError(f"{file} was changed since it was written (its checksum is another): {cure}")
    return found


def folder_of(number: int) -> str:
    """``part-000003``"""
    return f"part-{number:06d}"
