"""Workers end when they are asked, when they do not listen, and when their parent is gone; they run no one's code.

Real processes, of a job that only waits.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from transfuse_lab.comparison import jobs
from transfuse_lab.lock import locked

WORKER = """
import json, random, signal, sys, time
from pathlib import Path

import yaml
from transfuse_lab.comparison import __main__ as worker
from transfuse_lab.lock import locked
from transfuse_lab.runs.interrupts import interrupts, obey_as_ctrl_c

folder = Path(sys.argv[1]).parent
job = json.loads(Path(sys.argv[1]).read_text())
worker.PATIENCE = job["patience"]
obey_as_ctrl_c()
worker.end_with_parent()
with locked(folder), interrupts() as interrupted:
    if job["deaf"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "working").touch()
    while job["waits"] and not interrupted.heard:
        time.sleep(0.01)
    (folder / "saved").touch()
"""
PARENT = """
import json, sys
from pathlib import Path

from transfuse_lab.comparison import jobs
from transfuse_lab.runs.interrupts import obey_as_ctrl_c

folder, work = Path(sys.argv[1]), json.loads(sys.argv[2])
jobs.WORKER, jobs.PATIENCE, jobs.cores = "waiting", work["patience"], lambda: 2
obey_as_ctrl_c()
try:
    jobs.run_all([jobs.Job(name, folder / name, work) for name in "ab"], lambda active, done: None)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module ``waiting``, which does a job, is found by name."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/waiting.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"), prepend=os.pathsep)


@pytest.fixture
def parent(modules: None, tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """A process in a group of its own whose jobs a and b are at work."""
    begun: list[subprocess.Popen] = []

    def begin(deaf: bool = False, patience: float = 30.0) -> subprocess.Popen:
        work = json.dumps({"deaf": deaf, "patience": patience, "waits": True})
        one = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(tmp_path), work], stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        begun.append(one)
        deadline = time.monotonic() + 20
        while not all((tmp_path / name / "working").exists() for name in "ab"):
            assert one.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return one

    yield begin
    for one in begun:
        one.kill()
        one.communicate()


def gone(folder: Path, saved: bool) -> None:
    """Both workers have ended, whether or not they could save first."""
    for name in "ab":
        with locked(folder / name, wait=5.0):
            assert (folder / name / "saved").exists() == saved


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_they_save_and_are_waited_for(parent: Callable, tmp_path: Path, number: int) -> None:
    """A Ctrl-C is for the terminal's whole group: the workers hear of it once, from their parent."""
    one = parent()
    os.killpg(one.pid, number)
    _, err = one.communicate(timeout=10)
    assert one.returncode == 130
    assert err == "\nwaiting up to 30 s until the running jobs (2) have saved\n"
    gone(tmp_path, saved=True)
    for name in "ab":
        assert (tmp_path / name / "log.txt").read_text().count("heard") == 1


def test_who_does_not_listen_is_killed(parent: Callable, tmp_path: Path) -> None:
    one = parent(deaf=True, patience=0.3)
    one.terminate()
    _, err = one.communicate(timeout=10)
    assert one.returncode == 130
    assert err.endswith("killing the jobs that did not end: they go on from what they saved last\n")
    gone(tmp_path, saved=False)


def test_a_second_signal_kills_at_once(parent: Callable, tmp_path: Path) -> None:
    one = parent(deaf=True)
    one.terminate()
    assert (
        one.stderr.readline() + one.stderr.readline()
        == "\nwaiting up to 30 s until the running jobs (2) have saved\n"
    )
    one.send_signal(signal.SIGINT)
    assert one.wait(5) == 130
    gone(tmp_path, saved=False)


@pytest.mark.parametrize("deaf", [False, True])
def test_they_end_with_their_parent(parent: Callable, tmp_path: Path, deaf: bool) -> None:
    """Killed, it can tell them nothing: they save, and end whether or not they could."""
    one = parent(deaf=deaf, patience=0.3 if deaf else 30.0)
    one.kill()
    one.wait()
    gone(tmp_path, saved=not deaf)


@pytest.mark.parametrize("name", ["yaml", "random", "transfuse", "waiting"])
def test_no_module_is_taken_from_the_working_directory(
    modules: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit(7)")
    monkeypatch.chdir(data)
    monkeypatch.setattr(jobs, "WORKER", "waiting")
    work = {"deaf": False, "patience": 30.0, "waits": False}
    jobs.run_all([jobs.Job("a", tmp_path / "a", work)], lambda active, done: None)
    assert (tmp_path / "a/saved").exists()
    assert not (tmp_path / "ran").exists()
