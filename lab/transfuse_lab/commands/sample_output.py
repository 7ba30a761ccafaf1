"""Where samples go: printed, one file each, a folder of documents, or drawn on a sheet."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.files import writing
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality

from transfuse_lab.commands.document_files import DocumentFiles, is_text
from transfuse_lab.drawing.sheet import Cell, save_sheet
from transfuse_lab.output_paths import SHEETS, check_file, check_folder
from transfuse_lab.progress import say
from transfuse_lab.raw_drawing import draw, drawn

ENDED = "the model ended the document here"


def check_place(out: Path | None) -> None:
    """Raises TransfuseError where nothing can be written at ``out``: known before a run is opened."""
    if out is not None and is_folder(out):
        check_folder("--out", out)
    elif out is not None:
        check_file("--out", out, (out.suffix.lower(),))


def _save(modality: Modality, raw: Any, path: Path) -> None:
    """A modality's ``save``, in a folder that is there: modalities with a way of their own make none."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    seam.call(modality, "save", raw, path)


def is_folder(out: Path) -> bool:
    """Whether it means a folder: one is there, or the name has no suffix."""
    return not out.suffix or out.is_dir()


class Output:
    """Takes samples in order. This one prints the texts among what is new, and others do so too.

    want: the role that was asked for; None: whatever the model writes.
    """

    def __init__(self, files: DocumentFiles, want: str | None) -> None:
        self.files, self.want = files, want

    def take(self, number: int, document: Document, given: int) -> None:
        """Sample ``number``: a document whose first ``given`` items were its prompt."""
        new = document.items[given:]
        if not new:
            say(ENDED)
        for item in new:
            if isinstance(item.data, str):
                say(item.data if self.want else f"{item.modality}: {item.data}")

    def finish(self) -> None:
        """All were taken."""


class FilesOutput(Output):
    """What was asked for, a file each; numbered if there are several."""

    def __init__(self, files: DocumentFiles, want: str, out: Path, several: bool) -> None:
        super().__init__(files, want)
        self.modality, self.out, self.several = files.modalities[want], out, several

    def take(self, number: int, document: Document, given: int) -> None:
        super().take(number, document, given)
        path = self.out.with_name(f"{self.out.stem}-{number}{self.out.suffix}") if self.several else self.out
        _save(self.modality, document.items[-1].data, path)
        say(f"{self.want}: {path}")


class FolderOutput(Output):
    """A document each, as JSON that ``--document`` reads; beside it a file for each item that is no text."""

    def __init__(self, files: DocumentFiles, want: str | None, out: Path) -> None:
        super().__init__(files, want)
        self.out, self.count = out, 0
        self.written: set[str] = set()  # of what was given, the same for all

    def take(self, number: int, document: Document, given: int) -> None:
        super().take(number, document, given)
        names: dict[int, str] = {}
        for place, item in enumerate(document.items):
            if isinstance(item.data, str) and not self.files.is_path(item.modality, item.data):
                continue
            modality = self.files.modalities[item.modality]
            of = number if place >= given else "given"
            names[place] = name = f"{of}-{place}{seam.call(modality, 'suffix_for', item.data)}"
            if name not in self.written:
                _save(modality, item.data, self.out / name)
            if place >= given:
                say(f"{item.modality}: {self.out / name}")
            else:
                self.written.add(name)
        self.files.write(self.out / f"{number}.json", document.items, names)
        self.count += 1

    def finish(self) -> None:
        say(f"{self.count} document{'s' * (self.count > 1)}: {self.out}")


class SheetOutput(Output):
    """Drawings of what is new on one sheet. In a PNG texts are left out: they are printed.

    prompts: a row each if there are several; else rows of about equal number, or, where the model wrote what it
        liked, a row a sample.
    """

    def __init__(
        self, files: DocumentFiles, want: str | None, out: Path, prompts: Sequence[str], n: int
    ) -> None:
        super().__init__(files, want)
        self.out, self.prompts, self.n = out, prompts, n
        self.samples: list[list[Cell]] = []

    def take(self, number: int, document: Document, given: int) -> None:
        super().take(number, document, given)
        new = document.items[given:]
        if self.out.suffix.lower() == ".png":
            new = tuple(item for item in new if not isinstance(item.data, str))
        elif not new:
            self.samples.append([Cell(draw(ENDED))])
        self.samples.append([Cell(self._drawing(item)) for item in new])

    def finish(self) -> None:
        rows = self.samples
        if self.want:
            cells = [cell for sample in rows for cell in sample]
            across = self.n if len(self.prompts) > 1 else math.ceil(math.sqrt(len(cells)))
            rows = [cells[i : i + across] for i in range(0, len(cells), across)]
        if len(self.prompts) > 1:
            rows = [
                [Cell(row[0].drawing, prompt), *row[1:]]
                for prompt, row in zip(self.prompts, rows, strict=True)
            ]
        if not any(rows):
            say(f"nothing was made that a {self.out.suffix} shows: {self.out} is not written")
            return
        save_sheet([row for row in rows if row], self.out, "--out")
        of = (
            f"{self.n} x {', '.join(map(repr, self.prompts))}"
            if self.prompts
            else f"{self.n} sample{'s' * (self.n > 1)}"
        )
        say(f"{of}: {self.out}")

    def _drawing(self, item: Item) -> str | bytes:
        return drawn(self.files.modalities[item.modality], item.data)


def output(
    out: Path | None, want: str | None, files: DocumentFiles, prompts: Sequence[str], n: int
) -> Output:
    """What takes ``n`` samples of each prompt (of one thing, where there is none).

    Raises TransfuseError where ``out`` is none for what is wanted, before anything is drawn.
    """
    roles = {want: files.modalities[want]} if want else files.modalities
    if out is None:
        if shown := [role for role, modality in roles.items() if not is_text(modality)]:
            raise TransfuseError(
                f"--out is missing: a folder for {' and '.join(shown)}, or the file of a sheet such as samples.svg"
            )
        return Output(files, want)
    suffix = out.suffix.lower()
    if is_folder(out):
        return FolderOutput(files, want, out)
    if suffix in SHEETS:
        if suffix == ".png" and want and not draws_pictures(roles[want]):
            raise TransfuseError(
                f"--out {out}: drawings of {want} are no PNGs: give a name that ends in .svg"
            )
        return SheetOutput(files, want, out, prompts, n)
    if want and suffix in seam.call(roles[want], "suffixes"):
        return FilesOutput(files, want, out, n * max(1, len(prompts)) > 1)
    own = f", or a file of {want} ({', '.join(roles[want].suffixes)})" if want else ""
    raise TransfuseError(f"--out {out}: cannot be written: give a folder, a sheet ({', '.join(SHEETS)}){own}")


def draws_pictures(modality: Modality) -> bool:
    """Whether its items are drawn as PNGs; known from one that holds nothing."""
    labels = seam.call(modality, "labels")
    if not labels:
        return False
    nothing = seam.call(modality, "decode", seam.payload(modality, "blank", labels[0]))
    return isinstance(seam.call(modality, "draw", nothing), bytes)
