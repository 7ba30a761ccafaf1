"""What would stop a run later is told before anything costs, with cures that work."""

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.documents import Document
from transfuse.errors import TransfuseError
from transfuse.modalities.codec import GridModality
from transfuse.registry.plugins import Plugins
from transfuse_lab.runs.survey import survey
from transfuse_lab.runs.training import train

from tests.tiny.recipes import overrides


def wordy(document: Document) -> Document:
    """Every fifth caption is long."""
    caption, image = document.items
    text = "up and down and left and right " * 30 if document.id % 5 == 2 else caption.data
    return replace(document, items=(replace(caption, data=text), image))


@pytest.fixture
def data(shapes: Callable[..., DataSet]) -> DataSet:
    return shapes(train=20, test=5, change=wordy)


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The efforts of autoencoders' trainings."""
    efforts: list[float] = []
    fit = GridModality.fit

    def noted(self: GridModality, raws, seed, report, effort=1.0):
        efforts.append(effort)
        fit(self, raws, seed, report, effort)

    monkeypatch.setattr(GridModality, "fit", noted)
    return efforts


def begin(recipe: Recipe, data: DataSet, folder: Path, plugins: Plugins, said: list[str] | None = None):
    report = (lambda line: None) if said is None else said.append
    return train(recipe, data, {"name": "shapes"}, folder, plugins, report=report)


def test_documents_that_do_not_fit_are_told_before_an_autoencoder_is_trained(
    small_recipe: Callable, data: DataSet, installed: Plugins, tmp_path: Path, costly: list[float]
) -> None:
    recipe = small_recipe("transfusion", pixels=False)
    with pytest.raises(TransfuseError) as told:
        begin(recipe, data, tmp_path, installed)
    message = str(told.value)
    assert message.startswith("shapes: 4 of 20 training documents do not fit a row of 160: shapes train 2 (")
    assert message.count("positions)") == 3
    assert costly == [0.0]


@pytest.mark.parametrize("cure", ["budget", "skip", "cut"])
def test_each_cure_that_is_named_works(
    small_recipe: Callable, data: DataSet, installed: Plugins, tmp_path: Path, cure: str
) -> None:
    recipe = small_recipe("transfusion")
    with pytest.raises(TransfuseError) as told:
        begin(recipe, data, tmp_path, installed)
    (budget,) = re.findall(r"--set (train.budget=\d+)", str(told.value))
    said: list[str] = []
    trainer = begin(
        small_recipe("transfusion", budget if cure == "budget" else f"train.too_long={cure}"), data, tmp_path,
        installed, said,
    )  # fmt: skip
    assert trainer.done
    assert any("4 of 20 training documents do not fit" in line for line in said) == (cure != "budget")


def test_skipped_documents_never_train_and_resuming_is_exact(
    small_recipe: Callable, data: DataSet, installed: Plugins, tmp_path: Path
) -> None:
    recipe = small_recipe("transfusion", "train.too_long=skip", "train.steps=6")
    whole = begin(recipe, data, tmp_path / "whole", installed)
    begin(
        small_recipe("transfusion", "train.too_long=skip", "train.steps=3"), data, tmp_path / "two", installed
    )
    two = begin(recipe, data, tmp_path / "two", installed)
    assert two.state()["waiting"] == whole.state()["waiting"]
    assert two.progress.documents == whole.progress.documents
    row = next(whole.rows)
    assert not [source for source in row.sources if int(source.split()[-1]) % 5 == 2]


def test_none_that_fits_is_an_error_and_no_endless_search(small_recipe: Callable, shapes: Callable) -> None:
    recipe = small_recipe("transfusion", "train.too_long=skip", "train.budget=8")
    with pytest.raises(TransfuseError, match=r"20 of 20 .* so none is left: raise train.budget to"):
        survey(recipe, shapes(train=20), lambda line: None)


def test_a_held_out_document_of_another_size_is_said_and_stops_nothing(
    small_recipe: Callable, shapes: Callable
) -> None:
    def large(document: Document) -> Document:
        caption, image = document.items
        if not document.source.endswith("test 1"):
            return document
        return replace(document, items=(caption, replace(image, data=image.data.repeat(2, 1).repeat(2, 2))))

    said: list[str] = []
    survey(small_recipe("transfusion"), shapes(train=6, test=3, change=large), said.append)
    assert len(said) == 1
    assert said[0].startswith(
        "shapes: 1 of 3 held-out documents cannot be laid out, and evaluation leaves them out"
    )


def test_a_comparison_finds_the_value_of_an_axis_that_cannot_be_built_before_a_job_is_started(
    cli: Callable, data_argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    tiny = [one for one in overrides("transfusion", "train.flops=1e8") if "budget" not in one]
    made = [word for one in tiny for word in ("--set", one)]
    done = cli(
        "compare", "transfusion", "--data", data_argument, "--seeds", "0", "--out", tmp_path,
        *made, "--axis", "train.budget=160,20",
    )  # fmt: skip
    assert done.exit_code == 2, done.exception
    assert "error: transfusion;train.budget=20: " in done.stderr
    assert "do not fit a row of 20" in done.stderr
