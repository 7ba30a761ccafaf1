"""`transfuse data show`: documents printed and drawn; endless data sets, which nothing goes through whole."""

import re
from pathlib import Path

import pytest
from transfuse_lab.cli import app
from typer.testing import CliRunner, Result

from tests.tiny.recipes import sets


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def refused(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    return result.output.strip()


def test_documents_are_printed_and_pictures_drawn(data_argument: str, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    shown = run("data", "show", data_argument, "--n", "3", "--out", out).output.splitlines()
    assert len(shown) == 3 * 2 + 1
    assert shown[-1] == f"3 of 3 documents: {out}"
    assert shown[1].endswith("image: float32 (1, 8, 8)")
    assert out.read_bytes().startswith(b"\x89PNG")


def test_held_out_documents_of_texts_alone_are_drawn_in_an_svg(tmp_path: Path) -> None:
    out = tmp_path / "a.svg"
    argument = "scenes;edits=0;captions=20"
    shown = run("data", "show", argument, "--n", "2", "--out", out).output.splitlines()
    assert shown[-1] == f"2 of 2 documents: {out}"
    assert out.read_text().count("<image") == 2
    told = refused("data", "show", argument, "--n", "2", "--out", tmp_path / "a.png")
    assert (
        told
        == f"error: --out {tmp_path / 'a.png'}: none of these is a picture: give a name that ends in .svg"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "--data 'nothing' is neither"),
        (("digits", "--split", "tets"), "unknown split 'tets'"),
        (("digits", "--out", "a.doc"), "--out a.doc: cannot be written: give a name that ends in"),
    ],
)
def test_what_cannot_be_shown_is_named(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("data", "show", *arguments)


def test_an_endless_data_set_is_trained_on_and_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfuse.datasets.EXCERPT", 100)
    told = refused("data", "pack", "scenes", "--out", tmp_path / "a.zarr")
    assert told == "error: data set 'scenes' has no end, so no store holds it: train on it by its name"
    few = sets(
        "transfusion", "train.steps=2", "train.budget=300", "image.codec=blocks", "image.patcher.patch=2"
    )
    result = run("train", "transfusion", "--data", "scenes;preset=easy", "--out", tmp_path / "run", *few)
    assert result.exit_code == 0, result.output
    told = run("train", "transfusion", "--data", "scenes;preset=easy", "--dry-run", *few).output
    assert "endless training" in told
    assert re.search(r"transfusion: (less than|about).* on this machine \(an estimate", told)
