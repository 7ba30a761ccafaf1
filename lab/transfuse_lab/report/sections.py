"""The top of the report: what was found, the table of figures, and the learning curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from transfuse.metrics import Figure

from transfuse_lab.evaluation.statistics import FEWEST, Summary, differences, summaries
from transfuse_lab.report.chart import Series, line_chart, strip
from transfuse_lab.report.figures import ARROWS, figures_of, show, show_difference
from transfuse_lab.report.html import Html, join, tag
from transfuse_lab.runs.records import RunRecord

Entries = Mapping[str, Sequence[RunRecord]]

LOSS_UNITS = "loss_units"


def opening(name: str, findings: Sequence[str], entries: Entries) -> Html:
    """The title, what was found, and which colour is whom."""
    return tag("header", tag("h1", name), *[tag("p", line) for line in findings], legend(entries))


def legend(entries: Entries) -> Html:
    """Each entry beside its colour."""
    names = [swatch(entry, number_) for number_, entry in enumerate(entries)]
    return tag("p", *names, class_="legend")


def swatch(entry: str, colour: int) -> Html:
    """An entry's name beside its colour; a long name may break at its semicolons."""
    first, *axes = entry.split(";")
    name = [first, *[join(";", tag("wbr"), axis) for axis in axes]]
    return tag("span", tag("i", class_=f"c{colour % 6}"), name, class_="swatch")


def table(entries: Entries) -> Html:
    """A metric a row, an entry a column; with two entries, their paired difference. Details are folded."""
    known = figures_of([run for runs in entries.values() for run in runs])
    main = [one for one in known.values() if not one.detail]
    detail = [one for one in known.values() if one.detail]
    intervals = all(len(runs) >= FEWEST for runs in entries.values())
    note = (
        "Mean over seeds, with its 95 % t interval; differences are paired by seed."
        if intervals
        else "The value of each seed; with fewer than three seeds there is no interval."
    )
    folded = tag(
        "details", tag("summary", "Losses by task and noise, time and memory"), _rows(entries, detail)
    )
    return section(
        "Figures",
        tag("p", note + " ↑ higher is better, ↓ lower is better.", class_="quiet"),
        _rows(entries, main),
        folded if detail else None,
        _not_measured(entries),
    )


def _rows(entries: Entries, figures: Sequence[Figure]) -> Html:
    found = {entry: summaries(runs) for entry, runs in entries.items()}
    first, *others = entries
    pair = differences(entries[first], entries[others[0]]) if len(others) == 1 else {}
    heads = ["", *[swatch(entry, place) for place, entry in enumerate(entries)], "each seed"]
    heads += [f"{others[0]} − {first}"] if pair else []
    rows = []
    for one in figures:
        cells = [_row_head(one)]
        cells += [tag("td", _value(one, known.get(one.name))) for known in found.values()]
        values = [known[one.name].values if one.name in known else () for known in found.values()]
        cells.append(tag("td", strip(values, f"{one.title} of each seed"), class_="seeds"))
        if pair:
            cells.append(tag("td", _difference(one, pair.get(one.name))))
        rows.append(tag("tr", *cells))
    head = tag("thead", tag("tr", *[tag("th", head) for head in heads]))
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll")


def _not_measured(entries: Entries) -> Html | None:
    """What there is no figure of, and why; the same reason of several seeds once."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for entry, runs in entries.items():
        for run in runs:
            for name, reason in run.faults.items():
                reasons.setdefault((entry, name, reason), []).append(str(run.seed))
    lines = [
        tag("li", tag("b", name), f" of {entry}, seed {', '.join(seeds)}: {reason}")
        for (entry, name, reason), seeds in reasons.items()
    ]
    return join(tag("h3", "Not measured"), tag("ul", *lines)) if lines else None


def _row_head(one: Figure) -> Html:
    unit = tag("span", f" {one.unit}", class_="quiet") if one.unit else None
    arrow = tag("span", f" {ARROWS[one.better]}", title=f"{one.better} is better") if one.better else None
    return tag("th", one.title, arrow, unit, scope="row", title=one.meaning or None)


def _value(one: Figure, summary: Summary | None) -> Html:
    """Mean and interval; the single values where there is none."""
    if summary is None:
        return tag("span", "not measured", class_="quiet")
    if summary.low is None or summary.high is None:
        return join(tag("b", " · ".join(show(one, value) for value in summary.values)))
    interval = f"{show(one, summary.low)} to {show(one, summary.high)}"
    return join(tag("b", show(one, summary.mean)), tag("span", interval, class_="interval"))


def _difference(one: Figure, summary: Summary | None) -> Html | None:
    if summary is None or summary.mean is None:
        return tag("span", "–", class_="quiet")
    mean = show_difference(one, summary.mean)
    if summary.low is None or summary.high is None:
        return tag("span", mean, class_="quiet")
    if set(summary.values) == {0.0}:
        return tag("span", "the same", class_="quiet")
    interval = f"{show_difference(one, summary.low)} to {show_difference(one, summary.high)}"
    undecided = " (zero included)" if summary.verdict == "undecided" else ""
    return join(tag("b", mean), tag("span", interval + undecided, class_="interval"))


def curves(entries: Entries) -> Html:
    """Loss against FLOPs, a chart a modality; losses of unlike units are never drawn in one."""
    roles = list(
        dict.fromkeys(
            role for runs in entries.values() for run in runs for point in run.curve for role in point.losses
        )
    )
    charts = []
    for role in roles:
        units: dict[str, list[Series]] = {}
        for colour, (entry, runs) in enumerate(entries.items()):
            seeds = tuple(_curve(run, role) for run in runs)
            seeds = tuple(seed for seed in seeds if seed[0])
            if seeds:
                unit = str((runs[0].facts.get(LOSS_UNITS) or {}).get(role, ""))
                units.setdefault(unit, []).append(Series(entry, colour, seeds))
        for unit, series in units.items():
            what = f"{role} loss" + (f" ({unit})" if unit else "")
            names = tag("p", *[swatch(one.name, one.colour) for one in series], class_="legend")
            description = f"{what} of {', '.join(one.name for one in series)} against training FLOPs"
            chart = line_chart(series, "training FLOPs", what, description)
            charts.append(tag("figure", tag("figcaption", what, names), chart))
    if not charts:
        return Html("")
    note = (
        "Training loss against the FLOPs spent; the line is the mean over seeds, the band reaches from the "
        "lowest seed to the highest. Losses of different kinds are drawn apart: their heights do not compare."
    )
    return section("Learning curves", tag("p", note, class_="quiet"), tag("div", *charts, class_="cards"))


def _curve(run: RunRecord, role: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    points = [(point.flops, point.losses[role]) for point in run.curve if role in point.losses]
    return tuple(x for x, _ in points), tuple(y for _, y in points)


def section(head: str, *children: Any) -> Html:
    """A part of the page under its heading."""
    return tag("section", tag("h2", head), *children)
