"""Where a command cannot write is said before it opens, trains or draws anything."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from transfuse.errors import TransfuseError
from transfuse_lab.output_paths import check_file, check_folder


def made(place: Path) -> bool:
    """Whether the folder can really be made."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError):
        return False
    return True


@pytest.fixture
def places(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "nothing").symlink_to(tmp_path / "gone")
    return tmp_path


LONG = "x" * 256


@pytest.mark.parametrize(
    "name",
    [
        ".",
        "new",
        "new/a/b",
        "file",
        "file/new",
        "nothing",
        "nothing/new",
        LONG,
        f"new/{LONG}",
        LONG[1:],
        "\0",
    ],
)
def test_it_says_what_making_the_folder_would(places: Path, name: str) -> None:
    expected = contextlib.nullcontext()
    with TemporaryDirectory() as elsewhere:
        shutil.copytree(places, elsewhere, dirs_exist_ok=True, symlinks=True)
        (Path(elsewhere) / "nothing").unlink()
        (Path(elsewhere) / "nothing").symlink_to(Path(elsewhere) / "gone")
        if not made(Path(elsewhere) / name):
            expected = pytest.raises(TransfuseError, match=r"^--out .* cannot be a folder: ")
    with expected:
        check_folder("--out", places / name)
    assert not (places / "new").exists(), "asking makes nothing"


def test_endings_and_folders(places: Path) -> None:
    for name in ("a.png", "A.PNG", "new/a.svg"):
        check_file("--out", places / name)
    with pytest.raises(TransfuseError, match="longer than 255 bytes"):
        check_file("--out", places / f"{LONG}.png")
    for name in ("a", "a.xyz", "a.npy", ".png", ""):
        with pytest.raises(TransfuseError, match=r"^--grid .* that ends in \.png, \.svg$"):
            check_file("--grid", places / name)
    with pytest.raises(TransfuseError, match=r"a folder is there; give another$"):
        check_file("--out", places / "folder.png")
    with pytest.raises(TransfuseError, match=r"file is a file; give another$"):
        check_file("--out", places / "file/a.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_in(places: Path) -> None:
    (places / "shut").mkdir(mode=0o500)
    with pytest.raises(TransfuseError, match="nothing may be written in"):
        check_folder("--out", places / "shut/new")


def nothing(*arguments: object, **named: object) -> None:
    raise AssertionError("something was opened")


@pytest.mark.parametrize(
    "command",
    [
        ("sample", "run", "--prompt", "a", "--out", "{}/a.png"),
        ("sample", "run", "--document", "d.json", "--out", "{}/a"),
        ("eval", "run", "--grid", "{}.xyz"),
        ("eval", "run", "--grid", "{}/a.png"),
        ("mask", "full", "--layout", "text:1", "--out", "{}.xyz"),
        ("mask", "full", "--layout", "text:1", "--out", "{}/a.svg"),
        ("train", "transfusion", "--data", "digits", "--out", "{}/run"),
        ("train-codec", "transfusion", "--data", "digits", "--out", "{}/run"),
        ("compare", "--data", "digits", "--out", "{}/run"),
        ("data", "pack", "digits", "--out", "{}/a.zarr"),
        ("data", "pack", "digits", "--out", "{}.xyz"),
        ("data", "build", "emoji", "--out", "{}/a"),
    ],
    ids=" ".join,
)
def test_before_anything_is_opened(
    places: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    for module, name in (
        ("commands.sample", "RunFolder"),
        ("commands.evaluate", "open_trained"),
        ("commands.mask", "named"),
        ("commands.train", "resolve"),
        ("commands.compare", "open_section"),
        ("commands.data", "open_data"),
        ("commands.stores", "open_data"),
        ("datasets.emoji.build", "build_emoji"),
    ):
        monkeypatch.setattr(f"transfuse_lab.{module}.{name}", nothing)
    done = cli(*(word.format(places / "file") for word in command))
    assert done.exit_code == 2, done.exception
    assert str(places / "file") in done.stderr
    assert len(done.stderr.splitlines()) == 1
