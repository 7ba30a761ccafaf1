"""Jobs in processes of one thread each, as many at once as there are cores, or one a GPU."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from transfuse.errors import TransfuseError
from transfuse.files import write_json, writing

from transfuse_lab.runs.interrupts import tell

# Two busy multi-threaded processes on two cores run several times slower than one: one thread each.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
WORKER = "transfuse_lab.comparison"  # the module that does a job
PATIENCE = 30.0  # seconds that a worker is given to finish its step and save


@dataclass(frozen=True)
class Job:
    """A piece of work for a worker process: its folder takes ``job.json`` and ``log.txt``."""

    name: str
    folder: Path
    work: dict[str, Any]


Ended = Callable[["Job"], None]
"""Is told of each job that has ended well."""
Watch = Callable[[Sequence["Job"], int], None]
"""Is told which jobs are at it, and how many have ended."""


def run_all(
    jobs: Sequence[Job],
    watch: Watch,
    places: Sequence[str] = (),
    may_start: Callable[[Job], bool] = lambda job: True,
    ended: Ended = lambda job: None,
) -> None:
    """Run every job; ``watch(active, done)`` is called once a second, and ``ended(job)`` once a job.

    places: a device for each job that runs at once, which the job is told; none: the CPU, as often as it has cores.
    may_start: is asked when a job's turn comes; one that may not is left out.

    Raises TransfuseError with the end of its log where a job fails; the others are asked to save and end,
    and killed where they have not after `PATIENCE` seconds. The same on KeyboardInterrupt; a second one
    kills them at once.
    """
    waiting, active = list(jobs), dict[subprocess.Popen, Job]()
    free = list(places or ["cpu"] * cores())
    used = dict[subprocess.Popen, str]()
    done = 0
    try:
        while waiting or active:
            while waiting and free:
                job = waiting.pop(0)
                if not may_start(job):
                    continue
                place = free.pop(0)
                process = _start(job, place)
                active[process], used[process] = job, place
            time.sleep(0.2)
            for process in [p for p in active if p.poll() is not None]:
                job = active.pop(process)
                free.append(used.pop(process))
                done += 1
                if process.returncode:
                    log = job.folder / "log.txt"
                    raise TransfuseError(f"{job.name} failed:\n{_tail(log)}\n  where in the code: {log}")
                ended(job)
            watch(list(active.values()), done)
    finally:
        if active:
            _stop(list(active))


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """Asks all, waits for them, and kills those that are left."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    try:
        tell(f"\nwaiting up to {PATIENCE:.0f} s until the running jobs ({len(processes)}) have saved")
        for process in processes:
            process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        tell("killing the jobs that did not end: they go on from what they saved last")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(job: Job, place: str) -> subprocess.Popen:
    """A worker in a session of its own, so that it hears a Ctrl-C once, from here.

    ``-P``: no module is taken from the working directory, which may be a folder of someone's data.
    """
    write_json(job.folder / "job.json", {**job.work, "device": place})
    path = job.folder / "log.txt"
    with writing(path):
        log = path.open("w", encoding="utf-8")
    with log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER, str(job.folder / "job.json")],
            stdin=_until_we_end(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **ONE_THREAD},
        )


@cache
def _until_we_end() -> int:
    """A pipe to read from, which has nothing in it and ends when this process does, however it ends."""
    read, _ = os.pipe()  # the other end is never closed, and no other process has it
    return read


def _tail(log: Path, lines: int = 12) -> str:
    """The error with which a job's log ends, or its last lines where it ends otherwise."""
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()
    last = max((i for i, line in enumerate(said) if line.startswith("error: ")), default=len(said) - lines)
    return "\n".join(f"  {line}" for line in said[max(0, last) :])
