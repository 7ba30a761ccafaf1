"""A plan all the way, on a stranger's modality: tuned, run with branches, answered; stopped anywhere it goes on.

The package tests/packages/tf_series stands for the stranger's: no line of ours knows it.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transfuse_lab.comparison import worker
from transfuse_lab.comparison.keeping import MADE_BY, PLACE
from transfuse_lab.runs.records import load_record, save_record

from tests.tiny.packages import install
from tests.tiny.workers import Here

PLAN = """
title: Flow against DDPM, for series
data: series;train=24;heldout=8
records: records
result: series.md
tuned: tuned.json
set: [model.heads=2, model.layers=1, train.budget=128, eval.prompts=4, series.sampler.evaluations=3]
arms: {{flow: {{recipe: series-flow}}, ddpm: {{recipe: series-ddpm}}}}
sizes:
  small: {{set: [model.dim=16], flops: {small:g}, speed: 1e+7, evaluation: 1}}
  large: {{set: [model.dim=24], flops: {large:g}, evaluation: 1}}
groups:
  main: {{sizes: [large], seeds: [0, 1, 2], shares: [0.5]}}
  aa: {{arms: [flow], sizes: [small], seeds: [10, 11, 12, 13]}}
  again: {{arms: [flow], sizes: [small], seeds: [10]}}
  documents: {{sizes: [small], seeds: [10], lens: documents}}
hypotheses:
  accuracy: {{figure: shape_accuracy, arms: [flow, ddpm], margin: 0.1, primary: true}}
  text: {{figure: heldout_loss_text, arms: [flow, ddpm], margin: 0.02, relative: true, primary: true}}
scaling:
  text: {{figure: heldout_loss_text, arms: [flow, ddpm]}}
checks:
  same: {{statistic: same, group: again, other: aa, at_most: 0}}
  alike-runs: {{statistic: false finds, figure: heldout_loss_text, group: aa, seeds: 2}}
tune:
  arms:
    flow: {{trained: [{{key: train.lr, values: [2e-3, 4e-3, 8e-3]}}], drawn: {{series.guidance.scale: [1, 2]}}}}
    ddpm: {{trained: [{{key: train.lr, values: [2e-3, 4e-3, 8e-3]}}, {{key: loss.series, values: [2, 5, 10]}}]}}
  sizes: [small]
  seeds: [100]
  score: {{shape_accuracy: 1, heldout_loss_text: -0.1}}
  trials: 4
hours: {hours:g}
"""


def write(
    folder: Path,
    small: float = 2e7,
    large: float = 4e7,
    hours: float = 1.0,
    change: tuple[str, str] = ("", ""),
) -> Path:
    path = folder / "plan.yaml"
    path.write_text(PLAN.format(small=small, large=large, hours=hours).replace(*change))
    return path


def here(patch: pytest.MonkeyPatch) -> None:
    """Jobs are done in this process, one at a time."""
    Here.started.clear()
    patch.setattr(subprocess, "Popen", Here)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        install("tf_series", tmp_path_factory.mktemp("site"), patch)
        yield


@pytest.fixture(scope="module")
def carried_out(stranger: None, tmp_path_factory: pytest.TempPathFactory, cli: Callable) -> Path:
    """The plan's file, tuned and run."""
    folder = tmp_path_factory.mktemp("plan")
    path, out = write(folder), folder / "runs"
    with pytest.MonkeyPatch.context() as patch:
        here(patch)
        first = cli("compare", "--plan", path, "--out", out, "--dry-run")
        assert "not tuned yet" in first.stdout, (first.stderr, first.exception)
        assert "19 of 19 runs to do" in first.stdout
        untuned = cli("compare", "--plan", path, "--out", out)
        assert "the plan is tuned first: transfuse tune PLAN" in untuned.stderr
        tuned = cli("tune", path, "--out", out)
        assert tuned.exit_code == 0, (tuned.stderr, tuned.stdout, tuned.exception)
        dry = cli("compare", "--plan", path, "--out", out, "--dry-run")
        assert dry.exit_code == 0, (dry.stderr, dry.exception)
        assert "19 of 19 runs to do" in dry.stdout
        assert not list((folder / "records").glob("*.json"))
        Here.started.clear()
        done = cli("compare", "--plan", path, "--out", out)
        assert done.exit_code == 0, (done.stderr, done.stdout, done.exception)
        assert Here.started == ["run"] * 13, "a branch and its trunk are one job; tuning left the codecs"
    return path


