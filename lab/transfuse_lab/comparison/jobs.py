"""Jobs in processes of one thread each, as many at once as there are cores."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfuse.errors import TransfuseError
from transfuse.files import write_json

# Two busy multi-threaded processes on two cores run several times slower than one: one thread each.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Job:
    """A piece of work for ``transfuse_lab.comparison.worker``: its folder takes ``job.json`` and ``log.txt``."""

    name: str
    folder: Path
    work: dict[str, Any]


def run_all(jobs: Sequence[Job], watch: Callable[[Sequence[Job], int], None]) -> None:
    """Run every job; ``watch(active, done)`` is called once a second.

    Raises TransfuseError with the end of its log where a job fails; the others are stopped, having
    saved their state. The same on KeyboardInterrupt.
    """
    waiting, active = list(jobs), {}
    done = 0
    try:
        while waiting or active:
            while waiting and len(active) < cores():
                job = waiting.pop(0)
                active[_start(job)] = job
            time.sleep(0.2)
            for process in [p for p in active if p.poll() is not None]:
                job = active.pop(process)
                done += 1
                if process.returncode:
                    raise TransfuseError(f"{job.name} failed:\n{_tail(job.folder / 'log.txt')}")
            watch(list(active.values()), done)
    finally:
        for process in active:
            process.terminate()
        for process in active:
            process.wait()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(job: Job) -> subprocess.Popen:
    write_json(job.folder / "job.json", job.work)
    with (job.folder / "log.txt").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "transfuse_lab.comparison.worker",
                str(job.folder / "job.json"),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **ONE_THREAD},
        )


def _tail(log: Path, lines: int = 12) -> str:
    return "\n".join(
        f"  {line}" for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    )
