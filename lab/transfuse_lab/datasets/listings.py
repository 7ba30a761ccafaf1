"""Listings, JSON lines or a table, which name files beside them; every fault is named with its line."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from transfuse.datasets import SPLITS
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.files import parse_json, read_text
from transfuse_pictures.files import SUFFIXES

from transfuse_lab.datasets.file_names import Spellings, on_disk
from transfuse_lab.datasets.found_files import Links, refuse_leading_out

LARGEST_LISTING = 256 * 2**20  # bytes
HELDOUT = "heldout"
GIVEN = (*SPLITS, HELDOUT)
"""What a listing may say of a document's split; `HELDOUT` is one of tune and test, whichever."""


def objects(
    folder: Path, listing: Path, keys: Sequence[str] | None, example: str, links: Links = "inside"
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's place (``pets/captions.jsonl line 3``) and its object; empty lines are passed over.

    keys: what an object may hold; None: anything. Raises TransfuseError naming the line that is no JSON object, or has
    another key or one twice, and where the listing is too large, not UTF-8 or a link that leads out of the folder.
    """
    for number, line in enumerate(_text(folder, listing, links).split("\n"), start=1):
        if line.strip():
            source = f"{listing} line {number}"
            yield source, _object(line, source, keys, example)


def table_rows(
    folder: Path, listing: Path, keys: Sequence[str] | None, example: str, links: Links = "inside"
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same of a table with commas, whose first line names the keys; a row is the line on which it ends."""
    lines = _text(folder, listing, links).splitlines(keepends=True)
    reader = csv.reader(lines, strict=True)
    try:
        head = next(reader, [])
        if len(set(head)) < len(head):
            raise TransfuseError(f"{listing} line 1: names a column twice")
        for row in reader:
            source = f"{listing} line {reader.line_num}"
            if len(row) not in (0, len(head)):
                raise TransfuseError(f"{source}: has {len(row)} columns and the first line {len(head)}")
            if row:
                record: dict[str, Any] = dict(zip(head, row, strict=True))
                yield source, _known(record, source, keys)
    except csv.Error as error:
        raise TransfuseError(f"{listing} line {reader.line_num}: not a table with commas: {error}") from None


def _text(folder: Path, listing: Path, links: Links) -> str:
    refuse_leading_out(folder, listing.name, links)
    if listing.stat().st_size > LARGEST_LISTING:
        raise TransfuseError(f"{listing}: larger than {LARGEST_LISTING} bytes; shorten it")
    return read_text(listing, "listing", LARGEST_LISTING)


def _object(line: str, source: str, keys: Sequence[str] | None, example: str) -> dict[str, Any]:
    try:
        record: Any = parse_json(line)
    except (ValueError, RecursionError) as error:
        raise TransfuseError(
            f"{source}: not JSON: {str(error)[:200]}; write one object a line, nothing around or between them, "
            f"like {example}"
        ) from error
    if not isinstance(record, dict):
        raise TransfuseError(f"{source}: not an object like {example}")
    return _known(record, source, keys)


def _known(record: dict[str, Any], source: str, keys: Sequence[str] | None) -> dict[str, Any]:
    for key in record:
        if keys is not None and key not in keys:
            raise TransfuseError(f"{source}: unknown key {key!r:.80}, {did_you_mean(key, keys)}")
    return record


def given_split(record: dict[str, Any], source: str) -> str | None:
    """The split that an object gives, None where it gives none."""
    split = record.get("split")
    if split is not None and split not in GIVEN:
        raise TransfuseError(f"{source}: split must be one of {', '.join(GIVEN)}, not {split!r:.80}")
    return split


def image_inside(spellings: Spellings, name: str, source: str, links: Links = "inside") -> str:
    """The image's path with forward slashes, as it is on the disk, once it is known to lie in the folder and be an
    image. spellings: of that folder."""
    folder, path = spellings.folder, PurePosixPath(on_disk(name))
    if not name or "\0" in name or path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        raise TransfuseError(f"{source}: image {name!r:.80} must be a path inside the folder, without '..'")
    if path.suffix.lower() not in SUFFIXES:
        raise TransfuseError(f"{source}: image {name!r:.80} is not one of {', '.join(SUFFIXES)}")
    try:
        path = spellings.find(path)
        there = (folder / path).is_file()
    except OSError:  # a name too long for the file system
        there = False
    if not there:
        raise TransfuseError(f"{source}: image {name!r:.80} is not in the folder {folder}")
    refuse_leading_out(folder, path.as_posix(), links)
    return path.as_posix()


def checked_text(text: str, what: str, source: str, longest: int) -> str:
    """The text, once it is known to be some, encodable and of at most ``longest`` characters."""
    if not text:
        raise TransfuseError(f"{source}: the {what} is empty")
    if len(text) > longest:
        raise TransfuseError(f"{source}: the {what} is longer than {longest} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise TransfuseError(f"{source}: the {what} holds half a surrogate pair, which is not text")
    return text
