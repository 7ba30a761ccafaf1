"""Training: the loss falls, a run resumes bit for bit, budgets and rates are kept, one stream for all recipes."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.randomness import Key
from transfuse.registry.plugins import Plugins
from transfuse.training import Progress, Trainer
from transfuse.training.counts import flops
from transfuse.training.schedules import learning_rate
from transfuse.training.stream import Stream
from transfuse_lab.runs.codecs import fit_codecs
from transfuse_lab.runs.dry_run import describe
from transfuse_lab.runs.training import open_run, prepare, train
from typer.testing import Result

from tests.tiny.recipes import sets

Begin = Callable[..., Trainer]


@pytest.fixture
def begin(installed: Plugins, shapes: Callable) -> Begin:
    """Train in a folder, quietly, on shapes."""

    def run(recipe: Recipe, folder: Path, data: DataSet | None = None) -> Trainer:
        data = data or shapes()
        return train(recipe, data, {"name": "shapes"}, folder, installed, report=lambda line: None)

    return run


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Ctrl-C during a step: the step is ended, the run saved, KeyboardInterrupt raised."""
    import signal

    step = Trainer.step

    def arm(number: int) -> None:
        def stepping(self: Trainer) -> dict[str, float]:
            if self.progress.step == number - 1:
                signal.raise_signal(signal.SIGINT)
            return step(self)

        monkeypatch.setattr(Trainer, "step", stepping)

    return arm


@pytest.mark.parametrize(("name", "to"), [("transfusion", 0.6), ("chameleon", 0.8)])
def test_the_loss_falls(
    small_recipe: Callable, fitted: Callable, shapes: Callable, name: str, to: float
) -> None:
    data = shapes()
    recipe = small_recipe(name, "train.steps=60", "train.lr=0.01")
    trainer = Trainer(recipe, fitted(recipe, data), data)
    losses = [trainer.step() for _ in range(60)]
    for key in ("loss_text", "loss_image"):
        first, last = (np.mean([line[key] for line in part]) for part in (losses[:5], losses[-10:]))
        assert last < to * first, key
    assert trainer.done


@pytest.mark.parametrize(
    ("name", "more", "files"),
    [
        ("transfusion", (), ("model", "optimizer")),
        ("transfusion", ("train.ema=0.5",), ("model", "optimizer", "ema")),
        ("chameleon", (), ("model", "optimizer")),
    ],
)
def test_stop_and_go_on_is_never_having_stopped(
    small_recipe: Callable,
    begin: Begin,
    stop_after: Callable,
    tmp_path: Path,
    name: str,
    more: tuple[str, ...],
    files: tuple[str, ...],
) -> None:
    """Bit for bit: weights, optimiser, average, log; with documents that wait in the packer between the two."""
    recipe = small_recipe(name, "train.steps=6", "train.rows=2", *more)
    whole = begin(recipe, tmp_path / "whole")
    stop_after(3)
    with pytest.raises(KeyboardInterrupt):
        begin(recipe, tmp_path / "parts")
    halfway = RunFolder(tmp_path / "parts").checkpoint.state
    assert halfway["progress"]["step"] == 3
    assert len(halfway["waiting"]) > 10
    stop_after(0)
    resumed = begin(recipe, tmp_path / "parts")
    log = (tmp_path / "whole/metrics.jsonl").read_text()
    assert len(log.splitlines()) == 6
    assert (tmp_path / "parts/metrics.jsonl").read_text() == log
    for file in files:
        one, two = (
            load_file(tmp_path / run / f"checkpoints/6/{file}.safetensors") for run in ("whole", "parts")
        )
        assert one.keys() == two.keys()
        for key in one:
            assert torch.equal(one[key], two[key]), key
    assert (tmp_path / "whole/checkpoints/6/ema.safetensors").exists() == ("ema" in files)
    states = [
        json.loads((tmp_path / run / "checkpoints/6/state.json").read_text()) for run in ("whole", "parts")
    ]
    for state in states:
        state.pop("sha256")
        for measured in ("seconds", "peak_memory"):
            state["progress"].pop(measured)
    assert states[0] == states[1]
    assert (whole.progress.documents, whole.progress.positions) == (
        resumed.progress.documents,
        resumed.progress.positions,
    )


