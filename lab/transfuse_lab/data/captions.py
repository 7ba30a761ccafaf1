"""The captions of a folder of images: `captions.jsonl`, or `a.txt` beside `a.png`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from transfuse.datasets import SPLITS
from transfuse.errors import TransfuseError, did_you_mean

SUFFIXES = (".png", ".jpg", ".jpeg")
LISTING = "captions.jsonl"
LONGEST_CAPTION = 10_000  # characters
LARGEST_LISTING = 256 * 2**20  # bytes
KEYS = ("image", "caption", "split")


@dataclass(frozen=True)
class CaptionedFile:
    """An image file with its caption.

    image: path inside the folder, with forward slashes.
    split: ``train`` or ``heldout`` where the user said so, else None.
    origin: where the caption was read, for error messages: ``pets/captions.jsonl line 3``.
    """

    image: str
    caption: str
    split: str | None
    origin: str


def captioned_files(folder: Path) -> list[CaptionedFile]:
    """Every image of the folder with its captions, in the listing's order, else by name.

    Raises TransfuseError naming file and line: no such folder, no image, an image without a caption or
    a caption without its image, broken JSON, unknown keys, and paths that leave the folder.
    """
    if not folder.is_dir():
        raise TransfuseError(f"data folder {folder}: {'not a folder' if folder.exists() else 'not there'}")
    images = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    for image in images:
        _refuse_leading_out(folder, image)
    if not images:
        raise TransfuseError(f"data folder {folder}: no image ({', '.join(SUFFIXES)}) in it")
    if (folder / LISTING).is_file():
        files = list(_listed(folder, folder / LISTING))
        cure = f"add a line to {LISTING}, or move the image out of the folder"
    else:
        files = [found for image in images if (found := _beside(folder, image)) is not None]
        cure = f"write {LISTING}, or a .txt file beside each image"
    bare = sorted(set(images) - {file.image for file in files})
    if bare:
        more = f" (nor have {len(bare) - 1} others)" if len(bare) > 1 else ""
        raise TransfuseError(f"data folder {folder}: {bare[0]} has no caption{more}: {cure}")
    return files


def _listed(folder: Path, listing: Path) -> Iterator[CaptionedFile]:
    _refuse_leading_out(folder, LISTING)
    if listing.stat().st_size > LARGEST_LISTING:
        raise TransfuseError(f"{listing}: larger than {LARGEST_LISTING} bytes; pack the data into a store")
    for number, line in enumerate(listing.read_bytes().split(b"\n"), start=1):
        if line.strip():
            yield _read_line(folder, line, f"{listing} line {number}")


def _read_line(folder: Path, line: bytes, origin: str) -> CaptionedFile:
    try:
        record: Any = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TransfuseError(f"{origin}: not JSON in UTF-8: {str(error)[:200]}") from error
    if not isinstance(record, dict):
        raise TransfuseError(f'{origin}: not an object like {{"image": "a.png", "caption": "a cat"}}')
    for key, value in record.items():
        if key not in KEYS:
            raise TransfuseError(f"{origin}: unknown key {key!r:.80}, {did_you_mean(key, KEYS)}")
        if not isinstance(value, str):
            raise TransfuseError(f"{origin}: {key} must be a string, not {value!r:.80}")
    for key in ("image", "caption"):
        if key not in record:
            raise TransfuseError(f"{origin}: {key!r} is missing")
    split = record.get("split")
    if split is not None and split not in SPLITS:
        raise TransfuseError(f"{origin}: split must be one of {', '.join(SPLITS)}, not {split!r:.80}")
    image = _inside(folder, record["image"], origin)
    return CaptionedFile(image, _checked_caption(record["caption"], origin), split, origin)


def _inside(folder: Path, name: str, origin: str) -> str:
    """The image's path with forward slashes, once it is known to lie in the folder and be an image."""
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        raise TransfuseError(f"{origin}: image {name!r:.80} must be a path inside the folder, without '..'")
    if path.suffix.lower() not in SUFFIXES:
        raise TransfuseError(f"{origin}: image {name!r:.80} is not one of {', '.join(SUFFIXES)}")
    try:
        there = (folder / path).is_file()
    except OSError:  # a name too long for the file system
        there = False
    if not there:
        raise TransfuseError(f"{origin}: image {name!r:.80} is not in the folder {folder}")
    return path.as_posix()


def _refuse_leading_out(folder: Path, name: str) -> None:
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise TransfuseError(f"data folder {folder}: {name} is a link that leads out of the folder")


def _beside(folder: Path, image: str) -> CaptionedFile | None:
    path = (folder / image).with_suffix(".txt")
    if not path.is_file():
        return None
    _refuse_leading_out(folder, path.relative_to(folder).as_posix())
    if path.stat().st_size > 4 * LONGEST_CAPTION:
        raise TransfuseError(f"{path}: longer than {LONGEST_CAPTION} characters")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise TransfuseError(f"{path}: not UTF-8: {error}") from error
    return CaptionedFile(image, _checked_caption(text, str(path)), None, str(path))


def _checked_caption(text: str, origin: str) -> str:
    caption = text.strip()
    if not caption:
        raise TransfuseError(f"{origin}: the caption is empty")
    if len(caption) > LONGEST_CAPTION:
        raise TransfuseError(f"{origin}: the caption is longer than {LONGEST_CAPTION} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in caption):
        raise TransfuseError(f"{origin}: the caption holds half a surrogate pair, which is not text")
    return caption
