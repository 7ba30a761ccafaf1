"""The demo keeps its promise: both recipes learn to draw and to caption digits, as the README says."""

import json
from pathlib import Path

import pytest


@pytest.mark.slow
def test_both_recipes_draw_and_caption_digits(tmp_path: Path) -> None:
    from transfuse_lab.commands.compare import compare_command
    from transfuse_lab.comparison.settings import ComparisonSettings

    compare_command(ComparisonSettings((), "digits", (1, 2), tmp_path))
    recipes = json.loads((tmp_path / "compare.json").read_text())["recipes"]
    for name, least in (("transfusion", 0.9), ("chameleon", 0.6)):
        assert recipes[name]["generation_accuracy"]["mean"] >= least
        assert recipes[name]["caption_accuracy"]["mean"] >= 0.6
    assert (tmp_path / "report.html").is_file()
