"""The report's sections, in the order a reader meets them: each a pure function from runs to HTML."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from transfuse_lab.comparison_json import differences, metric_names, summaries
from transfuse_lab.records import RunRecord
from transfuse_lab.report.chart import Series, line_chart, strip
from transfuse_lab.report.figures import Figure, figure, number, ordered
from transfuse_lab.report.html import Html, join, tag
from transfuse_lab.report.mask_picture import MaskPicture, draw
from transfuse_lab.statistics import FEWEST, Summary

Entries = Mapping[str, Sequence[RunRecord]]

MOST_PROMPTS, MOST_A_PROMPT, MOST_CAPTIONS = 12, 8, 40
CODEC_SECONDS = "codec_seconds"
VERSIONS = "versions"
LOSS_UNITS = "loss_units"


def opening(name: str, findings: Sequence[str], entries: Entries) -> Html:
    """The title, what was found, and which colour is whom."""
    return tag("header", tag("h1", name), *[tag("p", line) for line in findings], legend(entries))


def legend(entries: Entries) -> Html:
    """Each entry beside its colour."""
    names = [swatch(entry, number_) for number_, entry in enumerate(entries)]
    return tag("p", *names, class_="legend")


def swatch(entry: str, colour: int) -> Html:
    return tag("span", tag("i", class_=f"c{colour % 6}"), entry, class_="swatch")


def table(entries: Entries) -> Html:
    """A metric a row, an entry a column; with two entries, their paired difference."""
    found = {entry: summaries(runs) for entry, runs in entries.items()}
    names = ordered(metric_names([run for runs in entries.values() for run in runs]))
    first, *others = entries
    pair = differences(entries[first], entries[others[0]]) if len(others) == 1 else {}
    heads = ["", *[swatch(entry, place) for place, entry in enumerate(entries)], "each seed"]
    heads += [f"{others[0]} − {first}"] if pair else []
    rows = []
    for name in names:
        one = figure(name)
        cells = [_row_head(one)]
        cells += [tag("td", _value(one, figures.get(name))) for figures in found.values()]
        groups = [
            (n, figures[name].values if name in figures else ()) for n, figures in enumerate(found.values())
        ]
        cells.append(tag("td", strip(groups, f"{one.title} of each seed"), class_="seeds"))
        if pair:
            cells.append(tag("td", _difference(one, pair.get(name))))
        rows.append(tag("tr", *cells))
    intervals = all(len(runs) >= FEWEST for runs in entries.values())
    note = (
        "Mean over seeds, with its 95 % t interval; differences are paired by seed."
        if intervals
        else "The value of each seed; with fewer than three seeds there is no interval."
    )
    return _section(
        "Figures",
        tag("p", note + " ↑ higher is better, ↓ lower is better.", class_="quiet"),
        tag(
            "div",
            tag("table", tag("thead", tag("tr", *[tag("th", head) for head in heads])), tag("tbody", *rows)),
            class_="scroll",
        ),
    )


def _row_head(one: Figure) -> Html:
    unit = tag("span", f" {one.unit}", class_="quiet") if one.unit else None
    arrow = tag("span", f" {one.arrow}", title=f"{one.better} is better") if one.arrow else None
    return tag("th", one.title, arrow, unit, scope="row", title=one.meaning or None)


def _value(one: Figure, summary: Summary | None) -> Html:
    """Mean and interval; the single values where there is none."""
    if summary is None:
        return tag("span", "not measured", class_="quiet")
    if summary.low is None or summary.high is None:
        return join(tag("b", " · ".join(one.show(value) for value in summary.values)))
    interval = f"{one.show(summary.low)} to {one.show(summary.high)}"
    return join(tag("b", one.show(summary.mean)), tag("span", interval, class_="interval"))


def _difference(one: Figure, summary: Summary | None) -> Html | None:
    if summary is None or summary.mean is None:
        return tag("span", "–", class_="quiet")
    mean = one.show_difference(summary.mean)
    if summary.low is None or summary.high is None:
        return tag("span", mean, class_="quiet")
    interval = f"{one.show_difference(summary.low)} to {one.show_difference(summary.high)}"
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
    return _section("Learning curves", tag("p", note, class_="quiet"), tag("div", *charts, class_="cards"))


def _curve(run: RunRecord, role: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    points = [(point.flops, point.losses[role]) for point in run.curve if role in point.losses]
    return tuple(x for x, _ in points), tuple(y for _, y in points)


def samples(entries: Entries) -> Html:
    """What each entry draws for each prompt, beside real held-out images of the same caption."""
    prompts = list(dict.fromkeys(s.prompt for runs in entries.values() for run in runs for s in run.samples))[
        :MOST_PROMPTS
    ]
    if not prompts:
        return Html("")
    real: dict[str, dict[str, None]] = {}
    for runs in entries.values():
        for one in runs[0].captions:
            real.setdefault(one.truth, {})[one.image] = None
    cards = []
    if any(prompt in real for prompt in prompts):
        rows = [
            (prompt, [_image(image, prompt) for image in list(real.get(prompt, {}))[:MOST_A_PROMPT]])
            for prompt in prompts
        ]
        cards.append(_grid(tag("span", "real, held out", class_="swatch"), rows))
    for colour, (entry, runs) in enumerate(entries.items()):
        cards.append(_grid(swatch(entry, colour), _sample_rows(runs[0], prompts), f"seed {runs[0].seed}"))
    more = [
        _grid(swatch(entry, colour), _sample_rows(run, prompts), f"seed {run.seed}")
        for colour, (entry, runs) in enumerate(entries.items())
        for run in runs[1:]
        if run.samples
    ]
    note = (
        "The first images each run drew, none chosen by hand. A marked image is one in which the classifier "
        "reads another caption."
    )
    rest = (
        tag("details", tag("summary", "The other seeds"), tag("div", *more, class_="cards")) if more else None
    )
    return _section("Samples", tag("p", note, class_="quiet"), tag("div", *cards, class_="cards"), rest)


def _sample_rows(run: RunRecord, prompts: Sequence[str]) -> list[tuple[str, list[Html]]]:
    drawn: dict[str, list[Html]] = {prompt: [] for prompt in prompts}
    for one in run.samples:
        if one.prompt in drawn and len(drawn[one.prompt]) < MOST_A_PROMPT:
            drawn[one.prompt].append(_image(one.image, one.prompt, one.seen))
    return list(drawn.items())


def _grid(head: Html, rows: Sequence[tuple[str, Sequence[Html]]], note: str = "") -> Html:
    lines = [
        tag("div", tag("span", prompt, class_="prompt"), tag("span", *images, class_="images"), class_="row")
        for prompt, images in rows
    ]
    caption = tag("figcaption", head, tag("span", f" {note}", class_="quiet") if note else None)
    return tag("figure", caption, *lines, class_="grid")


def _image(image: str, prompt: str, seen: str | None = None) -> Html:
    wrong = seen is not None and seen != prompt
    said = f"{prompt}, read as {seen}" if wrong else prompt
    return tag(
        "img", src=f"data:image/png;base64,{image}", alt=said, title=said, class_="wrong" if wrong else None
    )


def captions(entries: Entries) -> Html:
    """Held-out images with the caption each entry gives them, right or wrong."""
    cards = []
    for colour, (entry, runs) in enumerate(entries.items()):
        shown = runs[0].captions[:MOST_CAPTIONS]
        if not shown:
            continue
        right = sum(one.truth == one.predicted for one in runs[0].captions)
        note = f" seed {runs[0].seed}: {right} of {len(runs[0].captions)} right"
        tiles = [
            tag(
                "div",
                _image(one.image, one.truth),
                tag("span", "✓ " if one.truth == one.predicted else "✗ ", one.predicted or "(empty)"),
                None if one.truth == one.predicted else tag("span", f"is {one.truth}", class_="quiet"),
                class_="tile right" if one.truth == one.predicted else "tile mistaken",
            )
            for one in sorted(shown, key=lambda one: one.truth == one.predicted)
        ]
        head = tag("figcaption", swatch(entry, colour), tag("span", note, class_="quiet"))
        cards.append(tag("figure", head, tag("div", *tiles, class_="tiles")))
    if not cards:
        return Html("")
    note = f"The first {MOST_CAPTIONS} held-out images and their greedy captions, mistakes first."
    return _section("Captions", tag("p", note, class_="quiet"), tag("div", *cards, class_="cards"))


def mask_pictures(masks: Sequence[MaskPicture]) -> Html:
    """Who sees whom."""
    if not masks:
        return Html("")
    cards = [
        tag("figure", tag("figcaption", ", ".join(one.entries)), draw(one), tag("code", one.expression))
        for one in masks
    ]
    note = "A row is a position that looks, a column one that is looked at; filled: it is seen."
    return _section("Masks", tag("p", note, class_="quiet"), tag("div", *cards, class_="cards"))


def method(entries: Entries, data: Mapping[str, Any], command: str) -> Html:
    """How everything was measured, and the command that does it again."""
    runs = [run for group in entries.values() for run in group]
    lines = [
        join(tag("b", "Data. "), "; ".join(f"{key}: {_plain(value)}" for key, value in data.items()), "."),
        join(
            tag("b", "Seeds. "),
            "; ".join(
                f"{name}: {', '.join(str(run.seed) for run in group)}" for name, group in entries.items()
            ),
            ". Runs of one seed read the same documents in the same order.",
        ),
        join(
            tag("b", "FLOPs. "),
            "3 × 2 × the parameters used at each position, plus attention by the pairs that the mask allows. ",
            "Training of the codecs is not counted",
            _codec_times(entries),
            ".",
        ),
    ]
    for name in ordered(metric_names(runs)):
        if figure(name).meaning:
            lines.append(join(tag("b", f"{figure(name).title}. "), figure(name).meaning, "."))
    versions = {key: value for run in runs for key, value in (run.facts.get(VERSIONS) or {}).items()}
    if versions:
        said = ", ".join(f"{key} {value}" for key, value in sorted(versions.items()))
        lines.append(join(tag("b", "Versions. "), said, "."))
    again = tag("pre", tag("code", command)) if command else None
    facts = {f"{run.entry} · seed {run.seed}": flat({**run.facts}) for run in runs}
    return _section(
        "How it was measured",
        tag("ul", *[tag("li", line) for line in lines]),
        tag("p", "The command that does it again:") if command else None,
        again,
        _matrix("Facts of each run", facts) if any(facts.values()) else None,
    )


def _codec_times(entries: Entries) -> str:
    """``; it took 12 s (transfusion), 9 s (chameleon)``, where the runs say so."""
    said = []
    for entry, runs in entries.items():
        times = [sum(flat(run.facts[CODEC_SECONDS]).values()) for run in runs if CODEC_SECONDS in run.facts]
        if times:
            said.append(f"{number(sum(times) / len(times))} s ({entry})")
    return f"; a run's took {', '.join(said)}" if said else ""


def settings(entries: Entries) -> Html:
    """Every setting of every entry; those that differ come first and are marked."""
    told = {entry: flat(runs[0].settings) for entry, runs in entries.items()}
    if not any(told.values()):
        return Html("")
    return _section("Settings", _matrix("Every setting; marked: where they differ", told, is_open=True))


def _matrix(head: str, columns: Mapping[str, Mapping[str, Any]], is_open: bool = False) -> Html:
    """Dotted keys as rows, one column each; rows that differ are marked and come first."""
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    rows = []
    for key in keys:
        values = [_plain(column[key]) if key in column else "–" for column in columns.values()]
        unlike = len(set(values)) > 1
        cells = [tag("td", value) for value in values]
        rows.append(
            (not unlike, tag("tr", tag("th", key, scope="row"), *cells, class_="unlike" if unlike else None))
        )
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


def _section(head: str, *children: Any) -> Html:
    return tag("section", tag("h2", head), *children)
