"""A package outside the tree, tests/packages/tf_series, written from the docs alone: it is found, and it learns."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transfuse.documents import Document, Item
from transfuse.generation import generate
from transfuse.metrics import Evaluation, Task
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse.training import Trainer
from transfuse_lab.datasets import open_data

from tests.tiny.packages import PACKAGES

SOURCES = sorted((PACKAGES / "tf_series").rglob("*.py"))
TINY = ("model.dim=32", "model.layers=1", "model.heads=2", "train.steps=3", "train.budget=128")
DATA = {"series-flow": "series", "series-ddpm": "series"} | {n: n for n in ("series-pictures", "mirrored")}


@pytest.fixture(scope="module")
def registry(series_plugins: Plugins) -> Registry:
    return Registry.load(series_plugins, [packaged_file()])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_of_transfuse_it_imports_the_authors_face_alone(path: Path) -> None:
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    modules = {node.module for node in imports if node.module and node.module.startswith("transfuse")}
    assert modules <= {"transfuse.plugin"}


def test_it_is_found_as_what_it_was_installed_as(registry: Registry) -> None:
    (row,) = [row for row in registry.plugins.listing() if row.plugin.distribution == "tf-series"]
    assert (row.plugin.name, row.plugin.version, row.status) == ("series", "0.1", "loaded")
    assert set(DATA) <= set(registry.names("recipes"))
    assert registry.faults() == []


def test_a_process_started_from_here_finds_it_too(series_installed: None) -> None:
    command = [sys.executable, "-c", "from transfuse_lab.cli import main; main()", "recipes"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "series-flow" in told


@pytest.mark.parametrize("name", DATA)
def test_every_recipe_of_it_trains_and_continues_each_of_its_items(
    name: str, registry: Registry, fitted: Callable
) -> None:
    data = open_data(f"{DATA[name]};train=16;heldout=4", registry.plugins)
    recipe = registry.recipe(name, TINY)
    trainer = Trainer(recipe, fitted(recipe, data), data)
    while not trainer.done:
        measured = trainer.step()
    assert {key for key in measured if key.startswith("loss_")} == {f"loss_{role}" for role in recipe.loss}
    trainer.model.eval()
    items = data.document("heldout", 0).items
    for i, item in enumerate(items[1:], 1):
        (made,) = generate(trainer.model, [Document(items[:i])], want=item.modality)
        assert made.items[-1].modality == item.modality
        assert np.isfinite(made.items[-1].data).all()


def test_documents_of_a_split_do_not_depend_on_sizes_and_have_two_lengths(registry: Registry) -> None:
    few, many = (open_data(f"series;train={n};heldout=9", registry.plugins) for n in (8, 30))
    for split, index in (("train", 7), ("heldout", 8)):
        (_, a), (_, b) = few.document(split, index).items, many.document(split, index).items
        np.testing.assert_array_equal(a.data, b.data)
    assert {len(raw) for raw in many.raw("train", "series")} == {16, 24}
    assert few.identity() != many.identity()


@pytest.mark.slow
def test_a_minute_teaches_it_its_captions(registry: Registry, fitted: Callable) -> None:
    metric = registry.plugins.choose("metric", "shape_accuracy").build()
    data, recipe = open_data("series", registry.plugins), registry.recipe("series-flow")
    trainer = Trainer(recipe, fitted(recipe, data), data)
    while not trainer.done:
        trainer.step()
    trainer.model.eval()
    documents = [data.document("heldout", i) for i in range(data.size("heldout"))]
    prompts = [Document(document.items[:1]) for document in documents]
    made = [one.items[-1].data for one in generate(trainer.model, prompts, want="series")]
    asked = [document.items[0].data for document in documents]
    assert metric.compute(metric_input(asked, made))["shape_accuracy"] > 0.6
    assert metric.compute(metric_input(asked[1:] + asked[:1], made))["shape_accuracy"] < 0.4


def metric_input(asked: list[str], made: list[np.ndarray]) -> object:

    return Evaluation(Task("series", ("text",)), [(Item("text", word),) for word in asked], made, made)


def test_its_metric_reads_true_series(registry: Registry) -> None:
    data = open_data("series", registry.plugins)
    items = [data.document("heldout", i).items for i in range(data.size("heldout"))]
    asked, series = [text.data for text, _ in items], [one.data for _, one in items]
    metric = registry.plugins.choose("metric", "shape_accuracy").build()
    assert metric.compute(metric_input(asked, series)) == {"shape_accuracy": 1.0}
    assert metric.compute(metric_input(asked, [-one for one in series]))["shape_accuracy"] < 0.5
