"""`compare.json`: every figure of a comparison over its seeds, in a form that scripts rely on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transfuse.errors import TransfuseError
from transfuse.files import write_text

from transfuse_lab.evaluation.statistics import by_entry, differences, summaries
from transfuse_lab.report.figures import figures_of
from transfuse_lab.runs.records import RunRecord, plain

FORMAT = "transfuse comparison 1"


def comparison(
    records: Sequence[RunRecord],
    data: Mapping[str, Any],
    command: str = "",
    found: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What compare.json holds.

    ``recipes.<entry>.<metric>.{mean, low, high, values}``: over seeds, in the order of
    ``seeds.<entry>``; low and high are the 95 % t interval, null for fewer than 3 seeds.
    ``differences.<entry>.<metric>``: the same for entry minus ``reference`` (the first), paired by seed.
    ``figures.<metric>``: its title, unit, and which way is better. ``faults.<entry>``: by seed, what there is no
    figure of, and why.
    ``facts.<entry>``, ``settings.<entry>``: each seed's facts, and the first seed's settings.
    ``findings``: of a plan (`transfuse_lab.comparison.findings`), with its hash.
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
        "figures": {
            name: {key: value for key, value in asdict(one).items() if value and key != "name"}
            for name, one in figures_of(records).items()
        },
        "faults": {entry: [run.faults for run in runs] for entry, runs in entries.items()},
        "facts": {entry: [run.facts for run in runs] for entry, runs in entries.items()},
        "settings": {entry: runs[0].settings for entry, runs in entries.items()},
        **({} if found is None else {"findings": dict(found)}),
    }


def write_comparison(
    path: Path,
    records: Sequence[RunRecord],
    data: Mapping[str, Any],
    command: str = "",
    found: Mapping[str, Any] | None = None,
) -> None:
    """Writes compare.json, whole or not at all."""
    text = json.dumps(
        comparison(records, data, command, found), indent=1, allow_nan=False, ensure_ascii=False
    )
    write_text(path, text + "\n")
