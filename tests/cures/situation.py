"""A folder, and a person in it who gives commands, reads what is said, and does as told."""

import re
import shlex
import shutil
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from tests.tiny.recipes import sets


def cures(*parts: str) -> pytest.MarkDecorator:
    """Marks a test that meets these texts (`texts.text_of`) and does what they say, and it works."""
    return pytest.mark.cures(*parts)


TINY, CODES, FLOPS = sets("transfusion"), sets("chameleon"), sets("transfusion", "train.flops=1e6")


@dataclass(frozen=True)
class Row:
    """A command that is refused, what its message is searched for, and the command that does what it says.

    ``{}`` in the right one is what the pattern's groups found; TINY in both are settings of a tiny recipe on
    pets (TINY_SETS without the pets), CODES of one with a VQ autoencoder, and FLOPS those with a budget that a
    comparison takes.
    """

    wrong: str
    cure: str
    right: str


def rows(table: Mapping[str | tuple[str, ...], tuple[str, str, str]]) -> pytest.MarkDecorator:
    """A test for each row of a table; its key is the text that is met, or several."""
    cases = []
    for parts, row in table.items():
        parts = (parts,) if isinstance(parts, str) else parts
        cases.append(pytest.param(Row(*row), marks=cures(*parts), id=parts[0]))
    return pytest.mark.parametrize("row", cases)


class Situation:
    """The folder is the working directory. ``said``: all that commands have said so far, the newest last."""

    def __init__(self, folder: Path, cli: Callable[..., Result]) -> None:
        self.folder, self.cli, self.said = folder, cli, list[str]()

    # -- commands

    def works(self, *words: Any) -> str:
        """The command succeeds; all that it printed."""
        done = self._done(words)
        assert done.exit_code == 0, (words, self.said[-1], done.exception)
        return self.said[-1]

    def refused(self, *words: Any, but: Collection[str] = ()) -> str:
        """The command is refused in one line, further ones set in; what lay in the folder lies there unchanged.

        but: names of files that the command may have changed before.
        """
        before = self._files()
        done = self._done(words)
        assert done.exit_code == 2, (words, self.said[-1], done.exception)
        first, *more = done.stderr.strip().removeprefix("warning: ").splitlines()
        error = next(line for line in (first, *more) if line.startswith("error: "))
        assert all(line.startswith(("  ", "error: ", "warning: ")) for line in more), done.stderr
        after = self._files()
        lost = [path for path, was in before.items() if after.get(path) != was and path.name not in but]
        assert not lost, f"lost or changed: {lost}"
        return done.stderr[done.stderr.index(error) + len("error: ") :].strip()

    def _done(self, words: tuple[Any, ...]) -> Result:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            done = self.cli(*words)
        told = [str(one.message) for one in told if issubclass(one.category, UserWarning)]
        self.said.append("\n".join([*told, done.output]))
        return done

    def _files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    def follows(self, row: "Row") -> None:
        """What a row of a table says, with the run and the data that its commands name."""
        if "run" in shlex.split(row.wrong):
            self.works(*self.train())
        self.refused(*self._words(row.wrong))
        found = re.search(row.cure, self.said[-1])
        assert found is not None, (row.cure, self.said[-1])
        right = row.right
        for group in found.groups():
            right = right.replace("{}", group, 1)
        self.works(*self._words(right))

    def _words(self, command: str) -> list[str]:
        words = shlex.split(command)
        meant = {
            "TINY": ["--data", "pets", *TINY],
            "TINY_SETS": [*TINY],
            "CODES": ["--data", "pets", *CODES],
            "FLOPS": ["--data", "pets", *FLOPS],
        }
        return [word for each in words for word in meant.get(each, [each])]

    # -- what commands said

    def finds(self, pattern: str, times: int = -1) -> str:
        """What the group of a pattern has in what was said last."""
        found = re.search(pattern, self.said[times])
        assert found is not None, (pattern, self.said[times])
        return found[1]

    # -- what lies in the folder

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def picture(self, name: str, side: int = 8, shade: int = 0, wide: int | None = None) -> Path:
        from PIL import Image

        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((side, wide or side), shade, np.uint8)).save(path)
        return path

    def pets(self, count: int = 6, folder: str = "pets", captions: bool = True, side: int = 8) -> None:
        """Captioned pictures, the same for the same number."""
        for i in range(count):
            self.picture(f"{folder}/p{i}.png", side, 30 * i % 256)
            if captions:
                self.write(f"{folder}/p{i}.txt", f"pet {i}")

    def delete(self, name: str) -> None:
        path = self.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    # -- commands that are given often

    def train(
        self, *settings: str, recipe: str = "transfusion", data: str = "pets", out: str = "run", **how: Any
    ) -> tuple[str, ...]:
        """The words of a training of four steps; ``how`` as `tests.tiny.recipes.sets` has it."""
        return ("train", recipe, "--data", data, "--out", out, *sets(recipe, *settings, **how))
