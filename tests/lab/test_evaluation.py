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
from transfuse.config.recipe import EvalSettings
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.generation import generate
from transfuse.metrics import Task
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join
from transfuse.training.saving import write_checkpoint
from transfuse.training.trainer import Trainer
from transfuse_lab.evaluation.evaluate import evaluate
from transfuse_lab.evaluation.losses import loss_figures, losses
from transfuse_lab.evaluation.tasks import ask
from transfuse_lab.runs.records import data_uri, load_record
from transfuse_lab.runs.trained import open_trained

from tests.tiny.models import draw_blindly
from tests.tiny.runs import rewritten

RECIPES = ("transfusion", "chameleon")
METRICS = {
    "generation_accuracy", "caption_accuracy", "caption_nll_token", "caption_nll_byte", "frechet_distance",
    "kernel_distance", "heldout_loss_text_byte", "reconstruction_error", "positions_per_second", "train_flops",
}  # fmt: skip
DRAW, CAPTION = Task.parse("text->image"), Task.parse("image->text")
ALL = EvalSettings()


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
    drawn, written = ([one for one in record.samples if one.task == str(task)] for task in (DRAW, CAPTION))
    assert {one.given[0].text for one in drawn} == {"up", "down", "left", "right"}
    assert len(written) == len(drawn) == 8
    assert all(one.made.drawing and one.note for one in drawn)
    assert {one.truth.text for one in written if one.truth} == {"up", "down", "left", "right"}
    assert record.faults == {}
    titles = {one.name: one.title for one in record.figures}
    assert titles.keys() == record.metrics.keys()
    assert {f"loss[{DRAW}]", f"given_effect[{CAPTION}]", "heldout_loss_text", "peak_memory"} <= titles.keys()
    assert record.settings["model"]["dim"] == 32
    assert record.facts["steps"] == 8
    assert record.facts["positions"] == log[-1]["positions"]
    assert record.facts["prompts"] == {str(DRAW): 8, str(CAPTION): 8}
    assert record.facts["metrics"]["caption_nll"] == {"name": "caption_nll", "split": "test"}
    assert record.facts["parameters"]["backbone"] > 0
    assert set(record.facts["loss_units"]) == {"text", "image"}


def test_evaluating_again_gives_the_same_figures(evaluated: Path, cli: Callable) -> None:
    before = load_record(evaluated / "record.json")
    cli("eval", evaluated)
    after = load_record(evaluated / "record.json")
    seconds = {"evaluation_seconds"}
    assert after.samples == before.samples
    assert {k: v for k, v in after.metrics.items() if k not in seconds} == {
        k: v for k, v in before.metrics.items() if k not in seconds
    }


