"""Ctrl-C, SIGTERM and SIGHUP are one: heard once they save after the step, heard twice they end at once."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from transfuse_lab.runs import interrupts as module
from transfuse_lab.runs.interrupts import SIGNALS, Interrupts, interrupts

TRAINING = """
import sys, time
from transfuse_lab.runs.interrupts import interrupts, obey_as_ctrl_c
obey_as_ctrl_c()
try:
    with interrupts() as interrupted:
        print("in", flush=True)
        for _ in range(int(sys.argv[1])):  # a step
            time.sleep(0.01)
        print("saved", interrupted.heard, flush=True)
    if sys.argv[2:]:
        print("out", flush=True)
        time.sleep(30)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def process() -> Callable[..., subprocess.Popen]:
    """One that is in training, of a step of so many hundredths of a second."""
    begun: list[subprocess.Popen] = []

    def begin(*arguments: str, ignored: int | None = None) -> subprocess.Popen:
        one = subprocess.Popen(
            [sys.executable, "-c", TRAINING, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=ignored and (lambda: signal.signal(ignored, signal.SIG_IGN)),
        )  # fmt: skip
        begun.append(one)
        assert one.stdout.readline() == "in\n"
        return one

    yield begin
    for one in begun:
        one.kill()
        one.communicate()


@pytest.mark.parametrize("number", SIGNALS)
class TestAProcess:
    def test_is_told_that_it_was_heard_once_and_ends_its_step(self, process: Callable, number: int) -> None:
        one = process("30")
        one.send_signal(number)
        out, err = one.communicate(timeout=10)
        assert (one.returncode, out) == (0, "saved True\n")
        assert (
            err == f"\n{signal.Signals(number).name} heard: saving after this step; once more ends at once\n"
        )

    def test_ends_at_once_when_it_hears_a_second_one(self, process: Callable, number: int) -> None:
        one = process("3000")
        one.send_signal(number)
        assert one.stderr.readline() == "\n"
        one.send_signal(signal.SIGTERM)
        out, _ = one.communicate(timeout=5)
        assert (one.returncode, out) == (130, "")

    def test_ends_at_once_when_it_is_not_in_training(self, process: Callable, number: int) -> None:
        one = process("0", "and then")
        assert [one.stdout.readline() for _ in range(2)] == ["saved False\n", "out\n"]
        one.send_signal(number)
        assert one.wait(5) == 130


def test_what_nohup_has_ignored_is_ignored(process: Callable) -> None:
    one = process("50", ignored=signal.SIGHUP)
    one.send_signal(signal.SIGHUP)
    assert one.communicate(timeout=10) == ("saved False\n", "")


def test_a_signal_within_a_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """However close two come, the second is no deadlock."""
    monkeypatch.setattr(module, "tell", lambda line: signal.raise_signal(signal.SIGTERM))
    with interrupts() as heard, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert heard.heard


def test_a_closed_terminal_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", closed)
    heard = Interrupts()
    heard(signal.SIGHUP, None)
    assert heard.heard


def test_the_handlers_from_before_come_back() -> None:
    before = [signal.getsignal(name) for name in SIGNALS]
    with interrupts():
        assert [signal.getsignal(name) for name in SIGNALS] != before
    assert [signal.getsignal(name) for name in SIGNALS] == before


def test_another_thread_handles_none() -> None:
    seen: list[bool] = []

    def inside() -> None:
        with interrupts() as heard:
            seen.append(heard.heard)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [False]
