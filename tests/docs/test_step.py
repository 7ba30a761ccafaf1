"""docs/images/step.svg is what bench/step.py draws of docs/results/step.json."""

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]


def test_the_picture_is_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import step  # type: ignore[import-not-found]

    figures = json.loads((ROOT / "docs/results/step.json").read_text())
    drawn = step.drawing(figures)
    assert (ROOT / "docs/images/step.svg").read_text() == drawn, "it is stale: run python bench/step.py"
    ElementTree.fromstring(drawn)
    for name, row in step.bars(figures):
        assert name in drawn
        assert row.keys() == step.KINDS.keys()
        assert f"{sum(row.values()):.0f} ms" in drawn
    for name in ("step", "pages", *[name for name in sys.modules if name.split(".")[0] == "runners"]):
        sys.modules.pop(name, None)
