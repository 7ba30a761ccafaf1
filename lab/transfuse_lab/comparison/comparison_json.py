"""`compare.json`: every figure of a comparison over its seeds, in a form that scripts rely on."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from transfuse.errors import TransfuseError
from transfuse.files import write_text

from transfuse_lab.comparison.statistics import Summary, paired_difference, summarise
from transfuse_lab.runs.records import RunRecord, plain

FORMAT = "transfuse comparison 1"


def by_entry(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Runs by entry, in the order entries first appear, each sorted by seed.

    Raises TransfuseError for two runs of one entry and seed.
    """
    entries: dict[str, list[RunRecord]] = {}
    for record in records:
        entries.setdefault(record.entry, []).append(record)
    for entry, runs in entries.items():
        runs.sort(key=lambda run: run.seed)
        for one, two in pairwise(runs):
            if one.seed == two.seed:
                raise TransfuseError(f"comparison: {entry} has two runs of seed {one.seed}")
    return entries


def metric_names(records: Sequence[RunRecord]) -> list[str]:
    """Every metric some run has, in the order they first appear."""
    return list(dict.fromkeys(name for record in records for name in record.metrics))


def summaries(runs: Sequence[RunRecord]) -> dict[str, Summary]:
    """Each metric of one entry over its seeds."""
    return {name: summarise([run.metrics.get(name) for run in runs]) for name in metric_names(runs)}


def differences(one: Sequence[RunRecord], two: Sequence[RunRecord]) -> dict[str, Summary]:
    """Each metric of ``two`` minus the same of ``one``, paired by seed; without those not shared."""
    shared = {run.seed for run in one} & {run.seed for run in two}
    if not shared:
        return {}
    names = [name for name in metric_names(one) if name in set(metric_names(two))]
    return {name: paired_difference(_by_seed(one, name), _by_seed(two, name)) for name in names}


def comparison(records: Sequence[RunRecord], data: Mapping[str, Any], command: str = "") -> dict[str, Any]:
    """What compare.json holds.

    ``recipes.<entry>.<metric>.{mean, low, high, values}``: over seeds, in the order of
    ``seeds.<entry>``; low and high are the 95 % t interval, null for fewer than 3 seeds.
    ``differences.<entry>.<metric>``: the same for entry minus ``reference`` (the first), paired by seed.
    ``facts.<entry>``, ``settings.<entry>``: each seed's facts, and the first seed's settings.
    """
    entries = by_entry(records)
    if not entries:
        raise TransfuseError("comparison: there is no run to compare")
    reference, *others = entries
    return {
        "format": FORMAT,
        "data": plain(dict(data)),
        "command": command,
        "recipes": {
            entry: {name: found.json() for name, found in summaries(runs).items()}
            for entry, runs in entries.items()
        },
        "seeds": {entry: [run.seed for run in runs] for entry, runs in entries.items()},
        "reference": reference,
        "differences": {
            entry: {
                name: found.json() for name, found in differences(entries[reference], entries[entry]).items()
            }
            for entry in others
        },
        "facts": {entry: [run.facts for run in runs] for entry, runs in entries.items()},
        "settings": {entry: runs[0].settings for entry, runs in entries.items()},
    }


def write_comparison(
    path: Path, records: Sequence[RunRecord], data: Mapping[str, Any], command: str = ""
) -> None:
    """Writes compare.json, whole or not at all."""
    text = json.dumps(comparison(records, data, command), indent=1, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def _by_seed(runs: Sequence[RunRecord], name: str) -> dict[int, float | None]:
    return {run.seed: run.metrics.get(name) for run in runs}
