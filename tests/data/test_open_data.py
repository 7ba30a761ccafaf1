"""`--data` finds data sets, folders and stores, and says what it knows when it finds none."""

from pathlib import Path

import pytest
import transfuse_adapters.plugin
import transfuse_lab.plugin
from PIL import Image
from transfuse import TransfuseError
from transfuse.datasets import content_hash
from transfuse.registry.plugins import Plugins
from transfuse_lab.commands.stores import pack
from transfuse_lab.datasets import data_section, open_data

PLUGINS = Plugins.of({"lab": transfuse_lab.plugin, "adapters": transfuse_adapters.plugin})


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    folder.mkdir()
    for name in ("cat", "dog", "emu"):
        Image.new("RGB", (4, 4), "red").save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(name)
    return folder


def test_a_name() -> None:
    assert open_data("digits", PLUGINS).size("train") == 1300


def test_a_folder_with_its_settings(pets: Path) -> None:
    data = open_data(str(pets), PLUGINS, {"size": 8, "channels": 1})
    assert next(data.raw("train", "image")).shape == (1, 8, 8)


def test_settings_may_follow_the_path(pets: Path) -> None:
    data = open_data(f"{pets};size=8;channels=1", PLUGINS)
    assert next(data.raw("train", "image")).shape == (1, 8, 8)
    assert data_section(f"{pets};size=8", PLUGINS, {"size": 4})["size"] == 4


@pytest.mark.parametrize("tail", [";size", ";=3", ";size=3;size=4", ";"])
def test_a_tail_that_is_no_setting(pets: Path, tail: str) -> None:
    with pytest.raises(TransfuseError, match="is no setting, or is given twice"):
        open_data(f"{pets}{tail}", PLUGINS)


def test_a_folder_whose_name_has_a_semicolon(pets: Path) -> None:
    moved = pets.rename(pets.parent / "a;b=c")
    assert open_data(str(moved), PLUGINS).name == "a;b=c"


def test_digits_have_no_settings() -> None:
    with pytest.raises(TransfuseError, match=r"data\.size"):
        open_data("digits;size=16", PLUGINS)


def test_a_store_by_its_suffix_or_its_manifest(pets: Path, tmp_path: Path) -> None:
    assert pack(str(pets), tmp_path / "pets.zarr", PLUGINS)
    packed = open_data(str(tmp_path / "pets.zarr"), PLUGINS)
    assert content_hash(packed) == content_hash(open_data(str(pets), PLUGINS))
    for name in ("animals", "other.zarr"):
        path = next(tmp_path.glob("*/manifest.json")).parent.rename(tmp_path / name)
        assert open_data(str(path), PLUGINS).identity() == packed.identity()


def test_a_store_cut_off_while_it_was_packed(tmp_path: Path) -> None:
    assert not pack("digits", tmp_path / "half.zarr", PLUGINS, part=0, parts=2)
    assert open_data(f"{tmp_path}/half.zarr;partial=true", PLUGINS).size("train") == 650
    with pytest.raises(TransfuseError, match="never finished"):
        open_data(str(tmp_path / "half.zarr"), PLUGINS)


def test_a_name_wins_over_a_folder_unless_it_is_written_as_a_path(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pets.rename(pets.parent / "digits")
    monkeypatch.chdir(pets.parent)
    assert open_data("digits", PLUGINS).name == "digits"
    assert data_section("digits", PLUGINS) == {"name": "digits"}
    assert data_section("./digits", PLUGINS) == {"name": "folder", "path": str(pets.parent / "digits")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digtis", "--data 'digtis' is neither a data set nor a folder or store; did you mean 'digits'"),
        (
            "nowhere/at/all",
            "--data 'nowhere/at/all' is neither .*; known: digits, emoji, folder, hugging",
        ),
        ("", "--data '' is neither"),
        ("gone.zarr", "--data 'gone.zarr' is neither"),
    ],
)
def test_what_is_not_there(text: str, message: str) -> None:
    with pytest.raises(TransfuseError, match=message):
        open_data(text, PLUGINS)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(TransfuseError, match=r"a\.csv' is a file, not a folder"):
        open_data(str(tmp_path / "a.csv"), PLUGINS)


def test_a_wrong_setting_is_named(pets: Path) -> None:
    with pytest.raises(TransfuseError, match=r"data\.sise.*did you mean 'size'"):
        open_data(str(pets), PLUGINS, {"sise": 8})


def test_packing_under_another_name_is_refused(pets: Path, tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match=r"ends in \.zarr"):
        pack(str(pets), tmp_path / "pets", PLUGINS)
