"""`torchrun … transfuse train`: the run of one process, begun, saved in pieces, interrupted and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from transfuse.checkpoints import RunFolder, load
from transfuse_lab.runs.interrupts import SAVE

from tests.tiny.recipes import sets

CLI = "import sys; from transfuse_lab.cli import main; sys.argv[0] = 'transfuse'; main()"


def torchrun(tmp_path: Path, ranks: int) -> list[str]:
    """The command line of the real starter, which finds a free port itself."""
    program = tmp_path / "start.py"
    program.write_text(CLI)
    starter = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [sys.executable, *starter, str(program)]


def words(tmp_path: Path, data: str, out: str, *settings: str) -> list[str]:
    return [
        *("train", "transfusion", "--data", data, "--device", "cpu", "--out", str(tmp_path / out)),
        *sets("transfusion", "train.rows=4", "train.ema=0.9", *settings),
    ]


def train(tmp_path: Path, ranks: int, data: str, out: str, *settings: str) -> subprocess.Popen:
    command = torchrun(tmp_path, ranks) if ranks > 1 else [sys.executable, "-c", CLI]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *words(tmp_path, data, out, *settings)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_the_run_of_one(cli: Callable, tmp_path: Path, data_argument: str) -> None:
    two = train(tmp_path, 2, data_argument, "two", "train.steps=6")
    said, warned = two.communicate(timeout=300)
    assert two.returncode == 0, warned
    assert said.count("6 steps,") == 1, "the first alone says"
    one = cli(*words(tmp_path, data_argument, "one", "train.steps=6"))
    assert one.exit_code == 0, one.output
    for here, there in zip(log(tmp_path / "two"), log(tmp_path / "one"), strict=True):
        assert here == pytest.approx(there, rel=1e-3)
    run = RunFolder(tmp_path / "two")
    assert len(list(run.checkpoint.folder.glob("shard-*.safetensors"))) == 6
    left = {path.name for path in run.path.iterdir()} - {"speed.jsonl"}  # which a slow machine writes
    assert left == {"checkpoints", "metrics.jsonl", "modalities.json", "recipe.json"}
    assert load(run.path)[1].training is False
    alone = cli(*words(tmp_path, data_argument, "two", "train.steps=8"))  # and on with it alone
    assert alone.exit_code == 0, alone.output
    assert len(log(tmp_path / "two")) == 8


@pytest.mark.skipif(SAVE is None, reason="a signal of POSIX")
def test_asked_to_save_it_goes_on_and_interrupted_it_ends(tmp_path: Path, data_argument: str) -> None:
    run = train(tmp_path, 1, data_argument, "run", "train.steps=100000", "train.save_every=1e9")
    folder = tmp_path / "run"
    try:
        reached(folder, 0)
        time.sleep(0.5)
        run.send_signal(SAVE or 0)
        step = reached(folder, 1)
        assert run.poll() is None, "it goes on"
        run.send_signal(signal.SIGINT)
        _, warned = run.communicate(timeout=60)
        assert run.returncode == 130, warned
    finally:
        run.kill()
        run.communicate()
    assert reached(folder, step + 1) > step


def reached(folder: Path, least: int) -> int:
    """Waits for a checkpoint of at least this step; which it is."""
    pointer = folder / "checkpoints" / "latest"
    for _ in range(1200):
        if pointer.is_file() and int(pointer.read_text()) >= least:
            return int(pointer.read_text())
        time.sleep(0.1)
    raise AssertionError(f"no checkpoint of step {least}")
