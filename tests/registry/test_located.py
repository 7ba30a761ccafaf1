"""Values remember where they were written, through every way they are put together."""

from pathlib import Path

import pytest
from transfuse.config.located import Located, Location
from transfuse.config.validation import InvalidSettings
from transfuse.errors import TransfuseError

LOW = "codec:\n  name: kl\n  channels: 4\npatcher:\n  name: linear\n  patch: 1\n"
HIGH = "patcher:\n  name: unet\ncodec:\n  channels: 8\n"


@pytest.fixture
def merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Located:
    monkeypatch.chdir(tmp_path)
    Path("low").write_text(LOW)
    Path("high").write_text(HIGH)
    return Located.from_file(Path("low")).merge(Located.from_file(Path("high")))


@pytest.mark.parametrize(
    ("loc", "sentence"),
    [
        (("codec", "name"), "low:2: codec.name: is odd"),
        (("codec", "channels"), "high:4: codec.channels: is odd"),
        (("codec", "size", 0), "high:3: codec.size[0]: is odd"),
        (("patcher", "name"), "high:2: patcher.name: is odd"),
        (("patcher", "patch"), "high:1: patcher.patch: is odd"),  # nowhere now, and never in low
        (("sampler",), "low:1: sampler: is odd"),
    ],
)
def test_merged_values_point_to_who_wrote_them(merged: Located, loc: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(TransfuseError) as caught, merged.errors():
        raise InvalidSettings([(loc, "is odd")])
    assert str(caught.value) == sentence


def test_a_section_points_to_who_changed_something_inside_last(merged: Located) -> None:
    over = Located(
        {"codec": {"channels": 2}}, {("codec", "channels"): Location("--set", ("codec", "channels"))}
    )
    both = merged.merge(over)
    assert both.sentence(("codec",), "is odd") == "--set codec.channels: is odd"
    assert both.sentence(("patcher",), "is odd") == "high:1: patcher: is odd"
    assert both.sentence(("codec", "name"), "is odd") == "low:2: codec.name: is odd"
    assert both.sentence(("codec", "size"), "is missing") == "high:3: codec.size: is missing"
    assert both.at("codec").sentence(("size",), "is missing") == "high:3: codec.size: is missing"


def test_a_part_taken_out_and_put_elsewhere_keeps_its_place(merged: Located) -> None:
    moved = Located.from_source("here", {"a": 1, "image": 0, "b": 2}).put("image", merged.at("codec"))
    assert list(moved.value) == ["a", "image", "b"]
    assert moved.sentence(("image", "channels"), "!") == "high:4: codec.channels: !"
    assert moved.sentence(("image", "name"), "!") == "low:2: codec.name: !"
    assert moved.sentence(("a",), "!") == "here a: !"
    assert moved.without("image").value == {"a": 1, "b": 2}
    assert moved.without("image").sentence(("image", "name"), "!") == "here image.name: !"


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text("# nothing\n")
    assert Located.from_file(path).value == {}
