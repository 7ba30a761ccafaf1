"""What a user can get wrong, through the command line: one plain error that names the thing, nothing trained."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transfuse import masks
from transfuse.errors import TransfuseError
from typer.testing import Result

from tests.tiny.recipes import sets
from tests.tiny.runs import rewritten

PROGRAM = "import sys; from transfuse_lab.cli import main; sys.argv = ['transfuse', *sys.argv[1:]]; main()"


def refused(done: Result, *words: object) -> None:
    """Exit 2, one error without a traceback that says all of these."""
    assert done.exit_code == 2, (done.exit_code, done.exception, done.stdout)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr + done.stdout
    for word in words:
        assert str(word) in done.stderr


class TestTrain:
    @pytest.fixture
    def train(self, cli: Callable, data_argument: str, tmp_path: Path) -> Callable[..., Result]:
        def run(*more: object, recipe: str = "transfusion", data: str = data_argument) -> Result:
            short = sets("transfusion", "train.steps=2")
            return cli("train", recipe, "--data", data, "--out", tmp_path / "run", *short, *more)

        yield run
        assert not list(tmp_path.glob("run/checkpoints/[1-9]*"))

    def test_an_unknown_recipe(self, train: Callable) -> None:
        refused(train(recipe="transfusoin"), "unknown recipe 'transfusoin'", "did you mean 'transfusion'?")

    @pytest.mark.parametrize(
        ("key", "words"),
        [
            ("model.dmi=3", ("model.dmi: unknown key", "did you mean 'dim'?")),
            ("modle.dim=3", ("modle.dim: unknown key", "did you mean 'model'?")),
            ("image.codec.chanels=3", ("image.codec.chanels: unknown key",)),
            ("image.codec=pixle", ("pixle", "did you mean 'pixel'?")),
            ("image=imgae_vq", ("imgae_vq", "did you mean 'image_vq'?")),
            ("model.dim=wide", ("model.dim", "wide")),
            ("model.dim=33", ("model.dim", "even multiple of heads")),
            ("train.lr=nan", ("train.lr", "nan")),
            ("train.lr=.nan", ("train.lr", "finite")),
            ("train.lr=-1", ("train.lr",)),
            ("train.steps=0", ("train.steps",)),
            ("train.steps=true", ("train.steps", "should be an integer, not true")),
            ("loss.text=", ("write key=value",)),
            ("loss.sound=1", ("loss.sound", "weighs no modality of this recipe")),
            ("mask=same(dco)", ("column 'dco'", "did you mean 'doc'?")),
            ("mask=same(doc", ("mask",)),
            ("mask=causl", ("unknown mask 'causl'", "did you mean 'causal'?")),
            ("attention=denes", ("attention", "did you mean 'dense'?")),
        ],
    )
    def test_keys_and_values(self, train: Callable, key: str, words: tuple[str, ...]) -> None:
        refused(train("--set", key), *words)

    def test_data_that_is_not_there(self, train: Callable, tmp_path: Path) -> None:
        refused(train(data="digist"), "--data 'digist'", "did you mean 'digits'?")
        refused(train(data=str(tmp_path / "none")), "none' is neither a data set nor a folder or store")
        (tmp_path / "file.txt").write_text("")
        refused(train(data=str(tmp_path / "file.txt")), "is a file, not a folder")
        (tmp_path / "bare").mkdir()
        refused(train(data=str(tmp_path / "bare")), "bare: no image")

    def test_out_that_cannot_be(self, cli: Callable, data_argument: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for out in (tmp_path / "file", tmp_path / "file/run"):
            done = cli("train", "transfusion", "--data", data_argument, "--out", out, *sets())
            refused(done, f"--out {out} cannot be a folder")
        done = cli("compare", "--data", data_argument, "--out", tmp_path / "file", *sets())
        refused(done, "cannot be a folder")

    def test_an_image_longer_than_the_budget(self, train: Callable) -> None:
        refused(train("--set", "train.budget=15"), "pictures", "40 of 40", "(21 positions)", "a row of 15")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("recipes: [", ("is not YAML",)),
            ("\0", ("is not YAML",)),
            ("- transfusion", ("should be a mapping",)),
            ("recipe: {}", ("unknown key", "did you mean 'recipes'?")),
            ("recipes: {a: {extends: transfusion, mdoel: {}}}", ("recipes.a.mdoel: unknown key", "'model'")),
            ("recipes: {a: 3}", ("recipes.a", "should be a mapping")),
            ("recipes: {a: {extends: transfusion, loss: 3}}", ("recipes.a.loss", "should be a mapping")),
            ("masks: {a: 3}", ("masks.a",)),
            ("masks: {a: same(doc}", ("masks.a",)),
            ("plugins: {disabled: text}", ("plugins.disabled", "should be a list")),
            ("modalities: {a: image}", ("modalities.a", "should be a mapping")),
        ],
    )
    def test_registries(self, train: Callable, tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        refused(train("--registry", path), "mine.yaml", *words)

    def test_a_registry_that_is_no_text(self, train: Callable, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
        refused(train("--registry", tmp_path / "mine.yaml"), "mine.yaml", "is not UTF-8 text")
        refused(train("--registry", tmp_path), f"{tmp_path} cannot be read")

    def test_unknown_modalities_of_a_recipe(self, train: Callable, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("recipes: {mine: {extends: transfusion, modalities: {image: imge}}}")
        refused(train("--registry", path, recipe="mine"), "mine.yaml:1", "'imge'", "did you mean 'image'?")
        path.write_text("recipes: {mine: {extends: transfusion, modalities: {image: {kind: imag}}}}")
        refused(train("--registry", path, recipe="mine"), "'imag'", "did you mean 'image'?")

    def test_a_dry_run_refuses_the_same(self, train: Callable) -> None:
        refused(train("--dry-run", "--set", "train.budget=15"), "a row of 15")
        refused(train("--dry-run", "--set", "mask=same(dco)"), "did you mean 'doc'?")


def test_a_masks_unknown_column_comes_with_those_there_are() -> None:
    columns = {"doc": np.zeros(3, int), "idx": np.arange(3), "image": np.zeros(3, int)}
    for text in ("same(dco)", "q.imag", "le(index)", "delta(idx, hi=1, key=ixd)"):
        with pytest.raises(TransfuseError) as error:
            masks.parse(text).dense(columns)
        assert "did you mean" in str(error.value) or "doc" in str(error.value)
    with pytest.raises(TransfuseError, match=r"xyz.*doc.*idx.*image"):
        masks.parse("same(xyz)").dense(columns)


class TestRuns:
    """What reads a run: eval, sample, and train going on with it."""

    @pytest.fixture
    def run(self, trained: Callable, tmp_path: Path) -> Path:
        shutil.copytree(trained("transfusion"), tmp_path / "run")
        return tmp_path / "run"

    @pytest.fixture
    def uses(self, cli: Callable, data_argument: str, tmp_path: Path) -> Callable[[Path], list[Result]]:
        def all_of(run: Path) -> list[Result]:
            again = (
                "train",
                "transfusion",
                "--data",
                data_argument,
                "--out",
                run,
                *sets("transfusion", "train.steps=8"),
            )
            return [
                cli("sample", run, "--prompt", "up", "--out", tmp_path / "grid.png"),
                cli("eval", run),
                cli(*again),
            ]

        return all_of

    def test_there_is_none(self, uses: Callable, tmp_path: Path) -> None:
        sampled, evaluated, _ = uses(tmp_path / "none")
        refused(sampled, tmp_path / "none", "is not there")
        refused(evaluated, tmp_path / "none", "is not there")
        (tmp_path / "other").mkdir()
        refused(uses(tmp_path / "other")[0], "other/recipe.json is missing", "other holds no run")

    def test_no_checkpoint_yet(self, cli: Callable, run: Path, tmp_path: Path) -> None:
        shutil.rmtree(run / "checkpoints")
        refused(cli("sample", run, "--prompt", "up", "--out", tmp_path / "a.png"), run, "holds no checkpoint")

    def that_need(self, file: str, results: list[Result]) -> list[Result]:
        """Those of sample, eval and train that read the file: nothing but training needs an optimiser."""
        if file != "optimizer.safetensors":
            return results
        sampled, evaluated, trained = results
        assert (sampled.exit_code, evaluated.exit_code) == (0, 0)
        return [trained]

    @pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
    def test_a_missing_file(self, uses: Callable, run: Path, file: str) -> None:
        (run / "checkpoints/8" / file).unlink()
        for done in self.that_need(file, uses(run)):
            refused(done, f"checkpoints/8/{file} is missing")

    @pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
    @pytest.mark.parametrize("share", [0, 0.5, 0.99])
    def test_a_truncated_file(self, uses: Callable, run: Path, file: str, share: float) -> None:
        path = run / "checkpoints/8" / file
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        for done in self.that_need(file, uses(run)):
            refused(done, f"checkpoints/8/{file} is damaged")

    @pytest.mark.parametrize("file", ["recipe.json", "modalities.json"])
    @pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", '{"format": 1}', "\udcff"])
    def test_a_damaged_description(self, uses: Callable, run: Path, file: str, text: str) -> None:
        (run / file).write_bytes(text.encode("utf-8", "surrogateescape"))
        for done in uses(run):
            refused(done, file)

    @pytest.mark.parametrize(
        "text", ["null", "[]", "{}", '{"step": "x"}', '{"step": 8}', '{"step": 8, "progress": 3}']
    )
    def test_a_damaged_state(self, uses: Callable, run: Path, text: str) -> None:
        (run / "checkpoints/8/state.json").write_text(text)
        refused(uses(run)[2], "state.json")

    @pytest.mark.parametrize("text", ["", "x", "-1", "../8"])
    def test_a_damaged_pointer(self, uses: Callable, run: Path, text: str) -> None:
        (run / "checkpoints/latest").write_text(text)
        for done in uses(run):
            refused(done, "checkpoints")

    def test_a_pointer_to_nothing(self, uses: Callable, run: Path) -> None:
        """The newest that is whole is taken, and that is said."""
        (run / "checkpoints/latest").write_text("9")
        with pytest.warns(UserWarning, match="9 holds no state; going on from step 8, which is whole"):
            assert [done.exit_code for done in uses(run)] == [0, 0, 0]

    def test_weights_of_another_model(self, uses: Callable, run: Path) -> None:
        path = run / "checkpoints/8/model.safetensors"
        weights = load_file(path)
        save_file({**weights, "more": weights["tokens.weight"].clone()}, path)
        refused(uses(run)[0], "checkpoints/8/model.safetensors is damaged (its checksum is another)")

    def test_a_plugin_that_is_gone(self, uses: Callable, run: Path) -> None:
        def change(recipe: dict, described: dict) -> None:
            recipe["modalities"]["image"]["kind"] = "hologram"

        rewritten(run, change)
        refused(uses(run)[0], "recipe.json", "hologram")

    def test_a_recipe_edited_by_hand(self, uses: Callable, run: Path) -> None:
        path = run / "recipe.json"
        path.write_text(path.read_text().replace('"scale": 3.0', '"scale": 1.0'))
        refused(uses(run)[0], "recipe.json is not what this run was trained with", "transfuse sample --set")


def test_interrupted_it_saves_says_so_and_goes_on(data_argument: str, tmp_path: Path) -> None:
    """Ctrl-C in a process of its own; the same command then ends the run, as one that was never stopped."""
    run = tmp_path / "run"
    base = ("train", "transfusion", "--data", data_argument)
    steps = sets("transfusion", "train.steps=60")
    command = [sys.executable, "-c", PROGRAM, *base, "--out", str(run), *steps]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    log = run / "metrics.jsonl"
    try:
        while process.poll() is None and not (log.is_file() and (run / "checkpoints/latest").is_file()):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        process.kill()
    if process.returncode == 0:
        pytest.skip("the run ended before the signal came")
    assert process.returncode == 130, (out, err)
    assert re.search(
        r"interrupted. .*run: saved after step \d+. The same command goes on there.$", err.strip()
    )
    assert "Traceback" not in err
    stopped = int((run / "checkpoints/latest").read_text())
    assert stopped < 60
    again = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert f"{run}: going on after step {stopped}" in again.stdout
    assert len(log.read_text().splitlines()) == 60
    assert sorted(os.listdir(run / "checkpoints")) == sorted([str(stopped), "60", "latest"])
