"""`make pilot` from its first run to its page, on budgets of a thousandth: every check is answered by its own runs."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from transfuse_lab.comparison.plan_file import read_plan

from tests.tiny.workers import Here

pytestmark = pytest.mark.slow

RESULTS = Path(__file__).parents[2] / "docs/results"
SMALLER = (
    (r"flops([:=]) ?(\d\.?\d*)e\+12", r"flops\1 \2e+9"),
    (r"flops([:=]) ?(\d\.?\d*)e\+11", r"flops\1 \2e+8"),
    (r"flops([:=]) ?(\d\.?\d*)e\+13", r"flops\1 \2e+10"),
    (r"train\.flops= ", "train.flops="),
    (r"steps: 6000", "steps: 4"),
    (r"eval\.prompts=\d+", "eval.prompts=4"),
    (r"block-codes, codes: 2048", "block-codes, codes: 64"),
    (r"\[200, 201, .*211\]", "[200, 201, 202, 203]"),
    (r"group: aa, seeds: 5", "group: aa, seeds: 2"),
    (r"scale: \[1, 1.5.*?\]", "scale: [1, 3]"),
    (r"trials: 8", "trials: 3"),
)
"""So that it takes minutes: a thousandth of the budgets, few runs of one recipe, few trials."""


def smaller(name: str, folder: Path) -> Path:
    text = (RESULTS / name).read_text()
    for pattern, instead in SMALLER:
        text = re.sub(pattern, instead, text)
    path = folder / name
    path.write_text(text)
    shutil.copy(RESULTS / "scenes-easy.yaml", folder)
    return path


def test_the_pilot_is_answered_by_its_own_runs(
    cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Here)
    path = smaller("pilot-plan.yaml", tmp_path)
    out = tmp_path / "runs"
    tuned = cli("tune", path, "--out", out)
    assert tuned.exit_code == 0, (tuned.stderr, tuned.exception)
    done = cli("compare", "--plan", path, "--out", out)
    assert done.exit_code == 0, (done.stderr, done.exception)
    found = json.loads((tmp_path / "pilot.json").read_text())
    assert found["runs"]["there"] == found["runs"]["planned"]
    assert [name for name, one in found["checks"].items() if one["holds"] is None] == []
    assert found["checks"]["equal-to-the-bit"]["holds"] is True
    assert found["checks"]["recall-in-the-middle"]["holds"] is False, "untrained models recall nothing"
    assert "**No-go:**" in (tmp_path / "pilot.md").read_text()
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 4 + 2 * (4 + 4), (
        "what is real, drawn and described, to judge by eye"
    )
    assert "The other seeds" not in page, "of one seed alone the samples are kept for good"
    largest = max(p.stat().st_size for p in (tmp_path / "pilot").rglob("*.json"))
    assert largest < 200_000, "records are small"
    # What rests on it starts nothing.
    shutil.copy(RESULTS / "prereg-scenes.yaml", tmp_path)
    for command in (("tune",), ("compare", "--plan")):
        refused = cli(*command, tmp_path / "prereg-scenes.yaml", "--out", tmp_path / "science")
        assert "nothing is started" in refused.stderr
    assert not (tmp_path / "science").exists()
    assert read_plan(path).plan.hours == 4
