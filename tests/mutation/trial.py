"""Tries mutmut's mutants, each in a process forked from this one: test functions are called, quickest first.

`python tests/mutation/trial.py FOLDER [PATTERN …]`. mutmut starts pytest anew for each mutant, which costs far more
than the tests do. Results are written where mutmut keeps its own, under its exit codes: `mutmut results` reads them.
"""

import fnmatch
import importlib
import inspect
import itertools
import json
import mmap
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

SURVIVED, KILLED, UNTESTED, TIMEOUT = 0, 1, 33, 36
MEMORY = 6 * 2**30
"""Address space in bytes beyond which an allocation fails."""


def cases(module: str, fixtures: dict[str, Callable[[], Any]]) -> Iterator[Callable[[], Any]]:
    """The module's tests, one a parameter set, as calls without arguments."""
    for name, test in vars(importlib.import_module(module)).items():
        if not name.startswith("test_"):
            continue
        sets: list[dict[str, Any]] = [{}]
        for mark in getattr(test, "pytestmark", []):
            names, values = mark.args[:2]
            names = [n.strip() for n in names.split(",")] if isinstance(names, str) else names
            chosen = [dict(zip(names, v if len(names) > 1 else [v], strict=True)) for v in values]
            sets = [{**a, **b} for a in sets for b in chosen]
        wanted = set(inspect.signature(test).parameters)
        for given in sets:
            yield partial(test, **given, **{f: fixtures[f]() for f in wanted & set(fixtures)})


def measured(tests: list[Callable[[], Any]]) -> dict[str, list[Callable[[], Any]]]:
    """By function that mutmut mutated, the tests that reach it, quickest first."""
    from mutmut.mutation import trampoline

    reached: dict[str, list[tuple[float, int]]] = {}
    os.environ["MUTANT_UNDER_TEST"] = "stats"
    for number, test in enumerate(tests):
        hits: set[str] = set()
        trampoline.record_trampoline_hit = lambda name, caller=None, hits=hits: hits.add(name)
        begin = time.process_time()
        test()
        took = time.process_time() - begin
        for name in hits:
            reached.setdefault(name, []).append((took, number))
    os.environ["MUTANT_UNDER_TEST"] = ""
    return {name: [tests[number] for _, number in sorted(found)] for name, found in reached.items()}


def attempt(mutant: str, tests: list[Callable[[], Any]], killer: mmap.mmap) -> None:
    """In a forked process: exits with what the tests say of the mutant, the number of the killing one in `killer`."""
    os.environ["MUTANT_UNDER_TEST"] = mutant
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, lambda *_: os._exit(TIMEOUT))
    for number, test in enumerate(tests):
        signal.setitimer(signal.ITIMER_PROF, 20)  # seconds of CPU time, many times what any of these needs
        killer[:4] = number.to_bytes(4, "little")
        try:
            test()
        except BaseException:
            os._exit(KILLED)
    os._exit(SURVIVED)


class Child(NamedTuple):
    mutant: str
    tests: list[Callable[[], Any]]
    killer: mmap.mmap


def reap(running: dict[int, Child], codes: dict[str, int | None]) -> None:
    """Waits for one mutant and notes what became of it; the test that killed it goes first for its like."""
    pid, status = os.wait()
    mutant, tests, killer = running.pop(pid)
    codes[mutant] = os.waitstatus_to_exitcode(status)
    if codes[mutant] == KILLED:
        tests.insert(0, tests.pop(int.from_bytes(killer[:4], "little")))


def trials(folder: Path, patterns: list[str]) -> None:
    config = ConfigParser()
    config.read(folder / "setup.cfg")
    selection = config["mutmut"]["pytest_add_cli_args_test_selection"].split()
    files = [folder / "mutants" / f"{name}.meta" for name in config["mutmut"]["only_mutate"].split()]
    os.chdir(folder / "mutants")
    sys.path.insert(0, os.getcwd())
    os.environ["MUTANT_UNDER_TEST"] = ""
    warnings.simplefilter("error")
    for kind in (DeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", kind)
    from tests import conftest as conftest
    from tests.tiny.models import Kit

    kit = Kit()
    modules = [path.removesuffix(".py").replace("/", ".") for path in selection]
    found = itertools.chain.from_iterable(cases(module, {"kit": lambda: kit}) for module in modules)
    reached = measured(list(found))
    null = os.open(os.devnull, os.O_WRONLY)
    jobs, running = int(os.environ.get("JOBS", "1")), {}  # running by process id
    for path in files:
        known = json.loads(path.read_text())
        codes: dict[str, int | None] = known["exit_code_by_key"]
        open_ones = [
            key
            for key, code in codes.items()
            if code not in (KILLED, TIMEOUT)
            and (not patterns or any(fnmatch.fnmatch(key, pattern) for pattern in patterns))
        ]
        for done, key in enumerate(open_ones):
            tests = reached.get(key.rpartition("__mutmut_")[0])
            if tests is None:
                codes[key] = UNTESTED
                continue
            if len(running) >= jobs:
                reap(running, codes)
            killer = mmap.mmap(-1, 4)
            child = os.fork()
            if not child:
                os.dup2(null, 1)
                os.dup2(null, 2)
                attempt(key, tests, killer)
            running[child] = Child(key, tests, killer)
            if done % 20 == 0:
                path.write_text(json.dumps(known))
        while running:
            reap(running, codes)
        path.write_text(json.dumps(known))
        live = sum(code in (SURVIVED, UNTESTED) for code in codes.values())
        print(f"{path.stem}: {len(codes)} mutants, {live} live", flush=True)


if __name__ == "__main__":
    trials(Path(sys.argv[1]).resolve(), sys.argv[2:])
