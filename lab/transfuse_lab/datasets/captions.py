"""The captions of a folder of images: a listing, `a.txt` beside `a.png`, or the name of the folder each lies in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from transfuse.errors import TransfuseError
from transfuse.files import read_text
from transfuse_pictures.files import SUFFIXES

from transfuse_lab.datasets.file_names import Spellings, in_text, one_form
from transfuse_lab.datasets.found_files import FoundFiles, Links, found_files
from transfuse_lab.datasets.listings import (
    HELDOUT,
    checked_text,
    given_split,
    image_inside,
    objects,
    table_rows,
)

LISTING = "captions.jsonl"
METADATA = (
    "metadata.jsonl",
    "metadata.csv",
)  # as Hugging Face's folders of images have it: with more keys than ours
LISTINGS = (LISTING, *METADATA)
LONGEST_CAPTION = 10_000  # characters
NAMES = {"file_name": "image", "text": "caption"}  # Hugging Face's names of keys, and ours
SPLIT_FOLDERS = {"train": "train", "test": "test"} | dict.fromkeys(
    ("validation", "valid", "val", "dev"), "tune"
)
"""Folders, directly in the data's, whose name says the split of what lies in them, where some are held out."""
KEYS = ("image", "caption", "split", *NAMES)
EXAMPLE = '{"image": "a.png", "caption": "a cat"}'


@dataclass(frozen=True)
class CaptionedFile:
    """An image file with its caption.

    image: path inside the folder, with forward slashes.
    split: where the user gave it, one of `transfuse_lab.datasets.listings.GIVEN`, else None.
    source: where the caption was read, for error messages: ``pets/captions.jsonl line 3``.
    """

    image: str
    caption: str
    split: str | None
    source: str


@dataclass(frozen=True)
class Captions:
    """Every image of a folder with its captions, in the listing's order, else by name.

    account: what became of every file in the folder, in a sentence.
    """

    files: Sequence[CaptionedFile]
    account: str


@dataclass
class _Read:
    """What a way of captioning found. read: the files that captions stand in, and what to call one."""

    files: list[CaptionedFile]
    cure: str
    read: dict[str, str] = field(default_factory=dict)
    note: str = ""


