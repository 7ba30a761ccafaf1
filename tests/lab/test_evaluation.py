"""``transfuse eval``: what is measured of a run, the record it leaves, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transfuse import checkpoints
from transfuse.checkpoints import RunFolder
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.generation import GenerationConfig
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join
from transfuse.training.trainer import Trainer
from transfuse_lab.evaluation import evaluate as evaluating
from transfuse_lab.evaluation.evaluate import caption_likelihood, evaluate, pairs
from transfuse_lab.evaluation.shown import prompt_spread
from transfuse_lab.runs import trained as running
from transfuse_lab.runs.records import load_record, png_base64
from transfuse_lab.runs.trained import draw_images, open_trained, write_captions

from tests.tiny.models import draw_blindly

RECIPES = ("transfusion", "chameleon")
METRICS = {
    "generation_accuracy", "caption_accuracy", "caption_nll_token", "caption_nll_byte", "frechet_distance",
    "reconstruction_error", "positions_per_second", "train_flops",
}  # fmt: skip


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(trained: Callable, recipe: str) -> Model:
    return checkpoints.load(trained(recipe))[1]


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, trained: Callable, cli: Callable, recipe: str
) -> Path:
    """A copy of the run, evaluated by the command."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(trained(recipe), folder)
    done = cli("eval", folder)
    assert done.exit_code == 0, done.stderr
    for name in METRICS:
        assert name in done.stdout
    assert str(folder / "record.json") in done.stdout
    return folder


def test_the_record(evaluated: Path, recipe: str) -> None:
    record = load_record(evaluated / "record.json")
    assert set(record.metrics) >= METRICS
    assert all(np.isfinite(value) for value in record.metrics.values())
    assert (record.entry, record.recipe, record.seed) == (recipe, recipe, 0)
    log = [json.loads(line) for line in (evaluated / "metrics.jsonl").read_text().splitlines()]
    assert [(p.step, p.flops, p.positions) for p in record.curve] == [
        (line["step"], line["flops"], line["positions"]) for line in log
    ]
    assert [p.losses for p in record.curve] == [
        {"text": line["loss_text"], "image": line["loss_image"]} for line in log
    ]
    assert record.metrics["train_flops"] == log[-1]["flops"]
    assert {sample.prompt for sample in record.samples} == {"up", "down", "left", "right"}
    assert len(record.captions) == len(record.samples) == 8
    assert record.settings["model"]["dim"] == 32
    assert record.facts["steps"] == 8
    assert record.facts["positions"] == log[-1]["positions"]
    assert record.facts["evaluated_pairs"] == 8
    assert record.facts["parameters"]["backbone"] > 0
    assert set(record.facts["loss_units"]) == {"text", "image"}


def test_evaluating_again_gives_the_same_figures(evaluated: Path, cli: Callable) -> None:
    before = load_record(evaluated / "record.json")
    cli("eval", evaluated)
    assert load_record(evaluated / "record.json") == before


def test_likelihood_by_hand(model: Model, pictures: Path) -> None:
    """The sum over a caption's tokens of −log p, image given and clean; markers and the end not counted."""
    from transfuse_lab.datasets.folder import Folder

    held = pairs(Folder(pictures, channels=1), "heldout", "text", "image")
    documents = [held.answered(i) for i in range(5)]
    long = replace(documents[0], items=(documents[0].items[0], Item("text", "up down left right")))
    documents.append(long)
    by_hand, tokens = 0.0, 0
    with torch.no_grad():
        for document in documents:
            row = join([model.layout.sequence(document)])
            batch = collate(row, model.modalities, Key(0), clean=True)
            hidden, _ = model(batch)
            start = model.vocabulary.range("text").start
            ids = model.layout.payloads(document)[1] + start
            first = row.tokens.tolist().index(model.vocabulary.marker("</image>"))
            for i, wanted in enumerate(ids):
                logits = model.logits(hidden[first + i][None])[0].double()
                by_hand += float(torch.logsumexp(logits, 0) - logits[wanted])
                tokens += 1
    nats, count = caption_likelihood(model, documents, "text")
    assert count == tokens
    assert nats == pytest.approx(by_hand, rel=1e-4)


def test_documents_longer_than_a_row(model: Model) -> None:
    long = Document((Item("text", "up down " * 1100),))
    nats, count = caption_likelihood(model, [long], "text")
    assert np.isfinite(nats)
    assert count > 4096


