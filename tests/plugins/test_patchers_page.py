"""docs/patchers.md shows what its code prints, and the defaults that hold."""

import re
from pathlib import Path

import pytest
from transfuse_image.patchers.unet import UNetSettings

PAGE = (Path(__file__).parents[2] / "docs" / "patchers.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    return found


def test_the_costs_are_what_the_code_prints(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("python"), "docs/patchers.md", "exec"), {})
    assert capsys.readouterr().out == block("text")


def test_the_defaults_are_the_ones_that_hold() -> None:
    table = PAGE.partition("| setting |")[2].partition("\n\n")[0]
    shown = {key: int(value) for key, value in re.findall(r"^\| `(\w+)` \| (\d+) \|", table, re.MULTILINE)}
    assert shown == {key: field.default for key, field in UNetSettings.model_fields.items()}
