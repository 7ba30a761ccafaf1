"""docs/python.md runs as it stands, its blocks one after another as in a notebook."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRANSFUSE_REGISTRY", raising=False)
    names: dict[str, object] = {}
    told = []
    for source in BLOCKS:
        exec(compile(source, "docs/python.md", "exec"), names)
        told.append(capsys.readouterr().out)
    assert "loss_image" in told[0]
    assert told[1].startswith("30 ")
    assert "transfusion digits" in told[2]
    assert "(1, 8, 8) float32" in told[3]
    assert re.search(r"text: \d+\.\d+ over \d+\nimage: \d+\.\d+ over 100\n", told[4])
    assert "generation_accuracy" in told[5]
    assert {"text", "image"} <= eval(told[6]).keys()
    assert (tmp_path / "runs/a/metrics.jsonl").read_text().count("\n") == 30
