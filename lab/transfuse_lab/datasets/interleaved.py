"""A data set of documents that a user writes: texts and images in any order, each with its own flags."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError, did_you_mean
from transfuse_pictures.files import Fit

from transfuse_lab.datasets.file_names import Spellings, in_text
from transfuse_lab.datasets.found_files import FoundFiles, Links, found_files
from transfuse_lab.datasets.images import PictureForm, Pictures, PicturesInOrder, Side
from transfuse_lab.datasets.listed import ListedDataSet, choose_splits
from transfuse_lab.datasets.listings import checked_text, given_split, image_inside, objects

LISTING = "documents.jsonl"
KEYS = ("items", "split")
FLAGS = ("loss", "noised", "droppable")
EXAMPLE = '{"items": [{"text": "a cat"}, {"image": "a.png"}]}'
LONGEST_TEXT = 100_000  # characters of one item
MOST_ITEMS = 1000  # of one document


@dataclass(frozen=True)
class Line:
    """A document as its line has it. entries: items whose data is the text, or the image's path."""

    entries: tuple[Item, ...]
    split: str
    source: str


class Interleaved(ListedDataSet[Line]):
    """Documents from ``documents.jsonl``, one a line; images are float32 ``[channels, height, width]``.

    path: the folder that holds ``documents.jsonl``, or a file of that form; images are paths beside it.
    texts, images: the roles whose data is text, or an image file; as the recipe's modalities are named.
    side, channels, fit, links: as in `transfuse_lab.datasets.folder.Folder`.

    A line is ``{"items": [{"text": "a cat"}, {"image": "a.png", "noised": false}], "split": "train"}``. An
    item may say ``loss`` (true), ``noised`` (true) and ``droppable`` (false): the flags of
    `transfuse.documents.Item`, with its defaults. Items are read in the order written, at every visit.
    A document whose split is not given gets one by a hash of its items, one in ten ``test``, one in twenty ``tune``.
    Raises TransfuseError naming file, line and item for anything wrong, when it is opened.
    """

    def __init__(
        self,
        path: str | Path,
        side: Side = None,
        channels: int = 3,
        texts: Sequence[str] = ("text",),
        images: Sequence[str] = ("image",),
        fit: Fit = "stretch",
        links: Links = "inside",
    ) -> None:
        listing = Path(path) / LISTING if Path(path).is_dir() else Path(path)
        folder = listing.parent
        form = PictureForm(side, channels, fit)
        form.check(folder)
        _check_roles(listing, texts, images)
        if not listing.is_file():
            raise TransfuseError(f"data {listing}: not there; write one document a line, {EXAMPLE}")
        name = in_text(folder.resolve().name if listing.name == LISTING else listing.stem)
        self._image_roles = frozenset(images)
        # A listing given by name may lie among anything: what is beside it is no part of the data.
        found = found_files(folder, links) if Path(path).is_dir() else FoundFiles((), {})
        lines = _read(folder, listing, texts, images, links)
        shown = {item.data for line in lines for item in line.entries if item.modality in self._image_roles}
        self._images = Pictures(folder, sorted(shown), form)
        used = {listing.name: "listing"} | dict.fromkeys(shown, "picture")
        self._account = found.account(used) + self._images.note
        super().__init__(name, lines, f"data {listing}: no document is left to train on")

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        return self.outline(split, index, ())

    def outline(self, split: str, index: int, roles: Collection[str]) -> Document:
        number, line = self.entry(split, index)
        items = tuple(self._with_pixels(entry, entry.modality in roles) for entry in line.entries)
        return Document(items, number, f"{self.name} {split} {index} ({line.source})")

    def document_roles(self, split: str, index: int) -> list[str]:
        return [entry.modality for entry in self.entry(split, index)[1].entries]

    def raw(self, split: str, modality: str) -> Iterator[Any]:
        lines = (self.entry(split, index)[1] for index in range(self.size(split)))
        data = [entry.data for line in lines for entry in line.entries if entry.modality == modality]
        return PicturesInOrder(self._images, data) if modality in self._image_roles else iter(data)

    def account(self) -> str:
        return self._account

    def _with_pixels(self, entry: Item, outline: bool) -> Item:
        if entry.modality not in self._image_roles:
            return entry
        return replace(entry, data=self._images.outline() if outline else self._images[entry.data])


def _check_roles(listing: Path, texts: Sequence[str], images: Sequence[str]) -> None:
    """Raises TransfuseError where a role could be taken for another one, or for a flag."""
    roles = [*texts, *images]
    for role in roles:
        if not role or role in FLAGS or roles.count(role) > 1:
            raise TransfuseError(
                f"data {listing}: texts and images: {role!r:.80} cannot name a role, or does twice"
            )


def _read(
    folder: Path, listing: Path, texts: Sequence[str], images: Sequence[str], links: Links
) -> list[Line]:
    """Every document of the listing, with its split."""
    spellings = Spellings(folder)
    found: list[tuple[tuple[Item, ...], str | None, str]] = []
    for source, record in objects(folder, listing, KEYS, EXAMPLE, links):
        items = record.get("items")
        if not isinstance(items, list) or not 1 <= len(items) <= MOST_ITEMS:
            raise TransfuseError(f"{source}: items must be a list of 1 to {MOST_ITEMS}, like {EXAMPLE}")
        entries = tuple(
            _entry(spellings, entry, texts, images, f"{source}, item {place}", links)
            for place, entry in enumerate(items)
        )
        found.append((entries, given_split(record, source), source))
    keys = [json.dumps([[entry.modality, entry.data] for entry in entries]) for entries, _, _ in found]
    given: dict[str, str | None] = {}
    for key, (_, split, source) in zip(keys, found, strict=True):
        if split is not None and (given.get(key) or split) != split:
            raise TransfuseError(f"{source}: the same document is {split} here and {given[key]} above")
        given[key] = split or given.get(key)
    splits = choose_splits(given)
    return [Line(entries, splits[key], source) for key, (entries, _, source) in zip(keys, found, strict=True)]


def _entry(
    spellings: Spellings, entry: Any, texts: Sequence[str], images: Sequence[str], source: str, links: Links
) -> Item:
    """One item as its line has it, its image known to be there but not yet read."""
    if not isinstance(entry, dict):
        raise TransfuseError(
            f'{source}: must be an object like {{"{texts[0] if texts else images[0]}": "..."}}'
        )
    roles = [key for key in entry if key not in FLAGS]
    for key in roles:
        if key not in (*texts, *images):
            known = (*texts, *images, *FLAGS)
            raise TransfuseError(f"{source}: unknown key {key!r:.80}, {did_you_mean(key, known)}")
    if len(roles) != 1:
        raise TransfuseError(
            f"{source}: holds {' and '.join(roles) or 'no data'}; an item is one text or one image"
        )
    (role,) = roles
    for flag in FLAGS:
        if not isinstance(entry.get(flag, True), bool):
            raise TransfuseError(f"{source}: {flag} must be true or false, not {entry[flag]!r:.80}")
    data = entry[role]
    if not isinstance(data, str):
        raise TransfuseError(f"{source}: {role} must be a string, not {data!r:.80}")
    data = (
        image_inside(spellings, data, source, links)
        if role in images
        else checked_text(data, role, source, LONGEST_TEXT)
    )
    return Item(role, data, **{flag: entry[flag] for flag in FLAGS if flag in entry})
