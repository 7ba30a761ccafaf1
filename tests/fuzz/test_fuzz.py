"""Whatever others wrote, in any form: an answer, or a TransfuseError, nothing else.

A thousand inputs a target; `make fuzz` tries 100,000 ($FUZZ says how many).
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from transfuse.checkpoints.checkpoint import Checkpoint
from transfuse.errors import TransfuseError
from transfuse.files import write_checked

from tests.fuzz.targets import TARGETS, read_registry, read_sets

ASKED = os.environ.get("FUZZ")
FUZZ = settings(
    deadline=None,
    derandomize=not ASKED,  # `make fuzz` tries others each time
    max_examples=int(ASKED or 1000),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_nothing_but_our_own_errors(target: str, tmp_path: Path) -> None:
    read = TARGETS[target].read

    @FUZZ
    @given(TARGETS[target].inputs)
    def tried(given: object) -> None:
        attempt(lambda: read(tmp_path, given))

    tried()


def attempt(read: Callable[[], object]) -> None:
    with suppress(TransfuseError):
        read()


@pytest.mark.parametrize(
    "given",
    [
        ["model.dim=1" + "0" * 5000],
        ["mask=" + "~" * 5000 + "full"],
        ["mask=" + "(" * 5000],
        ["mask=\ud800"],
        ["image=" + "{a: " * 200],
        [".".join("a" * 500) + "=1"],
        ["loss={text: {text: 1}}"],
        ["train.betas=[0.9]", "train.betas=[0.9, 0.9, 0.9]"],
        ["modalities=3", "modalities.image=3"],
    ],
)
def test_settings_that_once_were_too_much(given: list[str], tmp_path: Path) -> None:
    attempt(lambda: read_sets(tmp_path, given))


@pytest.mark.parametrize("depth", [10, 39, 100, 5000])
def test_deep_nesting_is_no_stack_overflow(depth: int, tmp_path: Path) -> None:
    text = "modalities: {image: " + "{codec: " * depth + "x" + "}" * (depth + 1)
    attempt(lambda: read_registry(tmp_path, text))


@pytest.mark.parametrize("said", [0, [], "model.safetensors", {"model.safetensors": 3}])
@pytest.mark.parametrize("key", ["files", "parts"])
def test_a_checkpoint_names_its_files_or_is_refused(key: str, said: object, tmp_path: Path) -> None:
    state = {"step": 1, "files": {}, "parts": {}} | {key: said}
    write_checked(tmp_path / "1" / "state.json", state)
    if (key, said) == ("files", {"model.safetensors": 3}):
        with pytest.raises(TransfuseError, match="missing"):
            Checkpoint.read(tmp_path / "1").check()
    else:
        with pytest.raises(TransfuseError, match="names no files"):
            Checkpoint.read(tmp_path / "1")
