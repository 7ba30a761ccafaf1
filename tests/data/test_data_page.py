"""docs/data.md: its blocks run as they stand, print what they say, and its tables name what there is."""

import json
import re
from pathlib import Path

import pytest
import transfuse_adapters.plugin
import transfuse_lab.plugin
from transfuse.testing import DATASET, DataSetCase
from transfuse_lab.cli import app
from transfuse_lab.datasets import captions, interleaved
from transfuse_pictures.files import SUFFIXES
from typer.testing import CliRunner

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def blocks() -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_every_block_runs_in_order_and_prints_what_it_says(
    tmp_path: Path, emoji_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRANSFUSE_CACHE", str(emoji_cache))
    for language, text in blocks():
        if language == "python":
            exec(compile(text, "docs/data.md", "exec"), {})
            assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", text)
        elif language == "sh":
            for line in text.splitlines():
                name, *arguments = line.split()
                assert name == "transfuse"
                assert CliRunner().invoke(app, arguments).exit_code == 0
        elif language == "json":
            keys = [set(json.loads(line)) for line in text.splitlines()]
            assert any(all(told <= set(form.KEYS) for told in keys) for form in (captions, interleaved))


def test_the_data_set_of_the_page_keeps_the_laws_of_data_sets() -> None:
    (source,) = [text for language, text in blocks() if "(DataSet)" in text]
    names: dict = {}
    exec(compile(source, "docs/data.md", "exec"), names)
    case = DataSetCase(names["Stripes"](), names["Stripes"]())
    assert [found.text for found in DATASET.run(case) if found.status == "fails"] == []


def test_the_kinds_of_pictures_on_the_page_are_those_that_are_read() -> None:
    (told,) = re.findall(r"^Read are .* by names that end in (.*?)\. Which", PAGE, flags=re.MULTILINE)
    assert re.findall(r"`(.*?)`", told) == list(SUFFIXES)


def test_every_data_set_is_on_the_page() -> None:
    offered = transfuse_lab.plugin.transfuse_datasets() + transfuse_adapters.plugin.transfuse_datasets()
    for part in offered:
        assert re.search(rf"^## .*{part.name}", PAGE, flags=re.MULTILINE), part.name
        for key in part.settings.model_fields.keys() - {"path"}:
            assert f"`{key}`" in PAGE