def test_a_task_and_a_number_of_prompts_are_asked_for(evaluated: Path, cli: Callable, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    done = cli("eval", run, "--task", "image->text", "--prompts", 3)
    assert done.exit_code == 0, done.stderr
    assert "image->text: 3 held-out prompts, the most that eval.prompts allows" in done.stdout
    record = load_record(run / "record.json")
    assert record.facts["prompts"] == {"image->text": 3}
    assert "generation_accuracy" not in record.metrics
    assert "caption_accuracy" in record.metrics
    done = cli("eval", run, "--task", "image->sound")
    assert done.exit_code == 2
    assert "eval: eval.tasks[0]: names 'sound', which is no role of this recipe" in done.stderr


def test_other_data_leave_the_runs_own_record_alone(
    evaluated: Path, cli: Callable, data_argument: str, tmp_path: Path
) -> None:
    before = (evaluated / "record.json").read_bytes()
    done = cli("eval", evaluated, "--data", f"{data_argument}", "--prompts", 4)
    assert done.exit_code == 0, (done.stderr, done.exception)
    (path,) = evaluated.glob("record-*.json")
    assert f"all of it: {path}" in done.stdout
    assert (evaluated / "record.json").read_bytes() == before


def test_samples_drawn_otherwise_leave_the_runs_own_record_alone(
    evaluated: Path, cli: Callable, recipe: str
) -> None:
    sets = {"transfusion": "image.sampler.evaluations=7", "chameleon": "image.temperature=0"}[recipe]
    key, _, value = sets.rpartition("=")
    before, own = (evaluated / "record.json").read_bytes(), load_record(evaluated / "record.json")
    done = cli("eval", evaluated, "--task", "text->image", "--set", sets)
    assert done.exit_code == 0, (done.stderr, done.exception)
    path = evaluated / f"record-{key.replace('.', '-')}-{value}.json"
    assert f"all of it: {path}" in done.stdout
    assert (evaluated / "record.json").read_bytes() == before
    record = load_record(path)
    assert record.facts["sampled_otherwise"] == [sets]
    assert "sampled_otherwise" not in own.facts
    there = record.settings["modalities"]
    for step in key.split("."):
        there = there[step]
    assert there == int(value)
    assert record.metrics["heldout_loss_text_byte"] == own.metrics["heldout_loss_text_byte"]
    made = [[one.made for one in each.samples if one.task == "text->image"] for each in (own, record)]
    assert len(made[0]) == len(made[1])
    assert made[0] != made[1]
    done = cli("eval", evaluated, "--set", "train.lr=1")
    assert done.exit_code == 2
    assert "--set train.lr: is settled by the training; of this run may be set: " in done.stderr


def test_a_long_override_gives_its_record_a_name_that_a_file_can_have(
    evaluated: Path, cli: Callable, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    for last in "12":
        words = ("--task", "image->text", "--prompts", 2, "--set", f"text.temperature=1.{'0' * 250}{last}")
        done = cli("eval", run, *words)
        assert done.exit_code == 0, (done.stderr, done.exception)
    assert len([*run.glob("record-text-temperature-1-*.json")]) == 2


def asked(pictures: Path, task: Task, split: str = "test"):
    from transfuse_lab.datasets.folder import Folder

    return ask(Folder(pictures, channels=1), split, task)


def test_likelihood_by_hand(model: Model, pictures: Path) -> None:
    """The sum over a caption's tokens of −log p, image given and clean, and of its end."""
    held = asked(pictures, CAPTION)
    documents = [held.answered(i) for i in range(5)]
    long = replace(documents[0], items=(documents[0].items[0], Item("text", "up, übermütig down")))
    documents.append(long)
    by_hand = []
    with torch.no_grad():
        for document in documents:
            row = join([model.layout.sequence(document)])
            batch = collate(row, model.modalities, Key(0), clean=True)
            hidden, _ = model(batch)
            start = model.vocabulary.range("text").start
            ids = [*(model.layout.payloads(document)[1] + start), model.vocabulary.marker("</document>")]
            first = row.tokens.tolist().index(model.vocabulary.marker("</image>"))
            logits = model.logits(hidden[first : first + len(ids)]).double()
            each = torch.logsumexp(logits, 1) - logits.gather(1, torch.tensor(ids)[:, None])[:, 0]
            by_hand.append((float(each.sum()), len(ids)))
    found = losses(model, documents)["text"]
    assert found.count == sum(count for _, count in by_hand)
    assert found.total == pytest.approx(sum(nats for nats, _ in by_hand), rel=1e-4)
    np.testing.assert_allclose(found.by_document, by_hand, rtol=1e-4)
    figures = {figure.name: value for figure, value in loss_figures(model, documents)}
    written = sum(len(document.items[-1].data.encode()) for document in documents)
    assert figures["heldout_loss_text_byte"] == pytest.approx(found.total / written)
    assert not any(name.startswith("heldout_loss_image_byte") for name in figures)


def test_losses_of_spans_are_those_of_training_with_the_same_noise(model: Model, pictures: Path) -> None:
    held = asked(pictures, DRAW)
    documents = [held.answered(i) for i in range(8)]
    found = losses(model, documents)
    again = losses(model, documents)
    for role in found:
        assert found[role].total == again[role].total
    one = found["image"]
    if "image" in model.token_modalities:
        assert one.levels == []
        return
    assert one.count == len(one.levels) == 8
    assert one.total == pytest.approx(sum(loss for _, loss in one.levels))
    assert one.by_document[:, 1].tolist() == [1] * 8
    assert all(0 <= share <= 1 for share, _ in one.levels)
    assert sum(mean for *_, mean in one.by_level()) > 0
    alone = [losses(model, [document])["image"].total for document in documents]  # noise is a document's own
    np.testing.assert_allclose(one.by_document[:, 0], alone, rtol=1e-4)


def test_documents_longer_than_a_row(model: Model) -> None:
    long = Document((Item("text", "up down " * 1100),))
    found = losses(model, [long])["text"]
    assert np.isfinite(found.total)
    assert found.count > 4096


def test_decoding_in_parts_is_decoding_at_once(
    model: Model, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    draw, caption = asked(pictures, DRAW), asked(pictures, CAPTION)
    prompts, questions = ([one.question(i) for i in range(5)] for one in (draw, caption))
    draw_blindly(model, monkeypatch)

    def decoded(budget: int) -> tuple[list[np.ndarray], list[str]]:
        images = generate(model, prompts, want="image", seed=1, budget=budget)
        texts = generate(model, questions, want="text", tokens=32, seed=1, budget=budget)
        return [one.items[-1].data for one in images], [one.items[-1].data for one in texts]

    whole, parts = decoded(1 << 14), decoded(100)
    assert parts[1] == whole[1]
    assert len(set(whole[1])) == 5  # a place, a caption
    for one, two in zip(parts[0], whole[0], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)
    assert np.abs(whole[0][0] - whole[0][4]).max() > 0  # one prompt, another place: another sample


def test_what_metrics_are_given(model: Model, pictures: Path) -> None:
    from transfuse_lab.datasets.folder import Folder

    data = Folder(pictures, channels=1)
    found = evaluate(model, data, 0, ALL)
    held = [data.document("test", i) for i in range(8)]
    draw, caption = found.evaluations
    assert (draw.task, caption.task) == (DRAW, CAPTION)
    assert draw.given("text") == list(caption.truth) == [d.items[0].data for d in held]
    np.testing.assert_array_equal(np.stack(list(draw.truth)), np.stack([d.items[1].data for d in held]))
    assert len(list(draw.examples("train"))) == 40
    assert np.stack(draw.made).shape == np.stack(list(draw.rebuilt)).shape == (8, 1, 8, 8)
    assert draw.trained is None  # captions are classes
    assert caption.tokens >= 8
    assert all(isinstance(text, str) for text in caption.made)
    codec = model.modalities["image"]
    np.testing.assert_allclose(draw.rebuilt[3], codec.decode(codec.encode(draw.truth[3])))
    assert found.faults == {}


def test_names_are_prompted_in_both_splits(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    """Where prompts are names, an even spread of those trained on is drawn too, with the same noise."""

    def name(document: Document) -> Document:
        caption, image = document.items
        return replace(document, items=(replace(caption, data=f"{caption.data} {document.id}"), image))

    data = shapes(train=9, test=2, change=name)
    recipe = small_recipe("transfusion")
    model = fitted(recipe, data)
    Trainer(recipe, model, data).step()
    seen = evaluate(model, data, 0, EvalSettings(trained=3)).evaluations[0].trained
    assert seen is not None
    named = ask(data, "train", DRAW)
    places = (0, 4, 8)
    assert seen.given("text") == [named.prompts[i][0].data for i in places]
    expected = generate(model, [named.question(i) for i in places], want="image")
    np.testing.assert_allclose(
        np.stack(seen.made), np.stack([one.items[-1].data for one in expected]), atol=1e-5
    )
    assert evaluate(model, data, 0, EvalSettings(trained=0)).evaluations[0].trained is None


def test_a_task_that_cannot_be_put_costs_its_own_figures(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    recipe, data = small_recipe("transfusion"), shapes(train=9, test=4)
    model = fitted(recipe, data)  # never trained: no picture may be begun
    found = evaluate(model, data, 0, ALL)
    assert [one.task for one in found.evaluations] == [CAPTION]
    assert "never trained to begin 'image'" in found.faults[str(DRAW)]
    assert "caption_accuracy" not in found.figures


def test_a_sample_that_cannot_be_read_costs_itself_and_not_its_task(
    small_recipe: Callable, fitted: Callable, shapes: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether decode refuses the ids, or encode what decode made of them; the others are what they were."""
    recipe, data = small_recipe("chameleon"), shapes(train=9, test=4)
    model = fitted(recipe, data)
    Trainer(recipe, model, data).step()
    settings = EvalSettings(tasks=[str(DRAW)])
    whole = evaluate(model, data, 0, settings)
    (good,) = whole.evaluations
    image, odd = model.modalities["image"], good.made[1]
    kept = [i for i in range(4) if not np.array_equal(good.made[i], odd)]
    assert kept

    decode, encode = image.decode, image.encode

    def refuses(payload: np.ndarray) -> np.ndarray:
        if np.array_equal(decode(payload), odd):
            raise TransfuseError("these ids are no picture")
        return decode(payload)

    def refuses_raw(raw: np.ndarray) -> np.ndarray:
        if np.array_equal(raw, odd):
            raise TransfuseError("this is no picture")
        return encode(raw)

    for method, fake, told in (
        ("decode", refuses, "these ids are no picture"),
        ("encode", refuses_raw, "encode of what decode gave"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(image, method, fake)
            found = evaluate(model, data, 0, settings)
        (left,) = found.evaluations
        np.testing.assert_array_equal(np.stack(left.made), np.stack([good.made[i] for i in kept]))
        np.testing.assert_array_equal(np.stack(left.truth), np.stack([good.truth[i] for i in kept]))
        assert left.given("text") == [good.given("text")[i] for i in kept]
        assert found.figures[f"unreadable[{DRAW}]"] == 4 - len(kept)
        assert found.figures[f"loss[{DRAW}]"] == whole.figures[f"loss[{DRAW}]"]
        ((name, reason),) = found.faults.items()
        assert name == f"{DRAW}, {4 - len(kept)} of 4 samples"
        assert f"test {min({*range(4)} - {*kept})}: {DRAW}" in reason
        assert told in reason
        assert left.tokens < good.tokens
    assert f"unreadable[{DRAW}]" not in whole.figures


def test_the_samples_of_the_record_stand_beside_their_own_images(
    evaluated: Path, model: Model, pictures: Path
) -> None:
    from transfuse_lab.datasets.folder import Folder

    real: dict[str, set[str]] = {}
    for document in (Folder(pictures, channels=1).document("test", i) for i in range(8)):
        drawing = data_uri(model.modalities["image"].draw(document.items[1].data))
        real.setdefault(document.items[0].data, set()).add(drawing)
    for sample in load_record(evaluated / "record.json").samples:
        if sample.task == str(DRAW):
            assert sample.truth is not None
            assert sample.truth.drawing in real[str(sample.given[0].text)]
            assert sample.split == "heldout"


def test_a_grid_of_pairs(evaluated: Path, cli: Callable, tmp_path: Path) -> None:
    from PIL import Image

    grid = tmp_path / "new" / "grid.png"
    done = cli("eval", evaluated, "--grid", grid)
    assert done.exit_code == 0, done.stderr
    assert f"real and generated: {grid}" in done.stdout
    with Image.open(grid) as opened:
        assert opened.width > 8 * 2 * 64
    done = cli("eval", evaluated, "--grid", tmp_path / "grid.txt")
    assert done.exit_code == 2
    assert "give a name that ends in .png" in done.stderr


def test_data_that_changed_or_went(
    trained: Callable, cli: Callable, pictures: Path, tmp_path: Path, installed: Plugins
) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(trained("transfusion"), run)
    shutil.copytree(pictures, data)

    def change(recipe: dict, described: dict) -> None:
        described["data_section"]["path"] = str(data)
        described["data"]["name"] = "data"

    rewritten(run, change)
    open_trained(RunFolder(run), installed)
    listing = (data / "captions.jsonl").read_text()
    (data / "captions.jsonl").write_text(listing.replace('"up"', '"high"', 1))
    done = cli("eval", run)
    assert done.exit_code == 2
    assert (
        f"{run}: its data set data has changed since it was trained; to evaluate on what is there now say --data"
        in done.stderr
    )
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
    write_checkpoint(folder, 0, model, state={"progress": {}})
    (run / "metrics.jsonl").write_text("")
    done = cli("eval", run)
    assert done.exit_code == 0
    assert "not measured: the model was never trained to begin 'image'" in done.stdout
