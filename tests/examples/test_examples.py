"""Each example is a distribution of its own: it is small, installed by its pyproject, and its tests pass; it trains, is
sampled and evaluated by the commands that its README has."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from transfuse.errors import TransfuseError
from transfuse_lab.runs.records import load_record

from tests.tiny.packages import install

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Example:
    """Its module, its recipe and data set, what else it needs, what it is asked, and the figures of its metric."""

    module: str
    recipe: str
    data: str
    needs: str | None
    ask: tuple[str, ...]
    figures: tuple[str, ...]


KNOWN = {
    "audio": Example(
        "tf_speech", "dates", "dates", None, ("--given", "text=july first"), ("heard_as_asked", "heard_as_asked_copied")
    ),
    "actions": Example(
        "tf_pendulum", "pendulum", "pendulum;train=2;heldout=1", "gymnasium",
        ("--given", "text=stand up", "--given", "state=@state.npy", "--want", "action"),
        ("action_error", "action_error_mean"),
    ),
    "video": Example(
        "tf_video", "clips", "clips;train=40;heldout=8", None, ("--given", "text=seven left", "--want", "frame"),
        ("frame_error", "frame_error_repeated", "frame_error_moved"),
    ),
}  # fmt: skip
QUICK = ("--set", "train.steps=3", "--set", "model.dim=24", "--set", "model.layers=1")


@pytest.fixture(scope="module", params=KNOWN)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """One, installed."""
    found = KNOWN[request.param]
    if found.needs:
        pytest.importorskip(found.needs, reason=f"examples/{request.param} needs {found.needs}")
    with pytest.MonkeyPatch.context() as patch:
        install(EXAMPLES / request.param, tmp_path_factory.mktemp("site"), patch)
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield found


def test_all_examples_are_known_here() -> None:
    assert sorted(path.parent.name for path in EXAMPLES.glob("*/pyproject.toml")) == sorted(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_a_modality_takes_at_most_200_lines(name: str) -> None:
    """Without blank ones, and without the data set, what judges it, the recipe, and a policy's world beside it."""
    beside = {"data", "spoken", "metric", "plugin", "expert", "drive", "predict", "__main__", "__init__"}
    modules = [
        path for path in (EXAMPLES / name / KNOWN[name].module).glob("*.py") if path.stem not in beside
    ]
    lines = [line for path in modules for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) <= 200


@pytest.mark.parametrize("name", KNOWN)
def test_its_readme_has_its_commands_and_its_figures(name: str) -> None:
    text = (EXAMPLES / name / "README.md").read_text()
    example = KNOWN[name]
    assert f"transfuse train {example.recipe} --data {example.recipe} --out runs/{example.recipe}" in text
    assert f"transfuse eval runs/{example.recipe}" in text
    assert (
        f"transfuse plugins check {name if name == 'video' else example.module.removeprefix('tf_')}" in text
    )
    assert all(re.search(rf"`{figure}`", text) for figure in example.figures)
    for picture in re.findall(r"\]\(([^)]+\.(?:png|svg|wav))\)", text):
        assert (EXAMPLES / name / picture).is_file(), picture


def test_its_own_tests_pass(example: Example) -> None:
    folder = next(path for path in EXAMPLES.iterdir() if (path / example.module).is_dir())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--rootdir", folder, folder / "tests"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_it_trains_is_sampled_and_evaluated(example: Example, cli: Callable) -> None:
    if example.module == "tf_speech":
        from tf_speech.data import fetch

        try:
            fetch(Path("sounds"))
        except TransfuseError as error:
            pytest.skip(str(error))
    if "state=@state.npy" in example.ask:
        np.save("state.npy", np.array([[1, 0, 0]], np.float32))
    commands = (
        ("train", example.recipe, "--data", example.data, "--out", "runs/a", *QUICK),
        ("sample", "runs/a", *example.ask, "--n", "2", "--out", "samples"),
        ("eval", "runs/a", "--prompts", "2"),
    )
    for command in commands:
        done = cli(*command)
        assert done.exit_code == 0, (done.stderr, done.exception)
    assert set(example.figures) <= load_record(Path("runs/a/record.json")).metrics.keys()
