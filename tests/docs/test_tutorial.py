"""docs/tutorial.md is done as it stands: its files are written, its commands run, and what it shows is what comes."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tiny.packages import install
from tests.tiny.workers import Here

PAGE = (Path(__file__).parents[2] / "docs/tutorial.md").read_text()
FILES = re.findall(r"^`(tf_strokes/\w+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [
    (shlex.split(line), shown)
    for block, shown in re.findall(
        r"^```sh\n(.*?)^```\n(?:\n```\n(.*?)^```\n)?", PAGE, re.MULTILINE | re.DOTALL
    )
    for line in block.splitlines()
]
QUICK = {
    "train": ("--set", "train.steps=3"),
    "compare": ("--set", "train.flops=1e8"),
    "eval": ("--prompts", "2"),
}
"""What is added to commands so that they take seconds."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, cli: Callable) -> Iterator[Path]:
    """The page's package, written by its first command and over it the page's files; the working directory."""
    home = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        words = COMMANDS[0][0]
        assert words[:3] == ["transfuse", "plugins", "new"]
        assert cli(*words[1:]).exit_code == 0
        folder = home / "tf-strokes"
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        table = PAGE.split("| file | what it says |")[1].split("\n\n")[0]
        assert set(re.findall(r"^\| `(.+?)`", table, re.MULTILINE)) == there - {
            "README.md",
            "tf_strokes/__init__.py",
        }
        for path, text in FILES:
            (folder / path).write_text(text)
        install(folder, tmp_path_factory.mktemp("site"), patch)
        patch.chdir(folder)
        yield folder
        for name in [name for name in sys.modules if name.split(".")[0] == "tf_strokes"]:
            del sys.modules[name]


def test_the_commands_run_and_print_what_is_shown(
    package: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Here)
    names = [words[1] for words, _ in COMMANDS if words[0] == "transfuse"]
    assert {"plugins", "data", "mask", "train", "sample", "eval", "compare"} == set(names)
    for words, shown in COMMANDS[1:]:
        if words[0] != "transfuse":
            assert words[0] in ("cd", "pip")
            continue
        done = cli(*words[1:], *QUICK.get(words[1], ()))
        assert done.exit_code == 0, (words, done.stderr, done.stdout, done.exception)
        if words[1] in ("data", "mask"):
            assert shown in done.stdout
        if words[1] == "eval":
            figures = {line.split("  ")[0] for line in shown.splitlines()}
            assert figures <= {line.split("  ")[0] for line in done.stdout.splitlines()}
    assert (package / "runs/both/report.html").is_file()
    assert (package / "sheet.svg").read_text().count("data:image/svg+xml") == 8


def test_the_mistake_that_it_suggests_is_told_as_shown(package: Path, cli: Callable) -> None:
    source = package / "tf_strokes/modality.py"
    right = source.read_text()
    try:
        source.write_text(right.replace("return payload * self.scale", "return payload"))
        assert source.read_text() != right
        command = [
            sys.executable,
            "-c",
            "from transfuse_lab.cli import main; main()",
            "plugins",
            "check",
            "strokes",
        ]
        told = subprocess.run(command, capture_output=True, text=True).stdout
    finally:
        source.write_text(right)
    (shown,) = re.findall(r"^  FAILS .*$", PAGE, re.MULTILINE)
    assert shown in told


def test_every_method_that_it_writes_is_explained() -> None:
    source = dict(FILES)["tf_strokes/modality.py"]
    written = set(re.findall(r"^    def ([a-z]\w+)\(", source, re.MULTILINE)) - {"noise_share"}
    table = PAGE.split("| method | here |")[1].split("\n\n")[0]
    assert written <= set(re.findall(r"`(\w+)`", table))


@pytest.mark.slow
def test_what_it_trains_draws_what_is_asked(package: Path, cli: Callable) -> None:
    """In two minutes. Guessing gives 1 of 6; the page's model is far above it."""
    (train,) = [words for words, _ in COMMANDS if words[:2] == ["transfuse", "train"]]
    assert cli(*train[1:-1], "runs/long").exit_code == 0
    assert cli("eval", "runs/long").exit_code == 0
    figures = json.loads((package / "runs/long/record.json").read_text())["metrics"]
    assert figures["readable"] > 0.4
    assert figures["caption_accuracy"] > 0.4
