"""docs/known-answers.md: all sixteen stand there with tests that exist, and `make science-check` runs their files."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [
    row.strip("| ").split(" | ")
    for row in (ROOT / "docs/known-answers.md").read_text().splitlines()
    if re.match(r"\| \d", row)
]
FILE, TEST = re.compile(r"`(tests/[\w/]+\.py)`"), re.compile(r"`(test_\w+)`")


def test_all_sixteen_are_there_each_with_a_test_and_a_fault() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 17))
    for number, _, where, planted in ROWS:
        assert FILE.search(where), number
        assert TEST.search(where), number
        assert planted


def test_every_test_that_is_named_exists_in_a_file_of_its_row() -> None:
    for number, _, where, planted in ROWS:
        source = "".join((ROOT / name).read_text() for name in FILE.findall(where + planted))
        for name in TEST.findall(where + planted):
            assert f"def {name}(" in source, f"{number}: {name}"


def test_one_command_runs_all_of_them() -> None:
    """Slow ones by their folder, the others by name."""
    named = {name for row in ROWS for name in FILE.findall(" ".join(row))}
    listed, commands = (ROOT / "Makefile").read_text().split("\nANSWERS = ")[1].split("\nscience-check:")
    assert {name for name in named if not name.startswith("tests/science/")} == {*listed.split()} - {"\\"}
    assert "worksteal $(ANSWERS)\n" in commands
    assert "-m slow tests/science\n" in commands