def test_decoding_in_parts_is_decoding_at_once(
    model: Model, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    from transfuse_lab.datasets.folder import Folder

    held = pairs(Folder(pictures, channels=1), "heldout", "text", "image")
    prompts, questions = [held.prompt(i) for i in range(5)], [held.question(i) for i in range(5)]
    draw_blindly(model, monkeypatch)
    config = GenerationConfig(want="text", tokens=32, seed=1)

    def decoded() -> tuple[list[np.ndarray], list[str]]:
        return list(draw_images(model, prompts, "image", 1)), list(write_captions(model, questions, config))

    whole = decoded()
    monkeypatch.setattr(running, "AT_ONCE", 2)
    parts = decoded()
    assert parts[1] == whole[1]
    assert len(set(whole[1])) == 5  # a place, a caption
    for one, two in zip(parts[0], whole[0], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)
    assert np.abs(whole[0][0] - whole[0][4]).max() > 0  # one prompt, another place: another sample


def test_what_metrics_are_given(model: Model, pictures: Path) -> None:
    from transfuse_lab.datasets.folder import Folder

    data = Folder(pictures, channels=1)
    given = evaluate(model, data, seed=0)
    held = [data.document("heldout", i) for i in range(8)]
    assert given.heldout_captions == given.prompts == [d.items[0].data for d in held]
    np.testing.assert_array_equal(given.heldout_images, np.stack([d.items[1].data for d in held]))
    assert len(given.train_images) == len(given.train_captions) == 40
    assert given.generated.shape == given.reconstructions.shape == (8, 1, 8, 8)
    assert given.caption_bytes == sum(len(caption) for caption in given.heldout_captions)
    assert given.caption_tokens >= 8
    codec = model.modalities["image"]
    np.testing.assert_allclose(given.reconstructions[3], codec.decode(codec.encode(given.heldout_images[3])))
    assert len(given.predicted_captions) == 8


def test_classes_are_prompted_once_and_names_of_both_splits(
    small_recipe: Callable, fitted: Callable, shapes: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where captions are names, an even spread of those trained on is drawn too, with the same noise."""

    def name(document: Document) -> Document:
        caption, image = document.items
        return replace(document, items=(replace(caption, data=f"{caption.data} {document.id}"), image))

    monkeypatch.setattr(evaluating, "SEEN", 3)
    data = shapes(train=9, heldout=2, change=name)
    recipe = small_recipe("transfusion")
    model = fitted(recipe, data)
    Trainer(recipe, model, data).step()
    given = evaluate(model, data, seed=0)
    named = pairs(data, "train", "text", "image")
    assert given.seen_prompts == [named.captions[i] for i in (0, 4, 8)]
    expected = list(draw_images(model, [named.prompt(i) for i in (0, 4, 8)], "image", 0))
    np.testing.assert_allclose(given.seen_generated, np.stack(expected), atol=1e-5)
    assert given.generated.shape == (2, 1, 8, 8)
    classes = evaluate(model, shapes(train=9, heldout=2), seed=0)
    assert (classes.seen_prompts, len(classes.seen_generated)) == ([], 0)


def test_the_spread_is_even_and_holds_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "SEEN", 5)
    names = [f"name {n}" for n in range(1000)]
    assert evaluating.seen_places(names, []) == [0, 250, 500, 749, 999]
    assert evaluating.seen_places(names[:3], []) == [0, 1, 2]
    assert evaluating.seen_places(["up", "down"] * 100, ["up"]) == []
    assert prompt_spread(names, 3) == [0, 500, 999]
    assert prompt_spread(["up", "down", "up", "up"], 2) == [0, 1]


def test_the_samples_of_the_record_stand_beside_their_own_images(evaluated: Path, pictures: Path) -> None:
    from transfuse_lab.datasets.folder import Folder

    real: dict[str, set[str]] = {}
    for document in (Folder(pictures, channels=1).document("heldout", i) for i in range(8)):
        real.setdefault(document.items[0].data, set()).add(png_base64(document.items[1].data))
    for sample in load_record(evaluated / "record.json").samples:
        assert sample.real in real[sample.prompt]
        assert sample.split == "heldout"


def test_a_grid_of_pairs(evaluated: Path, cli: Callable, tmp_path: Path) -> None:
    from PIL import Image

    grid = tmp_path / "new" / "grid.png"
    done = cli("eval", evaluated, "--grid", grid)
    assert done.exit_code == 0, done.stderr
    assert f"real and generated: {grid}" in done.stdout
    with Image.open(grid) as opened:
        assert opened.width == 8 * (2 * 64 + 4 + 2 * 12)
    done = cli("eval", evaluated, "--grid", tmp_path / "grid.txt")
    assert done.exit_code == 2
    assert "give a name that ends in .png" in done.stderr


def test_a_document_that_is_no_pair(shapes: Callable) -> None:
    def alone(document: Document) -> Document:
        return replace(document, items=document.items[:1]) if document.id == 3 else document

    with pytest.raises(
        TransfuseError, match=r"^shapes train 3: evaluation takes one text and one image .*\['text'\]"
    ):
        pairs(shapes(change=alone), "train", "text", "image")


def test_what_cannot_be_evaluated_says_so(shapes: Callable) -> None:
    with pytest.raises(TransfuseError, match="split 'heldout' is empty"):
        pairs(shapes(heldout=0), "heldout", "text", "image")
    with pytest.raises(TransfuseError, match="images of one shape"):
        pairs(shapes(sides=(8, 4)), "heldout", "text", "image")


def test_data_that_changed_or_went(
    trained: Callable, cli: Callable, pictures: Path, tmp_path: Path, installed: Plugins
) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(trained("transfusion"), run)
    shutil.copytree(pictures, data)
    described = json.loads((run / "modalities.json").read_text())
    described["data_section"]["path"] = str(data)
    described["data"]["name"] = "data"
    (run / "modalities.json").write_text(json.dumps(described))
    open_trained(RunFolder(run), installed)
    listing = (data / "captions.jsonl").read_text()
    (data / "captions.jsonl").write_text(listing.replace('"up"', '"high"', 1))
    done = cli("eval", run)
    assert done.exit_code == 2
    assert f"{run}: its data set data has changed since it was trained" in done.stderr
    shutil.rmtree(data)
    done = cli("eval", run)
    assert done.exit_code == 2
    assert f"data folder {data}: not there" in done.stderr


def test_a_run_that_never_stepped(
    trained: Callable, cli: Callable, tmp_path: Path, installed: Plugins
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("transfusion"), run)
    folder = RunFolder(run)
    model = folder.build_model(folder.recipe(installed), installed)
    shutil.rmtree(run / "checkpoints")
    done = cli("eval", run)
    assert done.exit_code == 2
    assert "holds no checkpoint: train it first" in done.stderr
    folder.write_checkpoint(0, model, state={"progress": {}})
    (run / "metrics.jsonl").write_text("")
    done = cli("eval", run)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
