"""The demo keeps its promise: what the README says of it is trained again and holds."""

import json
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_demo_draws_and_captions_digits(tmp_path: Path) -> None:
    from transfuse_lab.commands.compare import compare_command
    from transfuse_lab.comparison.settings import ComparisonSettings

    compare_command(ComparisonSettings((), "digits", (1, 2), tmp_path))
    recipes = json.loads((tmp_path / "compare.json").read_text())["recipes"]
    assert recipes["transfusion"]["generation_accuracy"]["mean"] >= 0.95
    assert recipes["transfusion"]["caption_accuracy"]["mean"] >= 0.90
    assert recipes["chameleon"]["generation_accuracy"]["mean"] >= 0.5
    assert (tmp_path / "report.html").is_file()
