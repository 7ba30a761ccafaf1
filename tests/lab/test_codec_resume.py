"""Codec training that was stopped goes on where it was, in `train` and `train-codec`, to the same bits."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins
from transfuse_image.codecs.autoencoder_training import AutoencoderTraining
from transfuse_lab.runs.codecs import codec_seconds, fit_codecs
from transfuse_lab.runs.training import train

from tests.tiny.recipes import sets

STEPS = 6
CODEC = (f"image.codec.steps={STEPS}", "image.codec.width=8", "image.codec.batch=4")


class Killed(BaseException):
    """A process that dies: nothing is saved any more."""


@pytest.fixture
def fit(small_recipe: Callable[..., Recipe], shapes: Callable[..., DataSet]) -> Callable[..., list[str]]:
    """Codecs fit into a folder; what was said."""

    def fitted(folder: Path, *more: str) -> list[str]:
        said: list[str] = []
        recipe = small_recipe("transfusion", "image.codec=kl", *CODEC, "train.save_every=0", *more)
        fit_codecs(recipe, shapes(train=12), folder, said.append)
        return said

    return fitted


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """In the step after so many, this happens."""
    learn = AutoencoderTraining._learn_codec

    def stopped(after: int | None, happens: Callable[[], None] = lambda: None) -> None:
        def learns(self: AutoencoderTraining, report: Callable[[str], None]) -> None:
            learn(self, report)
            if self.step == after:
                happens()

        monkeypatch.setattr(AutoencoderTraining, "_learn_codec", learns)

    return stopped


def dies() -> None:
    raise Killed


def same(one: Path, two: Path) -> bool:
    a, b = load_file(one), load_file(two)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def fitting(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "fitting" / "image").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_after_the_step_says_so_and_the_same_command_goes_on(
    fit: Callable, stop: Callable, tmp_path: Path, number: int
) -> None:
    fit(tmp_path / "whole", "train.save_every=1000")
    stop(3, lambda: signal.raise_signal(number))
    with pytest.raises(KeyboardInterrupt) as told:
        fit(tmp_path / "out", "train.save_every=1000")
    where = tmp_path / "out"
    assert (
        str(told.value)
        == f"{where}: codec training is kept (image at step 3). The same command goes on there."
    )
    assert fitting(where) == ["3"]
    stop(None)
    assert f"{where / 'fitting' / 'image'}: going on after step 3" in fit(where, "train.save_every=1000")
    assert same(where / "image.safetensors", tmp_path / "whole" / "image.safetensors")
    assert not (where / "fitting").exists()
    assert codec_seconds(where) > 0


def test_what_dies_goes_on_from_the_last_step_that_was_kept(
    fit: Callable, stop: Callable, tmp_path: Path
) -> None:
    fit(tmp_path / "whole")
    for after in range(1, STEPS + 1):
        folder = tmp_path / str(after)
        stop(after, dies)
        with pytest.raises(Killed):
            fit(folder)
        stop(None)
        went_on = [line for line in fit(folder) if "going on" in line]
        assert [re.findall(r"\d+$", line) for line in went_on] == ([[str(after - 1)]] if after > 1 else [])
        assert same(folder / "image.safetensors", tmp_path / "whole" / "image.safetensors")


def test_a_signal_when_the_last_step_is_done_ends_at_once_and_nothing_is_lost(
    fit: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from transfuse_image.codecs.kl import KLCodec

    fit(tmp_path / "whole")
    settle = KLCodec.settle
    calls: list[int] = []

    def interrupted(self: KLCodec, moments: torch.Tensor) -> dict:
        calls.append(1)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return settle(self, moments)

    monkeypatch.setattr(KLCodec, "settle", interrupted)
    # In a job that a shell started behind its back SIGINT is ignored, and no KeyboardInterrupt comes of it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt, match=f"image at step {STEPS}"):
        fit(tmp_path / "out")
    fit(tmp_path / "out")
    assert same(tmp_path / "out" / "image.safetensors", tmp_path / "whole" / "image.safetensors")


def test_of_what_is_damaged_the_step_before_is_taken_and_where_none_is_whole_it_begins_anew(
    fit: Callable, stop: Callable, tmp_path: Path
) -> None:
    fit(tmp_path / "whole")
    stop(4, dies)
    with pytest.raises(Killed):
        fit(tmp_path / "out")
    stop(None)
    assert fitting(tmp_path / "out") == ["2", "3"]
    for broken, message in (("3", "going on from step 2, which is whole"), ("2", "begins anew")):
        home = tmp_path / "out" / "fitting" / "image"
        spoil(home / broken / "fit.safetensors")
        copy = tmp_path / f"without {broken}"
        shutil.copytree(tmp_path / "out", copy)
        with pytest.warns(UserWarning, match=message):
            fit(copy)
        assert same(copy / "image.safetensors", tmp_path / "whole" / "image.safetensors")


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_another_codecs_training_is_neither_taken_nor_lost(
    fit: Callable, stop: Callable, tmp_path: Path
) -> None:
    stop(3, dies)
    with pytest.raises(Killed):
        fit(tmp_path)
    stop(None)
    with pytest.raises(TransfuseError) as told:
        fit(tmp_path, "image.codec.lr=0.001")
    message = str(told.value)
    assert f"{tmp_path / 'fitting' / 'image'} holds another codec's training: modality." in message
    assert "codec.lr (there 0.002, here 0.001)" in message
    cure = re.search(r"delete (\S+) to begin anew$", message)
    assert cure is not None
    assert fitting(tmp_path) == ["1", "2"]
    shutil.rmtree(cure[1])
    fit(tmp_path, "image.codec.lr=0.001")


def test_a_run_goes_on_with_its_codecs(
    small_recipe: Callable, shapes: Callable, installed: Plugins, stop: Callable, tmp_path: Path
) -> None:
    recipe, data = small_recipe("transfusion", "image.codec=kl", *CODEC), shapes(train=12)

    def run(folder: Path) -> list[str]:
        said: list[str] = []
        train(recipe, data, {"name": "shapes"}, folder, installed, report=said.append)
        return said

    run(tmp_path / "whole")
    stop(4, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match=r"codec training is kept \(image at step 4\)"):
        run(tmp_path / "out")
    stop(None)
    assert any("image: going on after step 4" in line for line in run(tmp_path / "out"))
    files = [RunFolder(tmp_path / name).checkpoint.folder for name in ("whole", "out")]
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert same(*(folder / name for folder in files))
    assert not (tmp_path / "out" / "fitting").exists()


def test_a_process_that_is_killed(data_argument: str, cli: Callable, tmp_path: Path) -> None:
    """kill -9 in the midst of `train-codec`, and the same command again."""
    base = ("train-codec", "transfusion", "--data", data_argument)
    steps = sets("transfusion", "image.codec.steps=40", "train.save_every=0", pixels=False)
    code = "import sys; from transfuse_lab.cli import app; app(sys.argv[1:])"
    where = tmp_path / "out"
    one = subprocess.Popen(
        [sys.executable, "-c", code, *base, "--out", str(where), *steps], stdout=subprocess.DEVNULL
    )
    try:
        while one.poll() is None and not any(where.glob("fitting/image/[1-9]*")):
            time.sleep(0.005)
    finally:
        one.kill()
        one.wait()
    if one.returncode == 0:
        pytest.skip("it ended before it was killed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = cli(*base, "--out", where, *steps)
    assert again.exit_code == 0, again.output
    assert "going on after step" in again.output
    assert cli(*base, "--out", tmp_path / "whole", *steps).exit_code == 0
    assert same(where / "image.safetensors", tmp_path / "whole" / "image.safetensors")
    assert not any(name.startswith("fitting") for name in os.listdir(where))
