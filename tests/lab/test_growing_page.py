"""docs/growing.md runs as it stands."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "growing.md").read_text()


def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRANSFUSE_REGISTRY", raising=False)
    for source in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL):
        exec(compile(source, "docs/growing.md", "exec"), {})
    told = capsys.readouterr().out
    for said in re.findall(r"  # (Inherited.*)$", PAGE, flags=re.MULTILINE):
        assert said in told
