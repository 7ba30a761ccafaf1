"""A command reads each file of a run once, whoever asks for it."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tiny.recipes import sets

READ: Counter[str] = Counter()
"""How often each file was opened to be read, while some test counts."""
COUNTING = [False]


def _count(event: str, arguments: tuple) -> None:
    if COUNTING[0] and event == "open" and isinstance(arguments[0], str) and arguments[1] in ("r", "rb"):
        READ[arguments[0]] += 1


sys.addaudithook(_count)  # which nothing can take back; so it counts on request


@pytest.fixture
def reads() -> Iterator[Callable[[Path], dict[str, int]]]:
    """``reads(folder)``: how often each file below the folder was opened, by path, since the test began."""
    READ.clear()
    COUNTING[0] = True
    yield lambda folder: {
        Path(path).relative_to(folder).as_posix(): count
        for path, count in READ.items()
        if Path(path).is_relative_to(folder)
    }
    COUNTING[0] = False


@pytest.mark.parametrize("command", ["eval", "sample", "train"])
def test_each_json_of_a_run_is_read_once(
    command: str,
    trained: Callable,
    cli: Callable,
    data_argument: str,
    tmp_path: Path,
    reads: Callable,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("transfusion"), run)
    if command == "train":  # which goes on with the run
        rest = ("transfusion", "--data", data_argument, "--out", run, *sets("transfusion", "train.steps=8"))
    else:
        rest = (run, *(() if command == "eval" else ("--prompt", "up", "--out", tmp_path / "grid.png")))
    READ.clear()
    done = cli(command, *rest)
    assert done.exit_code == 0, done.stderr
    found = {path: count for path, count in reads(run).items() if path.endswith((".json", "latest"))}
    assert found == {
        "recipe.json": 1,
        "modalities.json": 1,
        "checkpoints/latest": 1,
        "checkpoints/8/state.json": 1,
    }
