"""What lies in a data folder: every file is found, and is used or named."""

import os
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transfuse.errors import TransfuseError

from transfuse_lab.datasets.file_names import in_text

Links = Literal["inside", "follow"]
"""Links that lead out of the folder are refused, or followed as those inside are."""
KINDS = 6  # of files not used, that a sentence names


@dataclass(frozen=True)
class FoundFiles:
    """All files of a folder and the folders in it, by their paths inside it, with forward slashes.

    names: those that may be data, sorted. others: why each of the others is none.
    """

    names: tuple[str, ...]
    others: Mapping[str, str]

    def account(self, used: Mapping[str, str]) -> str:
        """What became of every file, in a sentence. used: what files are used as, each in the singular."""
        unused = {name: _suffix(name) for name in self.names} | dict(self.others)
        unused = {name: kind for name, kind in unused.items() if name not in used}
        parts = [f"{count:,} {what}{'s' * (count > 1)}" for what, count in Counter(used.values()).items()]
        total = len(used) + len(unused)
        told = f"{total:,} file{'s' * (total != 1)}: {', '.join(parts) or 'none is used'}"
        if not unused:
            return told
        kinds = Counter(unused.values()).most_common()
        first: dict[str, str] = {}
        for name in sorted(unused, key=os.fsencode):
            first.setdefault(unused[name], in_text(name))
        named = [f"{count:,} {kind} (first {first[kind]})" for kind, count in kinds[:KINDS]]
        if rest := sum(count for _, count in kinds[KINDS:]):
            named.append(f"{rest:,} of other kinds")
        return f"{told}; {len(unused):,} not used: {', '.join(named)}"


def _suffix(name: str) -> str:
    return in_text(os.path.splitext(name)[1].lower()) or "without a suffix"


def found_files(folder: Path, links: Links = "inside") -> FoundFiles:
    """Looks through a folder. Names that begin with a dot are hidden, and hidden folders are one thing each.

    Links are followed, and each folder is read once: where it is, else by the first link that leads to it. Raises
    TransfuseError where a link leads out of the folder and ``links`` does not say to follow it, and where the
    system refuses to read.
    """
    root = folder.resolve()
    names: list[str] = []
    others: dict[str, str] = {}
    seen: set[Path] = set()
    linked: deque[str] = deque()

    def look(place: str, real: Path) -> None:
        if real in seen:
            others[place] = "linked again"
            return
        seen.add(real)
        with os.scandir(folder / place) as listed:
            entries = sorted(listed, key=lambda entry: os.fsencode(entry.name))
        for entry in entries:
            name = f"{place}/{entry.name}" if place else entry.name
            if entry.name.startswith("."):
                others[name] = "hidden"
                continue
            if entry.is_symlink():
                refuse_leading_out(folder, name, links, root)
            if os.path.isfile(entry.path):
                names.append(name)
            elif not os.path.isdir(entry.path):
                others[name] = "linked to nothing" if entry.is_symlink() else "of no regular kind"
            elif entry.is_symlink():
                linked.append(name)
            else:
                look(name, real / entry.name)

    try:
        look("", root)
        while linked:
            name = linked.popleft()
            look(name, Path(os.path.realpath(folder / name)))
    except OSError as error:
        raise TransfuseError(
            f"data folder {folder}: {error.filename} cannot be read ({error.strerror}): allow it, or move it elsewhere"
        ) from None
    return FoundFiles(tuple(sorted(names, key=os.fsencode)), others)


def refuse_leading_out(folder: Path, name: str, links: Links, root: Path | None = None) -> None:
    """Raises TransfuseError where a file of the folder is a link to something outside of it that is not to be
    followed. root: the folder resolved, if it is known."""
    if links == "follow":
        return
    real = Path(os.path.realpath(folder / name))
    if not real.is_relative_to(root or folder.resolve()):
        raise TransfuseError(
            f"data folder {folder}: {in_text(name)} is a link that leads out of the folder, to {real}: copy that here, "
            f"or have such links followed: --data '{folder};links=follow'"
        )
