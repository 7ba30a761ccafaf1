"""The README's first use on one's own folder is done as it stands, on pictures that are made here."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny.workers import Here

README = Path(__file__).parents[2] / "README.md"
SECTION = re.compile(r"^## Your own folder\n.*?^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHORT = ("--set", "image.codec.steps=3", "--set", "model.dim=32", "--set", "model.layers=1")
"""What is added to the README's commands so that they take seconds: nothing that makes pictures fit."""
ADDED = {
    "train": (*SHORT, "--set", "train.steps=2"),
    "sample": ("--set", "image.sampler.evaluations=2"),
    "compare": (
        *SHORT,
        "--set",
        "train.flops=1e8",
        "--set",
        "eval.prompts=2",
        "--set",
        "image.codec.width=8",
    ),
}


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, ``pets``: cats and dogs of 100 by 70 pixels, each with its caption beside it."""
    rng, folder = np.random.default_rng(0), tmp_path / "pets"
    folder.mkdir()
    for number in range(24):
        caption = f"a {('grey', 'brown')[number % 2]} {('cat', 'dog')[number // 2 % 2]}"
        levels = rng.integers(0, 60, (70, 100, 3)) + 40 * (number % 4)
        Image.fromarray(levels.astype(np.uint8)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("pets")
def test_three_commands_lead_from_a_folder_to_samples_and_a_report(
    cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Here)
    block = SECTION.search(README.read_text())
    assert block is not None
    commands = [shlex.split(line) for line in block[1].splitlines()]
    assert [command[1] for command in commands] == ["train", "sample", "compare"]
    said = []
    for program, name, *rest in commands:
        assert program == "transfuse"
        done = cli(name, *rest, *ADDED[name])
        assert done.exit_code == 0, (name, done.stderr, done.exception)
        said += done.stdout.splitlines()
    assert "pictures of 100 x 70 pixels are made 96 x 72" in said[0]
    assert said[1].startswith("chosen to suit pets: image.codec.down=4")
    assert "on this machine (an estimate" in said[2]
    assert Path("cats.png").read_bytes()[:4] == b"\x89PNG"
    report = Path("runs/both/report.html").read_text()
    assert "transfusion" in report
    assert "chameleon" in report
