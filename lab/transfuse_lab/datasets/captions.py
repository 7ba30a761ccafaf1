"""The captions of a folder of images: `captions.jsonl`, or `a.txt` beside `a.png`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transfuse.errors import TransfuseError
from transfuse.files import read_text

from transfuse_lab.datasets.json_lines import (
    IMAGES,
    checked_text,
    given_split,
    image_inside,
    objects,
    refuse_leading_out,
)

LISTING = "captions.jsonl"
LONGEST_CAPTION = 10_000  # characters
KEYS = ("image", "caption", "split")


@dataclass(frozen=True)
class CaptionedFile:
    """An image file with its caption.

    image: path inside the folder, with forward slashes.
    split: ``train`` or ``heldout`` where the user gave it, else None.
    source: where the caption was read, for error messages: ``pets/captions.jsonl line 3``.
    """

    image: str
    caption: str
    split: str | None
    source: str


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
        if path.suffix.lower() in IMAGES and path.is_file()
    )
    for image in images:
        refuse_leading_out(folder, image)
    if not images:
        raise TransfuseError(f"data folder {folder}: no image ({', '.join(IMAGES)}) in it")
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
    for source, record in objects(folder, listing, KEYS, '{"image": "a.png", "caption": "a cat"}'):
        for key, value in record.items():
            if not isinstance(value, str):
                raise TransfuseError(f"{source}: {key} must be a string, not {value!r:.80}")
        for key in ("image", "caption"):
            if key not in record:
                raise TransfuseError(f"{source}: {key!r} is missing")
        split = given_split(record, source)
        image = image_inside(folder, record["image"], source)
        yield CaptionedFile(image, _caption(record["caption"], source), split, source)


def _beside(folder: Path, image: str) -> CaptionedFile | None:
    path = (folder / image).with_suffix(".txt")
    if not path.is_file():
        return None
    refuse_leading_out(folder, path.relative_to(folder).as_posix())
    if path.stat().st_size > 4 * LONGEST_CAPTION:
        raise TransfuseError(f"{path}: longer than {LONGEST_CAPTION} characters")
    text = read_text(path, "caption")
    return CaptionedFile(image, _caption(text, str(path)), None, str(path))


def _caption(text: str, source: str) -> str:
    return checked_text(text.strip(), "caption", source, LONGEST_CAPTION)
