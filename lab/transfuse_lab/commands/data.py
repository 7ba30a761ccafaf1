"""`transfuse data`: data sets are built from the packages they come in, and shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfuse.documents import Document
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.registry.plugins import Plugins

from transfuse_lab.datasets import open_data
from transfuse_lab.drawing.sheet import Cell, save_sheet
from transfuse_lab.output_paths import SHEETS, check_file, check_folder
from transfuse_lab.progress import say
from transfuse_lab.raw_drawing import draw

ACROSS = 8  # drawings a row of a sheet
BUILT = ("emoji",)  # data sets that are fetched and built once; the others are at hand


def build(name: str, out: Path | None) -> Path:
    """Builds a data set into the cache folder, or into ``out``, and returns the file.

    Raises TransfuseError where it is none that is built, cannot be fetched, or cannot be written.
    """
    if name not in BUILT:
        raise TransfuseError(
            f"data build {name!r}: there is no such data set to build; {did_you_mean(name, BUILT)}"
        )
    from transfuse_lab.datasets.emoji.build import build_emoji

    if out is not None:
        check_folder("--out", out)

    return build_emoji(out)


def show(name: str, split: str, n: int, out: Path | None, plugins: Plugins) -> None:
    """Prints the first ``n`` documents of a split, an item a line; with ``out`` they are drawn on a sheet too.

    Raises TransfuseError where the data set or the split is not there, or ``out`` cannot be written.
    """
    if out is not None:
        check_file("--out", out, SHEETS)
    data = open_data(name, plugins)
    documents = [data.document(split, index) for index in range(min(n, data.size(split)))]
    if not documents:
        raise TransfuseError(f"data set {data.name!r}: split {split!r} is empty: give another --split")
    png = out is not None and out.suffix.lower() == ".png"
    drawn = [cells for document in documents if out is not None and (cells := _cells(document, png))]
    if out is not None and not drawn:
        raise TransfuseError(f"--out {out}: none of these is a picture: give a name that ends in .svg")
    for document in documents:
        for item in document.items:
            say(f"{document.source}  {item.modality}: {_in_words(item.data)}")
    if out is not None:
        save_sheet(_in_rows(drawn), out, "--out")
        say(f"{len(drawn)} of {len(documents)} documents: {out}")


def _in_words(raw: Any) -> str:
    return (
        raw
        if isinstance(raw, str)
        else f"{getattr(raw, 'dtype', type(raw).__name__)} {getattr(raw, 'shape', '')}"
    )


def _cells(document: Document, pictures_only: bool) -> list[Cell]:
    """A drawing of each item that is no text, the texts below the first; a text that stands alone is drawn itself."""
    from transfuse_pictures.codec import is_image
    from transfuse_pictures.files import image_bytes

    drawings = [
        image_bytes(item.data) if is_image(item.data) else draw(item.data)
        for item in document.items
        if not isinstance(item.data, str)
    ]
    texts = " / ".join(item.data for item in document.items if isinstance(item.data, str))
    if not drawings:
        return [] if pictures_only else [Cell(draw(texts))]
    return [Cell(drawings[0], texts), *map(Cell, drawings[1:])]


def _in_rows(drawn: Sequence[list[Cell]]) -> list[list[Cell]]:
    """Documents beside each other, none broken over two rows unless it is longer than one."""
    rows: list[list[Cell]] = [[]]
    for cells in drawn:
        if rows[-1] and len(rows[-1]) + len(cells) > ACROSS:
            rows.append([])
        rows[-1] += cells
    return rows