def told(path: Path) -> dict[str, Any]:
    return json.loads(path.with_name("series.json").read_text())


def test_tuning_gives_equal_trials_and_extends_what_is_at_an_edge(carried_out: Path) -> None:
    tuned = json.loads(carried_out.with_name("tuned.json").read_text())
    flow, ddpm = (tuned["arms"][arm]["small"] for arm in ("flow", "ddpm"))
    assert [one["key"] for one in flow] == ["train.lr", "series.guidance.scale"]
    assert [one["key"] for one in ddpm] == ["train.lr", "loss.series"]
    trials = {
        arm: sum(len(one["tried"]) for one in found if not one["drawn"])
        for arm, found in (("flow", flow), ("ddpm", ddpm))
    }
    assert trials["flow"] == trials["ddpm"] >= 6
    for one in (*flow, *ddpm):
        values = [value for value, _ in one["tried"]]
        assert one["interior"] or len(values) >= 4 or one["drawn"]
        assert min(values) <= one["chosen"] <= max(values)
    picture = carried_out.with_name("tuned.svg").read_text()
    assert picture.startswith("<svg xmlns=")
    assert "ddpm, small: loss.series" in picture


def test_each_run_leaves_a_small_record_with_its_place_and_what_made_it(carried_out: Path) -> None:
    paths = sorted((carried_out.parent / "records").glob("*.json"))
    assert len(paths) == 19
    records = [load_record(path) for path in paths]
    assert {r.facts[PLACE]["group"] for r in records} == {"main", "aa", "again", "documents"}
    assert all({"code", "processor", "torch"} <= set(r.facts[MADE_BY]) for r in records)
    assert sum(bool(r.samples) for r in records) == 6, "of the first seed of each group alone"
    assert all(len(r.curve) <= 20 for r in records)
    settings = [r.settings["train"] for r in records if r.facts[PLACE]["group"] == "main"]
    assert all(one["cooldown"] == 0.2 for one in settings)


def test_a_branch_has_its_share_of_the_budget_and_leaves_the_trunk_as_it_cools_down(
    carried_out: Path,
) -> None:
    folder = carried_out.parent / "records"
    for seed in range(3):
        half = load_record(folder / f"flow-size=large-share=0.5-seed{seed}.json")
        whole = load_record(folder / f"flow-size=large-seed{seed}.json")
        assert half.metrics["train_flops"] == pytest.approx(2e7, rel=0.3)
        assert whole.metrics["train_flops"] == pytest.approx(4e7, rel=0.2)
        assert half.settings["train"]["warmup"] == 2 * whole.settings["train"]["warmup"]
        (change,) = half.facts["history"]
        assert change["changed"]["train.flops"] == [4e7, 2e7]
        assert half.facts["weights"] != whole.facts["weights"]
        assert half.curve[0] == whole.curve[0], "they begin as one"


def test_equal_documents_are_equal(carried_out: Path) -> None:
    folder = carried_out.parent / "records"
    documents = [load_record(p).facts["documents"] for p in folder.glob("*group=documents*.json")]
    assert len(documents) == 2
    assert documents[0] == pytest.approx(documents[1], rel=0.1)


def test_the_plan_is_answered(carried_out: Path) -> None:
    found = told(carried_out)
    assert found["runs"] | {"core_hours": 0} == {
        "planned": 19, "there": 19, "diverged": [], "core_hours": 0, "seeds": found["runs"]["seeds"],
    }  # fmt: skip
    for one in found["hypotheses"].values():
        assert one["finding"]["verdict"] in ("seen", "contrary", "not seen", "undecided")
        assert one["finding"]["detectable"] > 0
    assert found["checks"]["same"]["holds"] is True
    text = carried_out.with_name("series.md").read_text()
    assert found["plan"]["sha256"] in text
    assert "detectable" in text
    assert found["plan"]["sha256"] in (carried_out.parent / "runs" / "report.html").read_text()
    compared = json.loads((carried_out.parent / "runs" / "compare.json").read_text())
    assert compared["findings"]["plan"]["sha256"] == found["plan"]["sha256"]


