"""``transfuse compare``: equal budgets, every cell once, figures in the fields that scripts rely on."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any

import pytest
from transfuse.errors import TransfuseError
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse_lab.commands import compare
from transfuse_lab.comparison import jobs
from transfuse_lab.comparison.compare import share_done, time_left
from transfuse_lab.comparison.plan import plan
from transfuse_lab.comparison.run import Run
from transfuse_lab.comparison.settings import ComparisonSettings
from transfuse_lab.lock import locked
from transfuse_lab.report.page import write_report
from transfuse_lab.runs.records import load_record, save_record

from tests.tiny.recipes import sets
from tests.tiny.workers import Here

BUDGET = "train.flops=3e8"
PROMISED = {
    "generation_accuracy", "caption_accuracy", "caption_nll_token", "caption_nll_byte", "frechet_distance",
    "reconstruction_error", "positions_per_second", "train_flops",
}  # fmt: skip


BOTH = sets("transfusion", "image.codec.steps=6", BUDGET, pixels=False)  # with an autoencoder each, and alike


@pytest.fixture(scope="module")
def compared(
    tmp_path_factory: pytest.TempPathFactory, cli: Callable, data_argument: str
) -> tuple[Path, tuple[str, ...]]:
    """Both recipes, one seed; and the command's arguments."""
    out = tmp_path_factory.mktemp("compared") / "new"
    command = (
        "compare",
        "transfusion",
        "chameleon",
        "--data",
        data_argument,
        "--seeds",
        "0",
        "--out",
        out,
        *BOTH,
    )
    Here.started.clear()
    pages: list[tuple[int, list[str]]] = []

    def written(path: Path, records: list, *rest: Any, awaited: list[str]) -> None:
        write_report(path, records, *rest, awaited=awaited)
        pages.append((len(records), awaited))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Here)
        patch.setattr(compare, "write_report", written)
        done = cli(*command)
    assert done.exit_code == 0, (done.stderr, done.stdout)
    # A page each time that a run has ended, which says what is not there yet.
    assert pages == [(1, ["chameleon, seed 0"]), (2, []), (2, [])]
    assert done.stdout.splitlines()[-1] == f"report:  {out / 'report.html'}"
    assert "2 of 2 runs to do" in done.stdout
    assert "training: less than a minute on this machine (an estimate" in done.stdout
    assert Here.started == ["fit", "fit", "run", "run"]
    return out, command


def test_the_fields_that_scripts_rely_on(compared: tuple[Path, tuple]) -> None:
    told = json.loads((compared[0] / "compare.json").read_text())
    assert set(told["recipes"]) == {"transfusion", "chameleon"}
    for figures in told["recipes"].values():
        assert set(figures) >= PROMISED
        for figure in figures.values():
            assert set(figure) == {"mean", "low", "high", "values"}
            assert (figure["low"], figure["high"]) == (None, None)
            assert figure["values"] == [pytest.approx(figure["mean"])]
        assert 0 <= figures["generation_accuracy"]["mean"] <= 1
        assert 3e8 <= figures["train_flops"]["mean"] < 3.6e8
    assert told["seeds"] == {"transfusion": [0], "chameleon": [0]}
    assert told["command"].startswith("transfuse compare transfusion chameleon --data ")
    page = (compared[0] / "report.html").read_text()
    assert "chameleon" in page
    assert "same(doc)" in page


def test_both_read_one_stream_with_one_backbone(compared: tuple[Path, tuple]) -> None:
    records = [json.loads(path.read_text()) for path in sorted(compared[0].glob("runs/*/record.json"))]
    one, two = records
    sizes = {(r["settings"]["model"]["dim"], r["settings"]["model"]["layers"]) for r in records}
    assert len(sizes) == 1
    assert one["facts"]["parameters"]["backbone"] == pytest.approx(
        two["facts"]["parameters"]["backbone"], rel=0.02
    )
    assert one["settings"]["train"] == two["settings"]["train"]