def test_a_finished_run_is_left_as_it_is(small_recipe: Callable, begin: Begin, tmp_path: Path) -> None:
    recipe = small_recipe("transfusion", "train.steps=2")
    begin(recipe, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert begin(recipe, tmp_path).progress.step == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_killed_between_checkpoints(
    small_recipe: Callable, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps after the newest checkpoint, and a line that was half written, are done again."""
    recipe = small_recipe("transfusion", "train.steps=4")
    begin(recipe, tmp_path / "whole")
    step = Trainer.step

    def dying(self: Trainer) -> dict[str, float]:
        if self.progress.step == 3:
            raise RuntimeError("power cut")
        return step(self)

    monkeypatch.setattr(Trainer, "step", dying)
    with pytest.raises(RuntimeError, match="power cut"):
        begin(recipe, tmp_path / "cut")
    monkeypatch.setattr(Trainer, "step", step)
    with (tmp_path / "cut/metrics.jsonl").open("a") as log:
        log.write('{"step": 4, "flo')
    begin(recipe, tmp_path / "cut")
    one, two = ((tmp_path / run / "metrics.jsonl").read_text() for run in ("whole", "cut"))
    assert one == two


class TestAnotherRun:
    @pytest.fixture
    def folder(self, small_recipe: Callable, begin: Begin, tmp_path: Path) -> Path:
        begin(small_recipe("transfusion", "train.steps=1"), tmp_path / "run")
        return tmp_path / "run"

    def test_of_another_recipe(self, small_recipe: Callable, begin: Begin, folder: Path) -> None:
        other = small_recipe("transfusion", "train.steps=1", "model.dim=16", "loss.image=2")
        with pytest.raises(TransfuseError) as error:
            begin(other, folder)
        message = str(error.value)
        assert message.startswith(f"{folder} holds another run: ")
        assert "loss.image (there 5.0, here 2.0)" in message
        assert "model.dim (there 32, here 16)" in message
        assert "use another --out" in message

    def test_under_another_rate_budget_and_length_it_goes_on_and_that_is_kept(
        self, small_recipe: Callable, begin: Begin, folder: Path, installed: Plugins
    ) -> None:
        """What messages advise works by the next command, in the same folder."""
        trainer = begin(
            small_recipe(
                "transfusion", "train.steps=3", "train.lr=0.001", "train.budget=200", "train.clip=0.5",
                "eval.prompts=5",
            ),
            folder,
        )  # fmt: skip
        assert trainer.progress.step == 3
        run = RunFolder(folder)
        assert run.recipe(installed).train.lr == 0.001
        (change,) = run.description["history"]
        assert change["step"] == 1
        assert change["changed"]["train.lr"] == [0.01, 0.001]
        assert change["changed"].keys() == {"train.lr", "train.budget", "train.clip", "train.steps", "eval"}
        begin(small_recipe("transfusion", "train.lr=0.002", "train.steps=4"), folder)
        assert [one["step"] for one in RunFolder(folder).description["history"]] == [1, 3]
        assert RunFolder(folder).recipe(installed).train.steps == 4

    def test_on_other_data(
        self, small_recipe: Callable, begin: Begin, folder: Path, shapes: Callable
    ) -> None:
        with pytest.raises(TransfuseError, match=r"holds a run on other data.*content.*use another --out"):
            begin(small_recipe("transfusion", "train.steps=1"), folder, shapes(train=23))

    def test_nothing_is_touched(self, small_recipe: Callable, begin: Begin, folder: Path) -> None:
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(TransfuseError):
            begin(small_recipe("chameleon"), folder)
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


class TestFrom:
    """A new run from another's weights and codecs."""

    @pytest.fixture
    def first(self, small_recipe: Callable, begin: Begin, tmp_path: Path) -> Path:
        begin(small_recipe("chameleon", "train.steps=2"), tmp_path / "first")
        return tmp_path / "first"

    def test_it_begins_with_the_weights_the_other_ended_with(
        self, small_recipe: Callable, installed: Plugins, shapes: Callable, first: Path, tmp_path: Path
    ) -> None:
        recipe = small_recipe("chameleon", "train.steps=1", "train.lr=0.0001", "train.seed=5")
        train(
            recipe, shapes(train=22), {"name": "shapes"}, tmp_path / "second", installed, report=lambda line: None,
            start=first,
        )  # fmt: skip
        run = RunFolder(tmp_path / "second")
        begun = load_file(run.path / "checkpoints/0/model.safetensors")
        ended = load_file(RunFolder(first).checkpoint.folder / "model.safetensors")
        assert begun.keys() == ended.keys()
        assert all(torch.equal(begun[name], ended[name]) for name in begun)
        assert run.description["from"] == f"{first}, step 2"
        assert run.checkpoint.state["step"] == 1

    @pytest.mark.parametrize(
        ("recipe", "sets", "message"),
        [
            ("chameleon", ("model.dim=16",), r"model\.dim is 32 there and 16 here: say --set model\.dim=32"),
            (
                "chameleon",
                ("image.codec.codes=8",),
                r"--from .*first: role 'image': codec.codes \(there 16, here 8\)",
            ),
            ("transfusion", (), r"--from .*first: role 'image': "),
        ],
    )
    def test_what_does_not_go_together_is_named(
        self, small_recipe: Callable, installed: Plugins, shapes: Callable, first: Path, tmp_path: Path,
        recipe: str, sets: tuple[str, ...], message: str,
    ) -> None:  # fmt: skip
        with pytest.raises(TransfuseError, match=message):
            train(
                small_recipe(recipe, *sets), shapes(), {"name": "shapes"}, tmp_path / "x", installed,
                report=lambda line: None, start=first,
            )  # fmt: skip


def test_a_folder_that_is_a_file(small_recipe: Callable, begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TransfuseError, match=r"^--out .*file cannot be a folder: File exists; give another"):
        begin(small_recipe(), tmp_path / "file")


class TestBudget:
    def test_the_rate_by_share_of_the_budget(self, small_recipe: Callable) -> None:
        recipe = small_recipe("transfusion", "train.lr=0.01", "train.warmup=0.1", "train.final_lr=0.2")
        assert learning_rate(recipe, 0) == 0
        assert learning_rate(recipe, 0.05) == pytest.approx(0.005)
        assert learning_rate(recipe, 0.1) == pytest.approx(0.01)
        assert learning_rate(recipe, 0.55) == pytest.approx(0.01 * (0.2 + 0.8 * 0.5))
        assert learning_rate(recipe, 0.325) == pytest.approx(
            0.01 * (0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
        )
        assert learning_rate(recipe, 1) == pytest.approx(0.002)
        assert learning_rate(recipe, 1.3) == pytest.approx(0.002)
        none = small_recipe("transfusion", "train.warmup=0", "train.final_lr=1")
        assert {learning_rate(none, share) for share in (0, 0.3, 1)} == {none.train.lr}

    def test_steps_use_the_rate_of_their_middle(
        self, small_recipe: Callable, fitted: Callable, shapes: Callable
    ) -> None:
        recipe = small_recipe("transfusion", "train.steps=4", "train.warmup=0.5")
        trainer = Trainer(recipe, fitted(recipe, shapes()), shapes())
        rates = [trainer.step()["lr"] for _ in range(4)]
        assert rates == [learning_rate(recipe, share) for share in (0.125, 0.375, 0.625, 0.875)]
        assert trainer.optimizer.param_groups[0]["lr"] == rates[-1]

    @pytest.mark.parametrize("name", ["transfusion", "chameleon"])
    def test_flops_are_counted_and_end_the_run(
        self, small_recipe: Callable, fitted: Callable, shapes: Callable, name: str
    ) -> None:
        data = shapes()
        recipe = small_recipe(name, "train.flops=3e8", "train.rows=2")
        trainer = Trainer(recipe, fitted(recipe, data), data)
        again = Trainer(recipe, trainer.model, data).rows
        spent = 0.0
        while not trainer.done:
            assert trainer.progress.flops < 3e8
            trainer.step()
            spent += flops(trainer.model, next(again)) + flops(trainer.model, next(again))
            assert trainer.progress.flops == pytest.approx(spent)
        last = spent / trainer.progress.step
        assert 3e8 <= trainer.progress.flops < 3e8 + 1.2 * last
        assert trainer.progress.step >= 3

    def test_rates_by_flops_follow_the_share(
        self, small_recipe: Callable, fitted: Callable, shapes: Callable
    ) -> None:
        recipe = small_recipe("transfusion", "train.flops=3e8", "train.warmup=0.3")
        trainer = Trainer(recipe, fitted(recipe, shapes()), shapes())
        while not trainer.done:
            before = trainer.progress.share(recipe)
            rate = trainer.step()["lr"]
            if trainer.progress.step > 1:
                low, high = sorted(learning_rate(recipe, s) for s in (before, trainer.progress.share(recipe)))
                assert low <= rate <= high * 1.001 or before < 0.3 < trainer.progress.share(recipe)

    def test_share(self, small_recipe: Callable) -> None:
        steps, flop = (
            small_recipe("transfusion", "train.steps=8"),
            small_recipe("transfusion", "train.flops=1e9"),
        )
        progress = Progress(step=2, flops=7.5e8)
        assert (progress.share(steps), progress.share(flop)) == (0.25, 0.75)


class TestStream:
    def places(
        self, recipe_name: str, small_recipe: Callable, fitted: Callable, data: DataSet, seed: int = 0
    ) -> list:
        model = fitted(small_recipe(recipe_name), data)
        stream = Stream(data, model.layout, Key(seed), 0.3)
        return [stream.document(place) for place in range(3 * data.size("train"))]

    def test_recipes_read_one_stream(
        self, small_recipe: Callable, fitted: Callable, shapes: Callable
    ) -> None:
        data = shapes()
        one = self.places("transfusion", small_recipe, fitted, data)
        two = self.places("chameleon", small_recipe, fitted, data)

        def told(found: list) -> list:
            return [(d.id, [i.modality for i in d.items], visit, dropped) for d, visit, dropped in found]

        assert told(one) == told(two)
        assert told(one) != told(self.places("transfusion", small_recipe, fitted, data, seed=1))

    def test_each_visit_reads_every_document_once_in_its_own_order(
        self, small_recipe: Callable, fitted: Callable, shapes: Callable
    ) -> None:
        data = shapes()
        found = self.places("transfusion", small_recipe, fitted, data)
        epochs = [[d.id for d, _, _ in found[i : i + 24]] for i in (0, 24, 48)]
        assert all(sorted(epoch) == list(range(24)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == 3
        assert [visit for _, visit, _ in found] == [0] * 24 + [1] * 24 + [2] * 24

    def test_dropped_prompts_train_no_text(
        self, small_recipe: Callable, fitted: Callable, shapes: Callable
    ) -> None:
        data = shapes(train=200)
        for name in ("transfusion", "chameleon"):
            model = fitted(small_recipe(name), shapes())
            stream = Stream(data, model.layout, Key(0), 0.3)
            kinds: dict[str, int] = {"dropped": 0, "reversed": 0, "plain": 0}
            names = model.layout.names
            for place in range(200):
                document, _, dropped = stream.document(place)
                sequence = stream.sequence(place)
                scored = {names[i] for i in sequence.scored if i >= 0}
                if dropped:
                    kinds["dropped"] += 1
                    assert [item.modality for item in document.items] == ["image"]
                    assert "text" not in scored
                    assert (sequence.scored >= 0).sum() == (16 if name == "chameleon" else 0)
                else:
                    kinds["reversed" if document.items[0].modality == "image" else "plain"] += 1
                    assert "text" in scored
                    assert {item.modality for item in document.items} == {"text", "image"}
                assert [bool(p.span.loss) for p in sequence.spans] == (
                    [True] if name == "transfusion" else []
                )
            # 20 % of visits are image first, and of the others 30 % lose their prompt.
            assert 28 <= kinds["reversed"] <= 54
            assert 32 <= kinds["dropped"] <= 66

    def test_no_dropping(self, small_recipe: Callable, fitted: Callable, shapes: Callable) -> None:
        data = shapes(reversed_share=0.0)
        model = fitted(small_recipe(), data)
        stream = Stream(data, model.layout, Key(0), 0.0)
        assert all(len(stream.document(place)[0].items) == 2 for place in range(48))


def test_markers_open_for_a_whole_step(small_recipe: Callable, fitted: Callable, shapes: Callable) -> None:
    """A begin marker that only the second row shows is not forbidden in the first: rows add up to one batch."""
    data = shapes(sides=(8, 4), train=2, reversed_share=0.0)
    recipe = small_recipe(
        "transfusion", "train.rows=2", "train.budget=22", "train.drop=0", "train.look_ahead=2"
    )
    trainer = Trainer(recipe, fitted(recipe, data), data)
    seen = []
    own = trainer.model.losses
    trainer.model.losses = lambda batch: seen.append(trainer.model.predictable.clone()) or own(batch)
    trainer.step()
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])


def test_metrics_lines(small_recipe: Callable, begin: Begin, tmp_path: Path) -> None:
    trainer = begin(small_recipe("transfusion", "train.steps=3"), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    keys = {
        "step",
        "flops",
        "output_flops",
        "positions",
        "documents",
        "loss_text",
        "loss_image",
        "lr",
        "grad_norm",
    }
    assert [set(line) for line in lines] == [keys] * 3
    assert lines[-1]["flops"] == trainer.progress.flops
    assert lines[-1]["positions"] == trainer.progress.positions > 400


def test_a_mask_that_leaks_is_refused_before_the_first_step(
    small_recipe: Callable, begin: Begin, tmp_path: Path
) -> None:
    with pytest.raises(TransfuseError, match=r"shapes train \d+.* sees position \d+, the token"):
        begin(small_recipe("transfusion", "mask=same(doc)"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_mask_that_leaks_leaves_nothing_behind(
    small_recipe: Callable, shapes: Callable, installed, tmp_path: Path
) -> None:
    with pytest.raises(TransfuseError, match="it is to predict"):
        open_run(
            small_recipe("transfusion", "mask=full"),
            shapes(),
            {},
            RunFolder(tmp_path),
            installed,
            lambda line: None,
        )
    assert not list(tmp_path.iterdir())


def test_a_mask_of_an_unknown_column_is_refused_before_a_codec_is_trained(
    small_recipe: Callable, shapes: Callable, installed
) -> None:
    said: list[str] = []
    with pytest.raises(TransfuseError, match="unknown column 'dco'; did you mean 'doc'"):
        prepare(small_recipe("transfusion", "mask=same(dco)"), shapes(), said.append)
    assert not said


@pytest.mark.parametrize("lost", ["checkpoints/latest", "modalities.json"])
def test_a_run_with_a_part_missing_is_not_begun_again(
    trained: Callable,
    tmp_path: Path,
    cli: Callable[..., Result],
    data_argument: str,
    lost: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained("transfusion"), folder)
    (folder / lost).unlink()
    before = sorted(str(path) for path in folder.rglob("*"))
    told = cli("train", "transfusion", "--data", data_argument, "--out", folder, *sets())
    assert told.exit_code == 2
    assert "parts are missing" in told.output
    assert sorted(str(path) for path in folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["transfusion", "chameleon"])
def test_a_dry_run_shows_a_batch_and_keeps_nothing(
    small_recipe: Callable, installed: Plugins, shapes: Callable, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "save", None)
    told = describe(small_recipe(name), shapes(), installed)
    lines = {line.split("  ")[0]: line for line in told.splitlines()}
    assert lines["recipe"].endswith(f"{name} on shapes: 24 training, 8 held-out")
    assert "same(doc)" in lines["mask"]
    counts = dict(part.rsplit(" ", 1) for part in lines["parameters"].split(": ")[1].split(", "))
    assert set(counts) == {"backbone", "vocabulary", "text", "image", "frozen"}
    assert sum(int(count.replace(",", "")) for count in counts.values()) == int(
        lines["parameters"].split()[1].replace(",", "").removesuffix(":")
    )
    assert "MiB" in lines["memory"]
    assert "about 4 steps" in lines["a step"]
    assert "of 160 positions" in lines["one row"]
    assert "<document>" in told
    if name == "transfusion":
        assert "spans of 16 positions, payload (1, 8, 8)" in told
        assert "16 vectors" in told
    else:
        assert told.count("image[") == 16


@pytest.mark.parametrize(("without", "droppable"), [("image", ["text"]), ("text", []), (None, ["text"])])
def test_a_run_says_once_what_its_recipe_leaves_out_and_keeps_which_roles_are_droppable(
    small_recipe: Callable,
    installed: Plugins,
    shapes: Callable,
    tmp_path: Path,
    without: str | None,
    droppable: list[str],
) -> None:
    recipe, said = small_recipe("transfusion", without=without), []
    for _ in range(2):  # begun, then gone on with
        train(recipe, shapes(), {"name": "shapes"}, tmp_path, installed, report=said.append)
    told = f"transfusion on shapes: 24 items of role {without} left out; the recipe has "
    assert [line.startswith(told) for line in said if "left out" in line] == [True] * (without is not None)
    assert RunFolder(tmp_path).description["droppable"] == droppable
    assert f"24 items of role {without} left out" in describe(recipe, shapes(), installed) or without is None


def test_codecs_of_a_part_are_taken_from_a_folder(
    small_recipe: Callable, installed: Plugins, shapes: Callable, tmp_path: Path
) -> None:
    recipe, said = small_recipe("transfusion", without="image"), []
    fit_codecs(recipe, shapes(), tmp_path / "codecs", said.append)
    train(
        recipe, shapes(), {"name": "shapes"}, tmp_path / "run", installed, report=said.append,
        codecs=tmp_path / "codecs",
    )  # fmt: skip
    assert len([line for line in said if "24 items of role image left out" in line]) == 2
