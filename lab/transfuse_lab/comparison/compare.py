"""A comparison carried out: what is missing is trained and evaluated, then all of it is put side by side.

Every run leaves its record as it ends; a comparison that was stopped goes on with what is missing.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transfuse.checkpoints import RunFolder, has_codecs
from transfuse.files import read_json
from transfuse.metrics import Figure

from transfuse_lab.comparison.jobs import Ended, Job, Watch, run_all
from transfuse_lab.comparison.keeping import record_of
from transfuse_lab.comparison.run import Run, mask_file
from transfuse_lab.evaluation.statistics import Summary, by_entry, summaries
from transfuse_lab.progress import bar
from transfuse_lab.report.figures import figures_of, show
from transfuse_lab.report.masks import MaskPicture
from transfuse_lab.runs.forecast import in_time
from transfuse_lab.runs.records import RunRecord
from transfuse_lab.tables import aligned

ENOUGH = 0.05
"""Of all runs, that must be done before what is left is told by it."""


def missing(runs: Sequence[Run]) -> list[Run]:
    """Those that have no record yet, or none that can be trusted."""
    return [run for run in runs if record_of(run) is None]


def fit_codecs(runs: Sequence[Run], common: Mapping[str, Any], places: Sequence[str]) -> None:
    """Each set of codecs that some run needs and nobody has fit, once. common: what every job is given. places: a
    device for each that is fit at once."""
    jobs = {
        run.codecs: Job(
            f"the codecs of {run.entry}",
            run.codecs,
            {
                **common,
                "kind": "fit",
                "data": run.data,
                "recipe": run.recipe.dump(),
                "folder": str(run.codecs),
            },
        )
        for run in runs
        if not has_codecs(run.codecs)
    }
    if jobs:
        with bar("codecs") as progress:
            run_all(
                list(jobs.values()),
                lambda active, done: progress.update(done / len(jobs), names(active)),
                places,
            )


def train_and_evaluate(
    runs: Sequence[Run],
    common: Mapping[str, Any],
    places: Sequence[str],
    watch: Watch | None = None,
    may_start: Callable[[Job], bool] = lambda job: True,
    ended: Ended = lambda job: None,
) -> None:
    """Every run, to its record; those that branch off a run in one job with it. places: a device for each that is
    trained at once. watch: instead of a bar. may_start: is asked of a job before it is started. ended: is told of
    each whose records are there."""
    jobs = jobs_of(runs, common)
    if not jobs:
        return
    if watch is not None:
        run_all(jobs, watch, places, may_start, ended)
        return
    began, first = time.monotonic(), share_done(jobs, jobs, 0)
    with bar("train and evaluate") as progress:

        def show_progress(active: Sequence[Job], done: int) -> None:
            share = share_done(jobs, active, done)
            progress.update(share, f"{time_left(time.monotonic() - began, first, share)}{names(active)}")

        run_all(jobs, show_progress, places, may_start, ended)


def time_left(seconds: float, first: float, share: float) -> str:
    """What is left, in words, where so many seconds led from one share to another; nothing of too little to tell."""
    gained = share - first
    return f"{in_time(seconds * (1 - share) / gained)} left: " if gained > ENOUGH else ""


def jobs_of(runs: Sequence[Run], common: Mapping[str, Any]) -> list[Job]:
    """In the order of the runs; what several runs share is one job."""
    together: dict[Path, list[Run]] = {}
    for run in runs:
        key = run.trunk.folder.path if run.drawn is None else run.record_file
        together.setdefault(key, []).append(run)
    return [
        Job(
            parts[-1].name if parts[-1].drawn is not None else parts[0].trunk.name,
            parts[0].trunk.folder.path if parts[0].drawn is None else parts[0].record_file.with_suffix(""),
            {
                **common,
                "kind": "run" if parts[0].drawn is None else "draw",
                "data": parts[0].data,
                "recipe": parts[0].trunk.recipe.dump(),
                "folder": str(parts[0].trunk.folder.path),
                "codecs": str(parts[0].codecs),
                "parts": [_part(run) for run in parts],
            },
        )
        for parts in together.values()
    ]


def _part(run: Run) -> dict[str, Any]:
    return {
        "entry": run.entry,
        "recipe": run.recipe.dump(),
        "folder": str(run.folder.path),
        "record": str(run.record_file),
        "kept": None if run.kept is None else str(run.kept),
        "shown": run.shown,
        "place": dict(run.place),
        "also": list(run.also),
        "at": run.branch.at if run.branch else None,
    }


def share_done(jobs: Sequence[Job], active: Sequence[Job], done: int) -> float:
    """The share of all runs that is done; an active one counts by its budget, evaluation as the last fifth."""
    return (done + sum(0.8 * trained(job) for job in active)) / len(jobs)


def trained(job: Job) -> float:
    """The share of its budget that a job's log tells of."""
    try:
        last = json.loads(RunFolder(job.folder).metrics_file.read_text(encoding="utf-8").splitlines()[-1])
        return min(1.0, last["flops"] / job.work["recipe"]["train"]["flops"])
    except (OSError, IndexError, ValueError, KeyError):
        return 0.0


def names(active: Sequence[Job]) -> str:
    """Of jobs that are at it."""
    return " | ".join(job.name for job in active)


def mask_pictures(runs: Sequence[Run]) -> Iterator[MaskPicture]:
    """Each mask that was drawn once, with the entries that use it."""
    drawn: dict[tuple, list[str]] = {}
    for run in runs:
        if not mask_file(run.folder).is_file():
            continue
        made = read_json(mask_file(run.folder), "mask")
        key = (made["expression"], tuple(made["drawing"]), tuple(made["labels"]))
        entries = drawn.setdefault(key, [])
        if run.entry not in entries:
            entries.append(run.entry)
    for (expression, drawing, labels), entries in drawn.items():
        yield MaskPicture(tuple(entries), expression, drawing, labels)


def table(records: Sequence[RunRecord]) -> Iterator[str]:
    """The figures as lines: one a figure, a column an entry, with intervals from 3 seeds on; details are left to
    compare.json."""
    found = {entry: summaries(runs) for entry, runs in by_entry(records).items()}
    main = [one for one in figures_of(records).values() if not one.detail]
    rows = [
        ["", *found],
        *([one.name, *(_cell(one, each.get(one.name)) for each in found.values())] for one in main),
    ]
    yield from aligned(rows)


def _cell(one: Figure, summary: Summary | None) -> str:
    if summary is None or summary.mean is None:
        return "–"
    if summary.low is None:
        return f"{show(one, summary.mean)} ({', '.join(show(one, v) for v in summary.values)})"
    return f"{show(one, summary.mean)} [{show(one, summary.low)}, {show(one, summary.high)}]"
