"""What a killed build left in the cache is cleared by the next one; what a live one holds stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transfuse.errors import TransfuseError
from transfuse_lab.datasets.emoji import build
from transfuse_lab.datasets.emoji.build import SCRATCH, build_emoji, clear_scratch


def left(folder: Path, name: str, hours: float = 0.0) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "half.tgz").write_bytes(b"half")
    os.utime(path, (time.time() - 3600 * hours,) * 2)
    return path


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_dead_builds_go_and_others_stay(tmp_path: Path, gone: int) -> None:
    other_machine = f"{SCRATCH}{gone}-elsewhere.example-x1"
    stays = [
        left(tmp_path, f"{build._scratch(os.getpid())}x1"),
        left(tmp_path, other_machine, hours=23),
        left(tmp_path, f"{SCRATCH}x1y2", hours=23),
        left(tmp_path, "emoji-backup", hours=100),
    ]
    goes = [
        left(tmp_path, f"{build._scratch(gone)}x1"),
        left(tmp_path, f"{build._scratch(os.getpid())}x2", hours=25),
        left(tmp_path, f"{other_machine}2", hours=25),
        left(tmp_path, f"{SCRATCH}x1y3", hours=25),
        left(tmp_path, f"{build._scratch(10**30)}x3"),
    ]
    (tmp_path / f"{SCRATCH}link").symlink_to(stays[-1])
    clear_scratch(tmp_path)
    assert all(path.is_dir() for path in stays)
    assert not any(path.exists() for path in goes)
    assert (stays[-1] / "half.tgz").is_file()
    clear_scratch(tmp_path / "none")


def test_a_build_begins_with_it(tmp_path: Path, gone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = left(tmp_path, f"{build._scratch(gone)}x1")
    seen: list[Path] = []

    def refuse(package: object, folder: Path) -> Path:
        seen.append(folder)
        raise TransfuseError("no network")

    monkeypatch.setattr(build, "fetch", refuse)
    with pytest.raises(TransfuseError, match="no network"):
        build_emoji(tmp_path)
    assert not dead.exists()
    assert seen[0].name.startswith(build._scratch(os.getpid()))
    assert list(tmp_path.iterdir()) == []
