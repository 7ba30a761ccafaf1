"""`transfuse plugins new`: each kind of package installs, passes the kit, trains, samples, evaluates as it stands."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from transfuse_lab.commands.new_plugin import KINDS, TEMPLATES, package

from tests.tiny.packages import install

GIVEN = {"span": "fast", "token": "up", "codes": "fast", "actions": "left"}
QUICK = ("--set", "train.steps=3", "--set", "model.dim=16", "--set", "model.layers=1")


@pytest.fixture(scope="module", params=KINDS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cli: Callable
) -> Iterator[tuple[str, Path]]:
    """A kind, and its package, written by the command, installed, and the working directory."""
    folder = tmp_path_factory.mktemp("own") / "tf"
    done = cli("plugins", "new", f"my_{request.param}", "--kind", request.param, "--out", folder)
    assert done.exit_code == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        install(folder, tmp_path_factory.mktemp("site"), patch)
        patch.chdir(folder)
        yield request.param, folder


def test_it_is_small_and_says_where_to_change_it(made: tuple[str, Path]) -> None:
    kind, folder = made
    sources = sorted((folder / f"tf_my_{kind}").glob("*.py"))
    assert sum(len(path.read_text().splitlines()) for path in sources) < 200
    assert all("CHANGE" in path.read_text() for path in sources)
    for path in folder.rglob("*.py"):
        ast.parse(path.read_text())
        assert "$" not in path.read_text()


def test_it_passes_the_kit_trains_is_sampled_and_evaluated(made: tuple[str, Path], cli: Callable) -> None:
    kind, _ = made
    name = f"my_{kind}"
    checked = cli("plugins", "check", name)
    assert checked.exit_code == 0, [line for line in checked.stdout.splitlines() if "FAILS" in line]
    done = cli("train", name, "--data", name, "--out", "runs/a", *QUICK)
    assert done.exit_code == 0, done.stderr
    given = ["--given", f"text={GIVEN[kind]}"]
    if kind == "actions":
        np.save("state.npy", np.zeros((1, 2), np.float32))
        given += ["--given", "state=@state.npy"]
    sampled = cli("sample", "runs/a", *given, "--want", name, "--n", "2", "--out", "samples")
    assert sampled.exit_code == 0, sampled.stderr
    evaluated = cli("eval", "runs/a", "--prompts", "2")
    assert evaluated.exit_code == 0, evaluated.stderr
    record = json.loads(Path("runs/a/record.json").read_text())
    assert record


@pytest.mark.slow
def test_its_own_tests_pass(made: tuple[str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("My-Audio", "'My-Audio' is no name for a plugin: small letters, digits and _"),
        ("class", "'class' is no name for a plugin"),
        ("9lives", "'9lives' is no name for a plugin"),
        ("text", "'text' is taken: there is the "),
        ("digits", "'digits' is taken: there is the data set 'digits'; choose another name"),
        ("span", "'span' is taken: there is 'span', which is a column of every document"),
    ],
)
def test_names_that_would_not_work_are_refused(name: str, text: str, cli: Callable, tmp_path: Path) -> None:
    done = cli("plugins", "new", name, "--out", tmp_path / "own")
    assert done.exit_code == 2
    assert text in done.stderr
    assert not (tmp_path / "own").exists()


def test_nothing_is_written_over_and_kinds_are_known(cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert (
        "holds files already: name a folder that is new or empty"
        in cli("plugins", "new", "audio", "--out", tmp_path).stderr
    )
    assert (
        "did you mean 'span'"
        in cli("plugins", "new", "audio", "--kind", "spam", "--out", tmp_path / "b").stderr
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


def test_every_template_is_used() -> None:
    written = sum(len(list(package("audio", kind))) for kind in KINDS)
    there = list(Path(str(TEMPLATES)).rglob("*.tmpl"))
    common = [path for path in there if path.relative_to(str(TEMPLATES)).parts[0] == "all"]
    assert written == len(KINDS) * len(common) + len(there) - len(common)
