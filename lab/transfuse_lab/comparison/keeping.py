"""Records of a comparison's runs: which are there, which are of another run, and what is kept of them for good.

A run's record is whole in its folder; a plan keeps a small one too, in files that can be committed, so that another
sitting, on another machine of the same kind, goes on from them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transfuse.config.merge import differing
from transfuse.errors import TransfuseError

from transfuse_lab.comparison.run import Run
from transfuse_lab.progress import say
from transfuse_lab.runs.made_by import MADE_BY, check_alike, made_by
from transfuse_lab.runs.records import RunRecord, load_record, plain

PLACE = "plan"
"""In a record's facts: where in a plan the run stands."""
SECONDS = "core_seconds"
"""In a record's facts: process CPU seconds of training, evaluating and measuring it."""
WEIGHTS = "weights"
"""In a record's facts: the hash of all weights."""
CODECS = "codecs_kept"
"""In a record's facts: under which name its codecs lie, by which those of several runs are known to be the same."""
DIVERGED = "diverged"
"""In a record's faults: at which step, and of what."""
CURVE, SAMPLES = 20, 24
"""Points of a curve and samples of a task that are kept for good."""


def wanted(run: Run) -> dict[str, Any]:
    """What its record says of it."""
    return {
        "entry": run.entry,
        "seed": run.recipe.train.seed,
        "settings": plain(run.recipe.dump()),
        "place": plain(dict(run.place)),
    }


def record_of(run: Run) -> RunRecord | None:
    """The run's record, where there is one of this entry, seed, recipe and place; else None, and that is said.

    Raises TransfuseError where a record that is kept for good is of another run.
    """
    if run.kept is not None and run.kept.is_file():
        record = load_record(run.kept)
        if unlike := _unlike(run, record):
            raise TransfuseError(
                f"{run.kept} is of another run: {unlike}: records are not made again once they are kept; name another "
                f"folder under records, or move it away"
            )
        return record
    path = run.record_file
    if not path.is_file():
        return None
    try:
        record = load_record(path)
    except TransfuseError as error:
        say(f"{error}: it is made again")
        return None
    if unlike := _unlike(run, record):
        say(f"{path} is of another run ({unlike}): it is made again")
        return None
    return record


def _unlike(run: Run, record: RunRecord) -> str:
    """In what it is of another run; empty: it is of this."""
    found = {
        "entry": record.entry,
        "seed": record.seed,
        "settings": record.settings,
        "place": record.facts.get(PLACE, {}),
    }
    for key, value in wanted(run).items():
        if found[key] != value:
            said = (
                differing(found[key], value) if isinstance(value, Mapping) else f"{found[key]} is not {value}"
            )
            return f"{key}: {said}"
    return ""


def records_of(runs: Sequence[Run]) -> dict[str, RunRecord]:
    """Those that are there, by the names of the runs."""
    return {run.name: record for run in runs if (record := record_of(run))}


def check_all_alike(records: Mapping[str, RunRecord], more: bool, cure: str) -> None:
    """Raises TransfuseError where two were made by unlike code, processors or libraries, or the runs that are still to
    be done would be (``more``)."""
    made = {name: record.facts.get(MADE_BY, {}) for name, record in records.items()}
    check_alike({**made, **({"what is run here": made_by()} if more else {})}, cure)


def small(record: RunRecord, shown: bool) -> RunRecord:
    """The record as it is kept for good. shown: with samples, and what its figures are."""
    places = np.linspace(0, len(record.curve) - 1, min(CURVE, len(record.curve))).round().astype(int)
    kept, counts = [], dict[tuple[str, str], int]()
    for one in record.samples if shown else ():
        key = (one.task, one.split)
        counts[key] = counts.get(key, 0) + 1
        kept += [one] if counts[key] <= SAMPLES else []
    return record.model_copy(
        update={
            "curve": tuple(record.curve[i] for i in places),
            "samples": tuple(kept),
            "figures": record.figures if shown else (),
        }
    )


def spent(records: Sequence[RunRecord]) -> float:
    """Core-seconds of runs that ended; codecs' training once, however many runs have them."""
    codecs = {one.facts.get(CODECS): _codec_seconds(one) for one in records}
    return sum(codecs.values()) + sum(float(one.facts.get(SECONDS, 0.0)) for one in records)


def _codec_seconds(record: RunRecord) -> float:
    told = record.facts.get("codec_seconds", 0.0)
    return float(sum(told.values()) if isinstance(told, Mapping) else told)
