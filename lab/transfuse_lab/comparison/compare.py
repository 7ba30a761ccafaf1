"""A comparison carried out: what is missing is trained and evaluated, then all of it is put side by side.

Every run leaves its record as it ends; a comparison that was stopped goes on with what is missing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transfuse.checkpoints import RunFolder, has_codecs
from transfuse.errors import TransfuseError
from transfuse.files import read_json
from transfuse.metrics import Figure

from transfuse_lab.comparison.jobs import Job, run_all
from transfuse_lab.comparison.plan import Run, mask_file
from transfuse_lab.evaluation.statistics import Summary, by_entry, summaries
from transfuse_lab.progress import bar, say
from transfuse_lab.report.figures import figures_of, show
from transfuse_lab.report.masks import MaskPicture
from transfuse_lab.runs.records import RunRecord, load_record, plain


def missing(runs: Sequence[Run]) -> list[Run]:
    """Those that have no record yet, or none that can be trusted."""
    return [run for run in runs if record_of(run) is None]


def record_of(run: Run) -> RunRecord | None:
    """The record in a run's folder, where it is one of this entry, seed and recipe; else None, and that is said."""
    path = run.folder.record_file
    if not path.is_file():
        return None
    try:
        record = load_record(path)
    except TransfuseError as error:
        say(f"{error}: it is made again")
        return None
    wanted = {"entry": run.entry, "seed": run.recipe.train.seed, "settings": plain(run.recipe.dump())}
    unlike = [key for key, value in wanted.items() if getattr(record, key) != value]
    if unlike:
        say(f"{path} is of another run ({', '.join(unlike)}): it is made again")
    return None if unlike else record


def fit_codecs(runs: Sequence[Run], common: Mapping[str, Any], places: Sequence[str]) -> None:
    """Each set of codecs that some run needs and nobody has fit, once. common: what every job is given. places: a
    device for each that is fit at once."""
    jobs = {
        run.codecs: Job(
            f"the codecs of {run.entry}",
            run.codecs,
            {**common, "kind": "fit", "recipe": run.recipe.dump(), "folder": str(run.codecs)},
        )
        for run in runs
        if not has_codecs(run.codecs)
    }
    if jobs:
        with bar("codecs") as progress:
            run_all(
                list(jobs.values()),
                lambda active, done: progress.update(done / len(jobs), _names(active)),
                places,
            )


def train_and_evaluate(runs: Sequence[Run], common: Mapping[str, Any], places: Sequence[str]) -> None:
    """Every run, to its record. places: a device for each that is trained at once."""
    if not runs:
        return
    jobs = [
        Job(
            run.name,
            run.folder.path,
            {
                **common,
                "kind": "run",
                "recipe": run.recipe.dump(),
                "folder": str(run.folder.path),
                "codecs": str(run.codecs),
                "entry": run.entry,
            },
        )
        for run in runs
    ]
    with bar("train and evaluate") as progress:
        run_all(
            jobs,
            lambda active, done: progress.update(share_done(jobs, active, done), _names(active)),
            places,
        )


def share_done(jobs: Sequence[Job], active: Sequence[Job], done: int) -> float:
    """The share of all runs that is done; an active one counts by its budget, evaluation as the last fifth."""
    return (done + sum(0.8 * _trained(job) for job in active)) / len(jobs)


def _trained(job: Job) -> float:
    try:
        last = json.loads(RunFolder(job.folder).metrics_file.read_text(encoding="utf-8").splitlines()[-1])
        return min(1.0, last["flops"] / job.work["recipe"]["train"]["flops"])
    except (OSError, IndexError, ValueError, KeyError):
        return 0.0


def _names(active: Sequence[Job]) -> str:
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
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    for first, *cells in rows:
        yield first.ljust(widths[0]) + "".join(
            cell.rjust(w) for cell, w in zip(cells, widths[1:], strict=True)
        )


def _cell(one: Figure, summary: Summary | None) -> str:
    if summary is None or summary.mean is None:
        return "–"
    if summary.low is None:
        return f"{show(one, summary.mean)} ({', '.join(show(one, v) for v in summary.values)})"
    return f"{show(one, summary.mean)} [{show(one, summary.low)}, {show(one, summary.high)}]"
