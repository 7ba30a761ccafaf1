"""Documents as JSON, with files beside it: what `sample --document` reads, and what `sample --out DIR` writes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.files import read_json, write_json
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality

from transfuse_lab.datasets.file_names import in_text, on_disk


def is_text(modality: Modality) -> bool:
    """Whether its raw data are texts, which stand for themselves, rather than what is loaded from files."""
    suffixes = seam.call(modality, "suffixes")
    return suffixes[0] == ".txt" or (modality.predicts_markers and ".txt" in suffixes)


@dataclass(frozen=True)
class DocumentFiles:
    """How documents of these modalities stand in files: ``[{"text": "seven"}, {"image": "seven.png"}, …]``.

    An entry of a role whose raw data are texts holds the text; of others, a path beside the file.

    droppable: roles whose entries guidance leaves out unless they say ``"droppable": false``; entries of other
        roles are left out where they say true.
    """

    modalities: Mapping[str, Modality]
    droppable: Collection[str]

    def item(self, role: str, data: Any) -> Item:
        """One piece of a prompt."""
        return Item(role, data, noised=False, droppable=role in self.droppable)

    def read(self, path: Path) -> Document:
        """Raises TransfuseError naming the file and the entry."""
        cure = f"write a list such as [{', '.join(map(self._form, self.modalities))}], in UTF-8"
        entries = read_json(path, "document", cure=cure)
        if not isinstance(entries, list):
            raise TransfuseError(f"--document {path}: must be a list: {cure}")
        places = [f"--document {path}: entry {i}" for i in range(len(entries))]
        items = [self._read(*pair, path.parent) for pair in zip(places, entries, strict=True)]
        return Document(tuple(items), source=str(path))

    def write(self, path: Path, items: Collection[Item], names: Mapping[int, str]) -> None:
        """The document of these items; names: of the files beside it, by the item's place."""
        entries = []
        for place, item in enumerate(items):
            entry: dict[str, Any] = {item.modality: in_text(names[place]) if place in names else item.data}
            if item.droppable != (item.modality in self.droppable):
                entry["droppable"] = item.droppable
            entries.append(entry)
        write_json(path, entries)

    def is_path(self, role: str, value: str) -> bool:
        """Whether a document's entry names a file: where a role takes texts and files, by its suffix."""
        modality = self.modalities[role]
        ends_so = Path(value).suffix.lower() in modality.suffixes
        return not is_text(modality) and (ends_so or ".txt" not in modality.suffixes)

    def _form(self, role: str) -> str:
        modality = self.modalities[role]
        return f'{{"{role}": "{"words" if is_text(modality) else f"file{modality.suffixes[0]}"}"}}'

    def _read(self, place: str, entry: Any, folder: Path) -> Item:
        rest = dict(entry) if isinstance(entry, dict) else {}
        droppable = rest.pop("droppable", not rest.keys().isdisjoint(self.droppable))
        if (
            len(rest) != 1
            or not isinstance(droppable, bool)
            or not all(isinstance(value, str) for value in rest.values())
        ):
            forms = " or ".join(map(self._form, self.modalities))
            raise TransfuseError(f"{place} must be {forms}, not {entry!r:.80}")
        ((role, value),) = rest.items()
        if role not in self.modalities:
            raise TransfuseError(f"{place}: this model has {' and '.join(self.modalities)}, not {role!r:.80}")
        is_path = self.is_path(role, value)
        data = seam.call(self.modalities[role], "load", folder / on_disk(value)) if is_path else value
        return Item(role, data, noised=False, droppable=droppable)
