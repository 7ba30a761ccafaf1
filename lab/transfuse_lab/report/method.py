"""How everything was measured: facts, settings, and the command that does it again."""

import json
from collections.abc import Mapping
from typing import Any

from transfuse_lab.report.figures import figures_of, number
from transfuse_lab.report.html import Html, join, tag
from transfuse_lab.report.sections import Entries, section

CODEC_SECONDS = "codec_seconds"
VERSIONS = "versions"


def method(entries: Entries, data: Mapping[str, Any], command: str) -> Html:
    """How everything was measured, and the command that does it again."""
    runs = [run for group in entries.values() for run in group]
    seeds = [f"{entry}: {', '.join(str(run.seed) for run in group)}" for entry, group in entries.items()]
    lines = [
        join(tag("b", "Data. "), "; ".join(f"{key}: {_plain(value)}" for key, value in data.items()), "."),
        join(
            tag("b", "Seeds. "),
            "; ".join(seeds),
            ". Runs of one seed read the same documents in the same order. Intervals cover the spread over "
            "seeds, not the choice of held-out images.",
        ),
        join(
            tag("b", "FLOPs. "),
            "3 × 2 × the parameters used at each position, plus attention by the pairs the mask allows. ",
            "Training of the codecs is not counted",
            _codec_times(entries),
            ".",
        ),
    ]
    lines += [
        join(tag("b", f"{one.title}. "), one.meaning, ".") for one in figures_of(runs).values() if one.meaning
    ]
    versions = {key: value for run in runs for key, value in (run.facts.get(VERSIONS) or {}).items()}
    if versions:
        found = ", ".join(f"{key} {value}" for key, value in sorted(versions.items()))
        lines.append(join(tag("b", "Versions. "), found, "."))
    again = tag("pre", tag("code", command)) if command else None
    facts = {f"{run.entry} · seed {run.seed}": flat({**run.facts}) for run in runs}
    return section(
        "How it was measured",
        tag("ul", *[tag("li", line) for line in lines]),
        tag("p", "The command that does it again:") if command else None,
        again,
        _matrix("Facts of each run", facts) if any(facts.values()) else None,
    )


def _codec_times(entries: Entries) -> str:
    """``; it took 12 s (transfusion), 9 s (chameleon)``, where the runs say so."""
    times_by_entry = []
    for entry, runs in entries.items():
        times = [sum(flat(run.facts[CODEC_SECONDS]).values()) for run in runs if CODEC_SECONDS in run.facts]
        if times:
            times_by_entry.append(f"{number(sum(times) / len(times))} s ({entry})")
    return f"; a run's took {', '.join(times_by_entry)}" if times_by_entry else ""


def settings(entries: Entries) -> Html:
    """Every setting of every entry; those that differ come first and are marked."""
    by_entry = {entry: flat(runs[0].settings) for entry, runs in entries.items()}
    if not any(by_entry.values()):
        return Html("")
    return section("Settings", _matrix("Every setting; marked: where they differ", by_entry, is_open=True))


def _matrix(head: str, columns: Mapping[str, Mapping[str, Any]], is_open: bool = False) -> Html:
    """Dotted keys as rows, one column each; rows that differ are marked and come first."""
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    rows = []
    for key in keys:
        values = [_plain(column[key]) if key in column else "–" for column in columns.values()]
        unlike = len(set(values)) > 1
        cells = [tag("th", key, scope="row"), *[tag("td", value) for value in values]]
        rows.append((not unlike, tag("tr", *cells, class_="unlike" if unlike else None)))
    rows.sort(key=lambda row: row[0])
    heads = tag("tr", tag("th", ""), *[tag("th", name) for name in columns])
    whole = tag("table", tag("thead", heads), tag("tbody", *[row for _, row in rows]), class_="small")
    return tag(
        "details", tag("summary", head), tag("div", whole, class_="scroll"), open=True if is_open else None
    )


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys; a list is one value.

    >>> flat({"model": {"dim": 128}, "loss": {}})
    {'model.dim': 128, 'loss': {}}
    """
    if isinstance(value, Mapping) and value:
        inner = [flat(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items()]
        return {key: item for part in inner for key, item in part.items()}
    return {prefix: value} if prefix or not isinstance(value, Mapping) else {}


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
