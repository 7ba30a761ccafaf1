"""`transfuse data build emoji`: pictures and names from two npm packages, in one cached file."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from transfuse.errors import TransfuseError
from transfuse.files import replace
from transfuse_pictures.files import decode_image

from transfuse_lab.datasets.emoji.emoji import COUNT, SIZES, emoji_file, read_built
from transfuse_lab.datasets.emoji.npm import Package, fetch, members
from transfuse_lab.lock import locked

PICTURES = Package(
    "emoji-datasource-twitter",
    "16.0.0",
    "sha512-7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
)
NAMES = Package(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)
PICTURE = r"package/img/twitter/64/[0-9a-f]+(-[0-9a-f]+)*\.png"
LABELS = r"package/en/data\.json"
BUILDING = "building-"


def build_emoji(out: Path | None = None) -> Path:
    """Fetches both packages, and leaves one file in the cache folder; returns its path.

    out: the folder, the cache folder by default. The file appears whole or not at all; one that is there
    and undamaged is left as it is.
    Raises TransfuseError where npm cannot fetch the packages, or the folder cannot be written or another
    process is building there.
    """
    target = emoji_file(out)
    if _is_built(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.parent), _scratch(target.parent) as folder:
            labels = read_labels(fetch(NAMES, folder))
            codes, images = read_pictures(fetch(PICTURES, folder))
            captions = [caption(code, labels) for code in codes]
            if len(set(captions)) != COUNT or len(captions) != COUNT:
                raise TransfuseError(f"emoji: {len(set(captions))} names of {len(captions)}, not {COUNT}")
            _write(folder / target.name, codes, captions, images)
            replace(folder / target.name, target)
    except OSError as error:
        raise TransfuseError(f"data build emoji: {target.parent} cannot be written: {error}") from error
    return target


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder to build in, deleted at the end; and so are those of processes that died over it."""
    for stale in folder.glob(f"{BUILDING}*"):
        if not stale.is_symlink():
            shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=BUILDING) as scratch:
        yield Path(scratch)


def read_labels(path: Path) -> dict[str, str]:
    """CLDR's English short names by code points, without the variation selector: ``1F600`` → grinning face."""
    (_, text), *_ = [*members(path, LABELS, 8 * 2**20)] or [("", b"[]")]
    entries = json.loads(text)
    entries += [skin for entry in entries for skin in entry.get("skins", ())]
    return {plain(entry["hexcode"]): entry["label"] for entry in entries}


def read_pictures(path: Path) -> tuple[list[str], np.ndarray]:
    """Code points as the files are named, in order, and the pictures on white: uint8 ``[n, 3, 64, 64]``."""
    found = {
        PurePosixPath(name).stem: decode_image(BytesIO(content), name, channels=3)
        for name, content in members(path, PICTURE, 2**20)
    }
    codes = sorted(found)
    odd = [code for code in codes if found[code].shape != (3, 64, 64)]
    if odd or not codes:
        raise TransfuseError(
            f"{path.name}: not 64 x 64 pixels: {odd[:3]}" if odd else f"{path.name}: no emoji"
        )
    return codes, np.stack([found[code] for code in codes])


def caption(code: str, labels: dict[str, str]) -> str:
    """The name of an emoji. Raises TransfuseError where CLDR names none of these code points."""
    if plain(code) not in labels:
        raise TransfuseError(f"emoji {code} has no name in {NAMES}")
    return labels[plain(code)]


def plain(code: str) -> str:
    """Code points in capitals, without U+FE0F, which only asks for the coloured form."""
    return "-".join(point for point in code.upper().split("-") if point != "FE0F")


def halved(images: np.ndarray) -> np.ndarray:
    """Every pixel the mean of 2 × 2, rounded: uint8 ``[n, c, h, w]`` → ``[n, c, h/2, w/2]``."""
    n, c, h, w = images.shape
    squares = images.reshape(n, c, h // 2, 2, w // 2, 2)
    return ((squares.sum(axis=(3, 5), dtype=np.uint16) + 2) // 4).astype(np.uint8)


def _is_built(target: Path) -> bool:
    try:
        return all(read_built(target, size) for size in SIZES)
    except TransfuseError:
        return False


def _write(path: Path, codes: list[str], captions: list[str], images: np.ndarray) -> None:
    origin = {"pictures": str(PICTURES), "names": str(NAMES)}
    text = json.dumps({"origin": origin, "codes": codes, "captions": captions})
    with path.open("wb") as file:
        np.savez_compressed(
            file, about=np.frombuffer(text.encode(), np.uint8), size64=images, size32=halved(images)
        )
        file.flush()
        os.fsync(file.fileno())
