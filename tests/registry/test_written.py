"""Values remember where they were written, through every way they are put together."""

from pathlib import Path

import pytest
from transfuse.config.located import Written
from transfuse.config.validation import Misfit

LOW = "codec:\n  name: kl\n  channels: 4\npatcher:\n  name: linear\n  patch: 1\n"
HIGH = "patcher:\n  name: unet\ncodec:\n  channels: 8\n"


@pytest.fixture
def laid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.chdir(tmp_path)
    Path("low").write_text(LOW)
    Path("high").write_text(HIGH)
    return Written.in_file(Path("low")).lay(Written.in_file(Path("high")))


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
def test_laid_values_point_to_who_wrote_them(laid: Written, loc: tuple[str, ...], sentence: str) -> None:
    assert str(laid.error(Misfit([(loc, "is odd")]))) == sentence


def test_a_part_taken_out_and_put_elsewhere_keeps_its_place(laid: Written) -> None:
    moved = Written.by("here", {"a": 1, "image": 0, "b": 2}).put("image", laid.at("codec"))
    assert list(moved.value) == ["a", "image", "b"]
    assert moved.sentence(("image", "channels"), "!") == "high:4: codec.channels: !"
    assert moved.sentence(("image", "name"), "!") == "low:2: codec.name: !"
    assert moved.sentence(("a",), "!") == "here a: !"
    assert moved.without("image").value == {"a": 1, "b": 2}
    assert moved.without("image").sentence(("image", "name"), "!") == "here image.name: !"


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text("# nothing\n")
    assert Written.in_file(path).value == {}
