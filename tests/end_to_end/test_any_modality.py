"""Any modality, all the way: train, sample, eval, compare and report know a stranger's roles as they know ours.

The package tests/packages/tf_series stands for the stranger's. Runs are tiny; what they learn is the business of
the slow tests at the end: for every task a figure gets worse where the given is another document's.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from transfuse_lab.runs.records import load_record

from tests.tiny.packages import install

TINY = ("model.dim=32", "model.layers=1", "model.heads=2", "train.steps=30", "train.budget=256")
SMALL = ";train=60;heldout=12"


@dataclass(frozen=True)
class Kind:
    """A recipe, what it is trained on, and the tasks it is asked; ``ask``: how a sample of its last role is."""

    recipe: str
    data: str
    tasks: tuple[str, ...]
    ask: tuple[str, ...]
    sets: tuple[str, ...] = ()


KINDS = {
    "series": Kind(
        "series-flow", "series", ("text->series", "series->text"), ("--given", "text=wave", "--want", "series:24")
    ),
    "text": Kind("series-flow", "series", ("text",), (), ("series=null",)),
    "pictures": Kind(
        "series-pictures", "series-pictures", ("image",), ("--want", "image"), ("series=null", "text=null")
    ),
    "two picture roles": Kind(
        "mirrored", "mirrored",
        ("text->image", "image->mirror", "mirror->image", "image->text"), ("--given", "text=wave", "--want", "mirror"),
    ),
    "three roles": Kind(
        "series-pictures", "series-pictures",
        ("text->image", "image->series", "series->image", "image->text"),
        ("--given", "text=wave", "--want", "series:16"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        install("tf_series", tmp_path_factory.mktemp("site"), patch)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cli: Callable, _installed: None) -> Callable[[str], Path]:
    """The folder of a tiny run of a kind, trained by the command and evaluated."""

    @cache
    def trained(name: str) -> Path:
        kind, out = KINDS[name], tmp_path_factory.mktemp("runs") / "run"
        sets = [word for one in (*kind.sets, *TINY) for word in ("--set", one)]
        done = cli("train", kind.recipe, "--data", f"{kind.data}{SMALL}", "--out", out, *sets)
        assert done.exit_code == 0, (done.stderr, done.exception)
        grid = () if name == "text" else ("--grid", out / "grid.svg")  # a picture of texts there is none
        done = cli("eval", out, *grid)
        assert done.exit_code == 0, (done.stderr, done.exception)
        return out

    return trained


@pytest.mark.parametrize("name", KINDS)
def test_every_task_of_its_documents_is_put_to_it(run: Callable, name: str) -> None:
    record, kind = load_record(run(name) / "record.json"), KINDS[name]
    assert set(record.facts["prompts"]) == set(kind.tasks)
    assert record.faults == {}
    for task in kind.tasks:
        assert np.isfinite(record.metrics[f"loss[{task}]"])
        assert ("->" in task) == (f"given_effect[{task}]" in record.metrics)
        made = [one for one in record.samples if one.task == task]
        assert made
        wanted = task.rpartition(">")[2]
        assert all((one.made.text is None) == (wanted != "text") for one in made)
    roles = {role for task in kind.tasks for role in task.replace("->", " ").split()}
    assert {f"heldout_loss_{role}" for role in roles} <= record.metrics.keys()


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name].ask])
def test_its_last_role_is_sampled_to_a_folder_and_a_sheet(
    run: Callable, name: str, cli: Callable, tmp_path: Path
) -> None:
    ask = KINDS[name].ask
    done = cli("sample", run(name), *ask, "--n", 2, "--out", tmp_path / "made")
    assert done.exit_code == 0, (done.stderr, done.exception)
    documents = sorted((tmp_path / "made").glob("*.json"))
    assert len(documents) == 2
    again = cli("sample", run(name), "--document", documents[0], *ask[-2:], "--out", tmp_path / "more")
    assert again.exit_code == 0, (again.stderr, again.exception)
    done = cli("sample", run(name), *ask, "--out", tmp_path / "sheet.svg")
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert "<image" in (tmp_path / "sheet.svg").read_text()


def test_lengths_that_were_asked_for(run: Callable, cli: Callable, tmp_path: Path) -> None:
    for length in (16, 24):
        out = tmp_path / f"{length}.npy"
        done = cli(
            "sample", run("series"), "--given", "text=wave", "--want", f"series:{length}", "--out", out
        )
        assert done.exit_code == 0, done.stderr
        assert np.load(out).shape == (length,)
    done = cli("sample", run("series"), "--want", "series:17", "--out", tmp_path / "x.npy")
    assert done.exit_code == 2
    assert "16" in done.stderr


def test_texts_and_captions_are_printed(run: Callable, cli: Callable, tmp_path: Path) -> None:
    done = cli("sample", run("text"), "--prompt", "wa", "--tokens", 5)
    assert done.exit_code == 0, done.stderr
    np.save(tmp_path / "s.npy", np.linspace(-1, 1, 16, dtype=np.float32))
    done = cli("sample", run("series"), "--given", f"series=@{tmp_path / 's.npy'}", "--want", "text")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip()


def test_its_metric_judges_it_with_a_word_on_each_sample(run: Callable) -> None:
    record = load_record(run("series") / "record.json")
    assert 0 <= record.metrics["shape_accuracy"] <= 1
    (figure,) = [one for one in record.figures if one.name == "shape_accuracy"]
    assert (figure.title, figure.better, figure.form) == ("Series drawn as asked", "higher", "percent")
    assert all(one.note for one in record.samples if one.task == "text->series")
    assert not any(name.startswith("generation_accuracy") for name in record.metrics)


@pytest.mark.slow
def test_two_recipes_of_it_are_compared_and_the_report_shows_plots(cli: Callable, tmp_path: Path) -> None:
    """At 2 seeds, by processes of their own; and what a task's given is worth is positive for every seed."""
    done = cli(
        "compare", "series-flow", "series-ddpm", "--data", "series", "--seeds", "0,1", "--out", tmp_path,
        "--set", "train.flops=4e10",
    )  # fmt: skip
    assert done.exit_code == 0, (done.stderr, done.stdout)
    told = json.loads((tmp_path / "compare.json").read_text())
    for figures in told["recipes"].values():
        assert min(figures["shape_accuracy"]["values"]) > 0.5
        assert min(figures["caption_accuracy"]["values"]) > 0.8
        for task in KINDS["series"].tasks:
            beyond_the_seeds(figures[f"given_effect[{task}]"])
    assert told["figures"]["shape_accuracy"]["better"] == "higher"
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/svg+xml") > 100
    assert "text-&gt;series" in page


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two picture roles", "three roles"])
def test_what_a_given_is_worth_for_every_task(name: str, cli: Callable, tmp_path: Path) -> None:
    kind = KINDS[name]
    done = cli(
        "compare",
        kind.recipe,
        "--data",
        kind.data,
        "--seeds",
        "0,1",
        "--out",
        tmp_path,
        "--set",
        "train.flops=6e10",
    )
    assert done.exit_code == 0, (done.stderr, done.stdout)
    figures = json.loads((tmp_path / "compare.json").read_text())["recipes"][kind.recipe]
    for task in kind.tasks:
        beyond_the_seeds(figures[f"given_effect[{task}]"])


def beyond_the_seeds(effect: dict) -> None:
    """All seeds say that the given helps, by more than they differ."""
    low, high = sorted(effect["values"])
    assert low > 0
    assert low > high - low
