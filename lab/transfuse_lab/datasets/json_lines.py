"""A listing in JSON lines, an object a line, which names files beside it; every fault is named with its line."""

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


def objects(
    folder: Path, listing: Path, keys: Sequence[str] | None, example: str, links: Links = "inside"
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's place (``pets/captions.jsonl line 3``) and its object; empty lines are passed over.

    keys: what an object may hold; None: anything. Raises TransfuseError naming the line that is no JSON object, or has
    another key or one twice, and where the listing is too large, not UTF-8 or a link that leads out of the folder.
    """
    refuse_leading_out(folder, listing.name, links)
    if listing.stat().st_size > LARGEST_LISTING:
        raise TransfuseError(f"{listing}: larger than {LARGEST_LISTING} bytes; pack the data into a store")
    text = read_text(listing, "listing", LARGEST_LISTING)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            source = f"{listing} line {number}"
            yield source, _object(line, source, keys, example)


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
    for key in record:
        if keys is not None and key not in keys:
            raise TransfuseError(f"{source}: unknown key {key!r:.80}, {did_you_mean(key, keys)}")
    return record


def given_split(record: dict[str, Any], source: str) -> str | None:
    """The split that an object gives, None where it gives none."""
    split = record.get("split")
    if split is not None and split not in SPLITS:
        raise TransfuseError(f"{source}: split must be one of {', '.join(SPLITS)}, not {split!r:.80}")
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
