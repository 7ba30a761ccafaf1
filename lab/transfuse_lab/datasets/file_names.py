"""Names of files and the same names in texts: UTF-8 on the disk whatever the locale, so a folder means one thing."""

import os
import unicodedata
from pathlib import Path, PurePosixPath


def on_disk(name: str) -> str:
    """A name that a text gives, as this process calls the file: the same, but where the locale is not UTF-8."""
    return os.fsdecode(name.encode("utf-8", "surrogatepass"))


def in_text(name: str) -> str:
    """The name of a file as text: bytes that are no UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def one_form(name: str) -> str:
    """The same for all spellings of a name in Unicode: an é may be one letter, or an e and its accent."""
    return unicodedata.normalize("NFC", in_text(name))


class Spellings:
    """Finds files of a folder whose names are written in another Unicode form there, as macOS and its archives do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[PurePosixPath, dict[str, str]] = {}

    def find(self, path: PurePosixPath) -> PurePosixPath:
        """The path as it is on the disk, or as it was given where there is none in any form."""
        found = PurePosixPath()
        for part in path.parts:
            if not (self.folder / found / part).exists():
                part = self._listed(found).get(one_form(part), part)
            found /= part
        return found

    def _listed(self, place: PurePosixPath) -> dict[str, str]:
        if place not in self._names:
            try:
                names = os.listdir(self.folder / place)
            except OSError:
                names = []
            self._names[place] = {one_form(name): name for name in names}
        return self._names[place]