def captions_of(folder: Path, links: Links = "inside", classes: bool = False) -> Captions:
    """Reads all captions of a folder; with ``classes``, an image's caption is the name of the folder it lies in.

    Raises TransfuseError naming file and line: no such folder, no image, an image without a caption or
    a caption without its image, broken JSON, unknown keys, and paths that leave the folder.
    """
    if not folder.is_dir():
        raise TransfuseError(f"data folder {folder}: {'not a folder' if folder.exists() else 'not there'}")
    found = found_files(folder, links)
    images = [name for name in found.names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not images:
        raise TransfuseError(
            f"data folder {folder}: no image ({', '.join(SUFFIXES)}) in it: {found.account({})}"
        )
    places = [*(["."] if _listing(folder, found) else SPLIT_FOLDERS)]
    listings = [name for place in places if (name := _listing(folder, found, place))]
    splits = _split_folders(images)
    if classes:
        read = _Read(_named(folder, images, splits), "move it into the folder of its class")
    elif listings:
        read = _all_listed(folder, listings, links)
    else:
        read = _beside(folder, images, found)
    if bare := sorted(set(images) - {file.image for file in read.files}):
        more = f" (nor have {len(bare) - 1} others)" if len(bare) > 1 else ""
        raise TransfuseError(f"data folder {folder}: {in_text(bare[0])} has no caption{more}: {read.cure}")
    used = dict.fromkeys((file.image for file in read.files), "captioned picture") | read.read
    files = [replace(file, split=file.split or splits.get(_top(file.image))) for file in read.files]
    return Captions(files, found.account(used) + read.note + _said(splits))


def _top(image: str) -> str:
    """The folder, directly in the data's, that it lies in; its own name where it lies in none."""
    return PurePosixPath(image).parts[0]


def _split_folders(images: Sequence[str]) -> dict[str, str]:
    """The split of each folder whose name says one, where there is one to train on and one held out.

    Where none is called test, what is held out is dealt to both splits.
    """
    found = {top: SPLIT_FOLDERS[top] for image in images if (top := _top(image)) in SPLIT_FOLDERS}
    if "train" not in found or len(set(found.values())) == 1:
        return {}
    tested = "test" in found.values()
    return {top: HELDOUT if split == "tune" and not tested else split for top, split in found.items()}


def _said(splits: Mapping[str, str]) -> str:
    held = [name for name, split in splits.items() if split != "train"]
    return f"; the folder train is trained on, {' and '.join(held)} held out" if held else ""


def _listing(folder: Path, found: FoundFiles, place: str = ".") -> str | None:
    """The listing in a folder of the data's. Raises TransfuseError where there are two."""
    names = [path for name in LISTINGS if (path := (PurePosixPath(place) / name).as_posix()) in found.names]
    if len(names) > 1:
        raise TransfuseError(
            f"data folder {folder}: holds {' and '.join(names)}: leave the one that is meant, and move the rest"
        )
    return names[0] if names else None


def _named(folder: Path, images: Sequence[str], splits: Mapping[str, str]) -> list[CaptionedFile]:
    return [
        CaptionedFile(image, _caption(in_text(parent.name), str(folder / image)), None, str(folder / image))
        for image in images
        if (parent := PurePosixPath(image).parent).name and str(parent) not in splits
    ]


def _all_listed(folder: Path, listings: Sequence[str], links: Links) -> _Read:
    """What the listings say, each of the images beside it and below."""
    files, read, notes = [], {}, set[str]()
    for name in listings:
        one, place = (
            _listed(folder / PurePosixPath(name).parent, folder / name, links),
            PurePosixPath(name).parent,
        )
        files += [replace(file, image=(place / file.image).as_posix()) for file in one.files]
        read[name] = "listing"
        notes.add(one.note)
    cure = f"add a line to {' or '.join(listings)}, or move the image out of the folder"
    return _Read(files, cure, read, "".join(sorted(notes)))


def _listed(folder: Path, listing: Path, links: Links) -> _Read:
    keys = KEYS if listing.name == LISTING else None
    records = table_rows if listing.suffix == ".csv" else objects
    files, strange, spellings = [], set[str](), Spellings(folder)
    for source, record in records(folder, listing, keys, EXAMPLE, links):
        strange |= record.keys() - set(KEYS)
        for key, ours in NAMES.items():
            if key in record and ours in record:
                raise TransfuseError(f"{source}: {key!r} and {ours!r} mean the same: leave one out")
            if key in record:
                record[ours] = record.pop(key)
        for key in ("image", "caption"):
            if key not in record:
                other = next(name for name, ours in NAMES.items() if ours == key)
                raise TransfuseError(f"{source}: {key!r} is missing (or {other!r}), as in {EXAMPLE}")
        for key in ("image", "caption", "split"):
            if not isinstance(record.get(key, ""), str):
                raise TransfuseError(f"{source}: {key} must be a string, not {record[key]!r:.80}")
        image = image_inside(spellings, record["image"], source, links)
        caption = _caption(record["caption"], source)
        files.append(CaptionedFile(image, caption, given_split(record, source), source))
    note = f"; in {listing.name} not read: {', '.join(sorted(strange))}" if strange else ""
    return _Read(files, "", {}, note)


def _beside(folder: Path, images: Sequence[str], found: FoundFiles) -> _Read:
    """A text file beside each image, its name the image's up to the suffix. Raises TransfuseError for a text file
    without an image."""
    exact = {_bare(name): name for name in found.names if name.lower().endswith(".txt")}
    texts = {_stem(name): name for name in exact.values()}
    cures = [f"write {LISTING}, or a .txt file beside each image"]
    if deep := [name for name in found.names if PurePosixPath(name).name in LISTINGS]:
        cures.append(f"or read {in_text(deep[0])}: --data '{folder / PurePosixPath(deep[0]).parent}'")
    if any("/" in image for image in images):
        cures.append(f"or take the folders' names for captions: --data '{folder};classes=true'")
    files, read = [], {}
    for image in images:
        name = exact.get(_bare(image)) or texts.get(_stem(image))
        if name is None:
            continue
        path = folder / name
        if path.stat().st_size > 4 * LONGEST_CAPTION:
            raise TransfuseError(f"{path}: longer than {LONGEST_CAPTION} characters")
        caption = _caption(read_text(path, "caption"), str(path))
        files.append(CaptionedFile(image, caption, None, str(path)))
        read[name] = "text file"
    if files and (lost := sorted(set(exact.values()) - read.keys())):
        raise TransfuseError(f"data folder {folder}: {_lost(lost, found)}")
    return _Read(files, ", ".join(cures), read)


def _bare(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _stem(name: str) -> str:
    return one_form(_bare(name))


def _lost(lost: Sequence[str], found: FoundFiles) -> str:
    """The fault of a text file without its image, and its cure."""
    more = f" (nor have {len(lost) - 1} other text files)" if len(lost) > 1 else ""
    fault = f"{in_text(lost[0])} has no image beside it{more}"
    near = [name for name in found.names if _stem(name) == _stem(lost[0]) and name != lost[0]]
    if near:
        return f"{fault}, and {in_text(near[0])} is not of a kind that is read: save it as .png, or move both out"
    return (
        f"{fault}: add the image, move the text out of the folder, or write {LISTING}, which is read instead"
    )


def _caption(text: str, source: str) -> str:
    return checked_text(text.strip(), "caption", source, LONGEST_CAPTION)