def test_records_alone_are_enough_to_go_on_from(
    carried_out: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in another sitting, which has no runs; and one record is missing."""
    before, out = told(carried_out), carried_out.parent / "elsewhere"
    lost = carried_out.parent / "records" / "flow-size=large-share=0.5-seed1.json"
    record = load_record(lost)
    monkeypatch.setattr(subprocess, "Popen", None)
    done = cli("compare", "--plan", carried_out, "--out", out)
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert "0 of 19 runs to do" in done.stdout
    assert told(carried_out) == before
    lost.unlink()
    here(monkeypatch)
    done = cli("compare", "--plan", carried_out, "--out", out)
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert "1 of 19 runs to do" in done.stdout
    assert load_record(lost).facts["weights"] == record.facts["weights"], "made again, it is equal to the bit"
    assert told(carried_out)["hypotheses"] == before["hypotheses"]


def test_a_branch_is_not_taken_where_its_trunk_has_gone_on(
    carried_out: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = carried_out.parent / "records" / "flow-size=large-share=0.5-seed2.json"
    kept = lost.read_bytes()
    (folder,) = (carried_out.parent / "runs" / "runs").glob("flow-size=large-share=0.5-seed2-*")
    shutil.move(folder, folder.parent / "away")
    lost.unlink()
    here(monkeypatch)
    done = cli("compare", "--plan", carried_out, "--out", carried_out.parent / "runs")
    shutil.move(folder.parent / "away", folder)
    lost.write_bytes(kept)
    assert "has gone beyond 40% of its budget" in done.stderr
    assert "so that both are made anew" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"facts": {MADE_BY: {"code": "other"}}}, "are unlike and are not compared: code "),
        ({"settings": {"train": {"lr": 1.0}}}, "is of another run: settings"),
        ({"entry": "other"}, "is of another run: entry: other is not flow"),
    ],
)
def test_what_is_unlike_is_refused(
    carried_out: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    path = carried_out.parent / "records" / "flow-size=large-seed0.json"
    kept = path.read_bytes()
    record = load_record(path)
    if "facts" in change:
        change = {"facts": {**record.facts, MADE_BY: {**record.facts[MADE_BY], **change["facts"][MADE_BY]}}}
    try:
        save_record(path, record.model_copy(update=change))
        done = cli("compare", "--plan", carried_out, "--out", carried_out.parent / "runs")
        assert done.exit_code == 2
        assert words in done.stderr
    finally:
        path.write_bytes(kept)


def test_nothing_is_started_when_the_hours_are_spent(
    carried_out: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write(tmp_path, hours=1e-6, large=4.5e7)
    shutil.copy(carried_out.with_name("tuned.json"), tmp_path)
    here(monkeypatch)
    done = cli("compare", "--plan", path, "--out", tmp_path / "runs")
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert "more than the plan allows" in done.stdout
    assert "is not started: 1e-06 core-hours are all that the plan allows" in done.stdout
    assert "run" not in Here.started


@pytest.mark.parametrize("holds", [True, False, None])
def test_what_a_plan_requires_has_to_hold(
    carried_out: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, holds: bool | None
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    path = write(tmp_path, change=("hours:", "requires: [pilot.json]\nhours:"))
    for command in (("tune", path), ("compare", "--plan", path)):
        assert "requires" in cli(*command).stderr, "not there"
    (tmp_path / "pilot.json").write_text(json.dumps({"checks": {"ceilings": {"holds": holds}}}))
    done = cli("compare", "--plan", path, "--out", tmp_path / "runs", "--dry-run")
    if holds:
        assert "19 of 19 runs to do" in done.stdout
    else:
        assert "ceilings does not hold" in done.stderr
        assert "nothing is started" in done.stderr


@pytest.mark.slow
def test_a_stranger_is_told_what_its_seeds_could_have_seen(
    stranger: None, cli: Callable, tmp_path: Path
) -> None:
    """With budgets at which it learns, in processes of their own."""
    path = write(tmp_path, small=1e10, large=2e10, hours=0.5)
    for command in (("tune", path), ("compare", "--plan", path)):
        done = cli(*command, "--out", tmp_path / "runs")
        assert done.exit_code == 0, (done.stderr, done.exception)
    found = told(path)
    assert found["runs"]["there"] == found["runs"]["planned"]
    assert found["runs"]["core_hours"] < 0.5
    accuracy = found["hypotheses"]["accuracy"]["finding"]
    assert accuracy["detectable"] > accuracy["sd"] > 0
    assert found["checks"]["same"]["holds"] is True
    assert worker.WEIGHTS in load_record(next((tmp_path / "records").glob("flow*seed0.json"))).facts