def test_given_again_it_trains_nothing(
    compared: tuple[Path, tuple], cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, command = compared
    before = (out / "compare.json").read_text()
    (out / "compare.json").unlink()
    monkeypatch.setattr(subprocess, "Popen", None)  # no process may be started
    done = cli(*command)
    assert done.exit_code == 0, done.stderr
    assert "0 of 2 runs to do" in done.stdout
    assert (out / "compare.json").read_text() == before


def test_what_is_missing_is_done_with_the_codecs_there_are(
    compared: tuple[Path, tuple], cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, command = compared
    monkeypatch.setattr(subprocess, "Popen", Here)
    Here.started.clear()
    (record,) = out.glob("runs/chameleon-*/record.json")
    before = json.loads(record.read_text())
    record.unlink()
    done = cli(*command)
    assert done.exit_code == 0, done.stderr
    assert Here.started == ["run"]
    after = json.loads(record.read_text())
    assert after["metrics"]["train_flops"] == before["metrics"]["train_flops"]
    assert after["curve"] == before["curve"]


@pytest.mark.parametrize("change", ["seed", "entry", "settings", "bit"])
def test_a_record_that_is_not_of_its_run_is_made_again(
    compared: tuple[Path, tuple], cli: Callable, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    out, command = compared
    (path,) = out.glob("runs/chameleon-*/record.json")
    before = load_record(path)
    if change == "bit":
        path.write_text(path.read_text().replace('"generation_accuracy": 0', '"generation_accuracy": 1', 1))
    else:
        save_record(
            path, before.model_copy(update={change: {"seed": 7, "entry": "x", "settings": {}}[change]})
        )
    monkeypatch.setattr(subprocess, "Popen", Here)
    done = cli(*command)
    assert done.exit_code == 0, done.stderr
    assert "it is made again" in done.stdout
    assert f"{path}" in done.stdout
    assert "evaluation comes on top, less than a minute by the runs that have ended" in done.stdout
    after = load_record(path)
    assert after.metrics["generation_accuracy"] == before.metrics["generation_accuracy"]
    assert (after.entry, after.seed, after.settings) == (before.entry, before.seed, before.settings)


def test_runs_of_two_machines_are_not_compared(
    compared: tuple[Path, tuple], cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, command = compared
    (path,) = out.glob("runs/chameleon-*/record.json")
    before = load_record(path)
    made = {**before.facts["made_by"], "processor": "another"}
    save_record(path, before.model_copy(update={"facts": {**before.facts, "made_by": made}}))
    monkeypatch.setattr(subprocess, "Popen", None)
    done = cli(*command)
    save_record(path, before)
    assert done.exit_code == 2
    assert "are unlike and are not compared: processor " in done.stderr
    assert f"delete {out / 'runs'}, or give another --out" in done.stderr


def test_a_run_that_fails_says_why(compared: tuple[Path, tuple], cli: Callable) -> None:
    """In a process of its own, over codecs that are damaged."""
    out, command = compared
    before = (out / "compare.json").read_text()
    files = {path: path.read_bytes() for path in out.glob("codecs/*/image.safetensors")}
    for path, body in files.items():
        path.write_bytes(body[:-1] + b"x")
    done = cli("compare", "chameleon", *command[3:], "--set", "loss.image=2")
    for path, body in files.items():
        path.write_bytes(body)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: chameleon, seed 0 failed:")
    _, error, place = done.stderr.strip().splitlines()
    assert "image.safetensors is damaged" in error
    assert "Traceback" in Path(place.partition("where in the code: ")[2]).read_text()
    assert "Traceback" not in done.stderr
    assert (out / "compare.json").read_text() == before


def test_a_mask_that_shows_what_is_to_be_predicted_is_told_before_a_job_is_started(
    compared: tuple[Path, tuple], cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    done = cli("compare", "transfusion", *compared[1][3:], "--set", "mask=same(doc)")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: transfusion: mask same(doc): ")
    assert "the token it is to predict" in done.stderr


class TestPlan:
    @pytest.fixture
    def planned(self, installed: Plugins, tmp_path: Path) -> Callable[..., list[Run]]:
        registry = Registry.load(installed, [packaged_file()])

        def make(
            recipes=("transfusion", "chameleon"), seeds=(0, 1), sets=(), axes=None, identity="a"
        ) -> list[Run]:
            settings = ComparisonSettings(recipes, "digits", seeds, tmp_path, sets, axes or {})
            return plan(settings, registry, {"name": identity})

        return make

    def test_every_cell_seed_by_seed(self, planned: Callable) -> None:
        runs = planned(axes={"loss.image": ("1", "5"), "model.dim": ("32", "64")})
        assert len(runs) == 2 * 2 * 4
        assert [run.recipe.train.seed for run in runs] == [0] * 8 + [1] * 8
        assert runs[0].entry == "transfusion;loss.image=1;model.dim=32"
        assert runs[7].entry == "chameleon;loss.image=5;model.dim=64"
        assert runs[0].recipe.loss["image"] == 1
        assert runs[7].recipe.model.dim == 64
        assert len({run.folder for run in runs}) == 16
        assert len({run.codecs for run in runs}) == 2  # a codec knows neither seed, loss nor width

    @pytest.mark.parametrize(
        ("sets", "axes", "words"),
        [
            (
                (),
                {"train.seed": ("1", "2")},
                "--axis train.seed: train.seed is what --seeds says: give --seeds",
            ),
            ((), {"train": ("{seed: 1}", "{seed: 2}")}, "--axis train: train.seed is what --seeds says"),
            (("train.seed=4",), {}, "--set train.seed=4: train.seed is what --seeds says"),
            (("train={seed: 4, lr: 0.1}",), {}, "--set train={seed: 4, lr: 0.1}: train.seed is what --seeds"),
            (
                ("loss.image=3",),
                {"loss.image": ("1", "2")},
                "--axis loss.image: loss.image is what --set says",
            ),
            (("loss={image: 3}",), {"loss.image": ("1", "2")}, "loss.image is what --set says: give one"),
            ((), {"loss": ("{image: 3}",), "loss.image": ("1", "2")}, "loss.image is what --axis says"),
            (
                ("modalities.image.codec=kl",),
                {"image.codec": ("kl", "pixel")},
                "image.codec is what --set says",
            ),
            (
                ("modalities={image: {codec: kl}}",),
                {"image.codec": ("kl",)},
                "image.codec is what --set says",
            ),
        ],
    )
    def test_what_the_command_or_another_option_says_is_refused(
        self, planned: Callable, sets: tuple[str, ...], axes: dict[str, tuple[str, ...]], words: str
    ) -> None:
        with pytest.raises(TransfuseError) as caught:
            planned(("transfusion",), sets=sets, axes=axes)
        assert words in str(caught.value)

    @pytest.mark.parametrize(
        ("key", "values"),
        [
            ("loss.image", ("1", "1.0")),
            ("train.lr", ("1e-3", "0.001")),
            ("train.lr", ("1e-3", "2e-3", "0.002")),
            ("mask", ("causal", "same(doc) & le(idx)")),
            ("image.codec", ("pixel", "{name: pixel}")),
            ("image", ("image", "{kind: image}")),
        ],
    )
    def test_values_that_are_one_recipe_are_refused_by_name(
        self, planned: Callable, key: str, values: tuple[str, ...]
    ) -> None:
        with pytest.raises(TransfuseError) as caught:
            planned(("transfusion",), axes={key: values})
        *_, one, two = values
        said = f"compare: transfusion;{key}={one} and transfusion;{key}={two} are one and the same recipe"
        assert str(caught.value).startswith(said)
        assert f"--axis {key} " in str(caught.value)

    def test_keys_of_an_entry_are_sorted(self, planned: Callable) -> None:
        runs = planned(axes={"model.dim": ("32",), "loss.image": ("1",)}, seeds=(0,))
        assert runs[0].entry == "transfusion;loss.image=1;model.dim=32"

    def test_other_settings_and_other_data_never_meet_old_results(self, planned: Callable) -> None:
        folders = [
            planned(seeds=(0,))[0].folder,
            planned(seeds=(0,), sets=("train.lr=0.001",))[0].folder,
            planned(seeds=(0,), identity="b")[0].folder,
            planned(seeds=(1,))[0].folder,
        ]
        assert len(set(folders)) == 4
        assert planned(seeds=(0,))[0].folder == folders[0]
        codecs = [planned(sets=sets)[0].codecs for sets in ((), ("image.codec.steps=7",))]
        assert len({*codecs, planned(identity="b")[0].codecs}) == 3

    def test_budgets_of_steps(self, planned: Callable) -> None:
        with pytest.raises(
            TransfuseError, match=r"compare: chameleon has a budget of steps.*--set train.flops=2e12"
        ):
            planned(sets=("train.steps=5",))

    def test_unequal_budgets(self, installed: Plugins, tmp_path: Path) -> None:
        path = tmp_path / "more.yaml"
        path.write_text("recipes: {longer: {extends: transfusion, train: {flops: 9e12}}}")
        registry = Registry.load(installed, [packaged_file(), path])
        settings = ComparisonSettings(("transfusion", "longer"), "digits", (0,), tmp_path)
        with pytest.raises(TransfuseError, match="compare: the recipes have unequal budgets of"):
            plan(settings, registry, {"name": "digits"})
        plan(replace(settings, overrides=("train.flops=1e9",)), registry, {"name": "digits"})

    def test_a_budget_may_be_an_axis(self, planned: Callable) -> None:
        runs = planned(axes={"train.flops": ("1e9", "2e9")}, seeds=(0,))
        assert {run.recipe.train.flops for run in runs} == {1e9, 2e9}

    def test_without_names_those_of_the_registry_are_compared_and_none_that_a_plugin_brings(
        self, planned: Callable, series_plugins: Plugins, tmp_path: Path
    ) -> None:
        settings = ComparisonSettings((), "digits", (0,), tmp_path)
        registry = Registry.load(series_plugins, [packaged_file()])
        runs = plan(settings, registry, {"name": "digits"})
        assert [run.entry for run in runs] == ["transfusion", "chameleon"]
        named = replace(settings, recipes=("series-flow", "series-ddpm"), data="series")
        runs = plan(named, registry, {"name": "series"})
        assert [run.entry for run in runs] == ["series-flow", "series-ddpm"]
        mine = tmp_path / "mine.yaml"
        mine.write_text("compare: [series-ddpm]")
        runs = plan(settings, Registry.load(series_plugins, [packaged_file(), mine]), {"name": "series"})
        assert [run.entry for run in runs] == ["series-ddpm"]

    def test_where_the_registry_names_none_either(self, installed: Plugins, tmp_path: Path) -> None:
        mine = tmp_path / "mine.yaml"
        mine.write_text("compare: []")
        registry = Registry.load(installed, [packaged_file(), mine])
        with pytest.raises(TransfuseError, match="compare: no recipe is named: write some behind compare"):
            plan(ComparisonSettings((), "digits", (0,), tmp_path), registry, {"name": "digits"})

    def test_a_recipe_twice(self, planned: Callable) -> None:
        with pytest.raises(TransfuseError, match="compare: recipe 'chameleon' stands twice"):
            planned(recipes=("chameleon", "transfusion", "chameleon"))

    def test_an_axis_that_is_none(self, planned: Callable) -> None:
        with pytest.raises(TransfuseError, match="did you mean 'loss'"):
            planned(axes={"los.image": ("1",)})


class TestJobs:
    def test_as_many_at_once_as_cores_of_one_thread(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        assert jobs.cores() >= 1
        if hasattr(os, "sched_getaffinity"):
            assert jobs.cores() <= len(os.sched_getaffinity(0))
        ran: list[str] = []
        most = [0]

        class Quick:
            returncode = 0
            left = 2

            def poll(self) -> int | None:
                self.left -= 1
                return None if self.left > 0 else 0

            def terminate(self) -> None: ...

            def wait(self) -> None: ...

        monkeypatch.setattr(jobs, "cores", lambda: 2)
        monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)
        monkeypatch.setattr(
            subprocess, "Popen", lambda command, **_: ran.append(Path(command[-1]).parent.name) or Quick()
        )
        work = [jobs.Job(f"job {i}", tmp_path / str(i), {}) for i in range(5)]
        counts = []
        jobs.run_all(work, lambda active, done: counts.append((len(active), done)))
        most[0] = max(active for active, _ in counts)
        assert ran == [job.folder.name for job in work]
        assert most == [2]
        assert counts[-1] == (0, 5)

    def test_a_failed_job_ends_with_its_log(self, tmp_path: Path) -> None:
        with pytest.raises(TransfuseError, match=r"the job failed:\n"):
            jobs.run_all([jobs.Job("the job", tmp_path, {"kind": "none"})], lambda active, done: None)

    def test_one_waits_for_a_process_that_still_saves_in_its_folder(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A worker whose comparison was killed ends a moment later; the next comparison may come before."""
        held, order = Event(), []

        def saving() -> None:
            with locked(tmp_path):
                held.set()
                sleep(0.2)
                order.append("saved")

        other = Thread(target=saving)
        other.start()
        held.wait()
        from transfuse_lab.comparison import worker

        monkeypatch.setattr(worker, "fit", lambda job, plugins: order.append("begun"))
        worker.work({"kind": "fit", "folder": str(tmp_path), "registry": None})
        other.join()
        assert order == ["saved", "begun"]

    def test_the_time_left_is_told_once_there_is_enough_to_tell_it_by(self) -> None:
        assert time_left(600, 0.0, 0.04) == ""
        assert time_left(600, 0.0, 0.25) == "about 30 minutes left: "
        assert time_left(600, 0.5, 0.75) == "about 10 minutes left: ", "what was done before took none of it"
        assert time_left(600, 0.0, 1.0) == "less than a minute left: "

    def test_shares(self, tmp_path: Path) -> None:
        work = {"recipe": {"train": {"flops": 100.0}}}
        both = [jobs.Job(name, tmp_path / name, work) for name in "ab"]
        assert share_done(both, [], 1) == 0.5
        (tmp_path / "a").mkdir()
        (tmp_path / "a/metrics.jsonl").write_text('{"flops": 10.0}\n{"flops": 50.0}\n')
        assert share_done(both, both[:1], 1) == pytest.approx(0.5 + 0.4 / 2)
        (tmp_path / "a/metrics.jsonl").write_text('{"flops": 10.0}\n{"flo')
        assert share_done(both, both[:1], 1) == 0.5
