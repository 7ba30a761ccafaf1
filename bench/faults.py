"""Killed at any moment, damaged in any file: what is lost, what is opened though it is wrong, what stays unsaid.

    python bench/faults.py --json faults.json           # 200 kills and 500 damages
    python bench/faults.py --quick --json faults.json   # 10 kills and 40 damages

A case is a command that leaves a folder. It is killed (SIGKILL) at random moments, half of them at its n-th open,
write, rename or fsync under that folder; then what lies there is opened and looked at, and the command is given again,
which has to end in the same bits as one that was never killed. Then files of the finished folder are flipped in one
bit, truncated, deleted, exchanged with another, or filled with zeros; verifying in full and reading have to name each.

Written after each case, beside the cases that stand in the file already, so that nothing is lost of a run that is cut
and ``--cases`` may do one at a time: ``kills``, ``lost`` (finished records that were gone after a kill, or re-runs that
ended in other bits), ``corruptions``, and ``silent`` (damages that nobody named; wrong states that opened after a
kill). Processes are forked from this one, so POSIX alone.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from runners.fault_cases import CASES, Case, files_of
from runners.killing import Kill, forked
from transfuse.errors import TransfuseError
from transfuse.files import write_text

say = partial(print, flush=True)
TOLD = ("kills", "lost", "corruptions", "silent")
DAMAGES = ("flipped", "truncated", "deleted", "swapped", "zeroed")


def killed(
    case: Case, home: Path, kills: int, rng: random.Random, report: Callable[[str], None]
) -> Counter[str]:
    """Kills, re-runs and comparisons of one case."""
    found, log = Counter[str](), home / f"{case.name}.log"
    whole = home / f"{case.name}.zarr"
    counter = Kill(whole)
    status, seconds, asked = forked(case.arguments(whole), counter, log, case.ranks)
    if status:
        raise SystemExit(f"{case.name} fails without a kill: {log.read_text()[-2000:]}")
    wanted = case.bits(whole)
    for number in range(kills):
        folder = home / f"{case.name}-{number}.zarr"
        at = rng.randrange(1, asked + 1) if number % 2 else 0
        kill = Kill(folder, at, 0 if at else rng.uniform(0.02, seconds))
        what = f"{case.name} killed at {f'request {at} of {asked}' if at else f'{kill.seconds:.2f} s'}"
        killed_so = forked(case.arguments(folder), kill, log, case.ranks)[0] == -signal.SIGKILL
        found["kills"] += killed_so
        before = records(case, folder, what, found, report)
        if not killed_so and before:
            shutil.rmtree(folder)  # it was done before its time had come
            continue
        if status := forked(case.arguments(folder), None, log, case.ranks)[0]:
            found["lost"] += 1
            report(f"{what}: the re-run ends with {status}: {log.read_text()[-500:]}")
        elif records(case, folder, what, found, report) < before or case.bits(folder) != wanted:
            found["lost"] += 1
            report(f"{what}: the re-run ended in other bits")
        shutil.rmtree(folder, ignore_errors=True)
    return found


def records(case: Case, folder: Path, what: str, found: Counter[str], report: Callable[[str], None]) -> int:
    """How many are whole; what opens and is wrong is counted."""
    try:
        return case.finished(folder) if folder.exists() else 0
    except (TransfuseError, OSError, ValueError) as error:
        found["silent"] += 1
        report(f"{what}: what lies there is wrong: {error}")
        return 0


# -- damaged


def damage(files: dict[str, Path], name: str, how: str, rng: random.Random) -> list[str]:
    """Damages a file; the names of those that are damaged then."""
    path = files[name]
    body = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(body[: rng.randrange(len(body))])
    elif how == "zeroed":
        path.write_bytes(bytes(len(body)))
    elif how == "flipped":
        place = rng.randrange(len(body))
        path.write_bytes(body[:place] + bytes([body[place] ^ 1 << rng.randrange(8)]) + body[place + 1 :])
    else:
        alike = [other for other in files if other != name and files[other].suffix == path.suffix]
        alike = [other for other in alike if files[other].read_bytes() != body] or [name]
        other = rng.choice(alike)
        if other != name:
            path.write_bytes(files[other].read_bytes())
            files[other].write_bytes(body)
            return [name, other]
        path.unlink()
    return [name]


def damaged(
    case: Case, home: Path, tries: int, rng: random.Random, report: Callable[[str], None]
) -> Counter[str]:
    """Damages to a finished folder, one a try."""
    found, whole, folder = Counter[str](), home / f"{case.name}.zarr", home / f"{case.name}-damaged.zarr"
    for number in range(tries):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        files = {name: path for name, path in files_of(folder).items() if case.damaged.search(name)}
        how = DAMAGES[number % len(DAMAGES)]
        names = damage(files, rng.choice(sorted(files)), how, rng)
        found["corruptions"] += 1
        tellers = [("verifying", case.verified)]
        if not all(case.skipped.search(name) for name in names):
            tellers.append(("using", case.read))
        for who, tell in tellers:
            told = " ".join(tell(folder))
            if not any(part in told for name in names for part in (name, name.split("/")[0])):
                found["silent"] += 1
                report(f"{case.name}: {how} {' and '.join(names)}: {who} says {told[:300] or 'nothing'}")
    shutil.rmtree(folder, ignore_errors=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="10 kills, 40 damages")
    parser.add_argument("--cases", default=",".join(CASES), help="of " + ", ".join(CASES))
    parser.add_argument("--kills", type=int)
    parser.add_argument("--corruptions", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    cases = [CASES[name] for name in given.cases.split(",")]
    kills = given.kills or (10 if given.quick else 200)
    tries = given.corruptions or (40 if given.quick else 500)
    by_case: dict[str, dict[str, int]] = {}
    if given.json and given.json.is_file():
        by_case = json.loads(given.json.read_text())["cases"]
    figures = dict[str, int]()
    with tempfile.TemporaryDirectory() as home:
        weights = [case.weight for case in cases]
        for case, share, damages in zip(cases, _shares(kills, weights), _shares(tries, weights), strict=True):
            rng = random.Random(f"{given.seed} {case.name}")  # of a case alone the same as among others
            found = killed(case, Path(home), share, rng, say)
            found += damaged(case, Path(home), damages, rng, say)
            by_case[case.name] = {name: found[name] for name in TOLD}
            say(f"{case.name} {by_case[case.name]}")
            figures = {name: sum(each[name] for each in by_case.values()) for name in TOLD}
            if given.json:
                write_text(given.json, json.dumps(figures | {"cases": by_case}, indent=1) + "\n")
    say(str(figures))
    sys.exit(bool(figures["lost"] or figures["silent"]))


def _shares(total: int, weights: Sequence[int]) -> Iterator[int]:
    """Of a total by weight, which add up to it."""
    ends = [total * sum(weights[:i]) // sum(weights) for i in range(len(weights) + 1)]
    return (end - start for start, end in pairwise(ends))


if __name__ == "__main__":
    main()
