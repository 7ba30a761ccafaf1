"""A plan's results as a page in Markdown, from its findings alone: written by code, so that no figure is copied."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transfuse.metrics import Figure

from transfuse_lab.report.figures import number, show
from transfuse_lab.report.plan_findings import bounds, parity, spell, values

VERDICTS = {
    "seen": "beyond zero, to the stated side",
    "contrary": "beyond zero, to the other side",
    "not seen": "within the margin",
    "undecided": "neither beyond zero nor within the margin",
}


def results_page(found: Mapping[str, Any], command: str) -> str:
    """The page."""
    return (
        "\n".join(
            [*_head(found, command), *_checks(found), *_hypotheses(found), *_scaling(found), *_limits(found)]
        )
        + "\n"
    )


def _head(found: Mapping[str, Any], command: str) -> Iterator[str]:
    plan, runs = found["plan"], found["runs"]
    yield f"# {plan['title']}"
    yield ""
    yield f"Written by `{command}` from the records of its runs; not by hand."
    yield ""
    yield (
        f"Plan: [{plan['file']}]({plan['file']}), SHA-256 `{plan['sha256']}`. {runs['there']} of {runs['planned']} "
        f"runs have ended, {runs['core_hours']:.2f} core-hours in all."
    )
    if runs["diverged"]:
        yield f"Diverged, and not run again: {', '.join(runs['diverged'])}."
    tuned = found["tuned"]
    if tuned["file"]:
        edge = ", ".join(tuned["at an edge"]) or "none"
        yield f"Settings: [{tuned['file']}]({tuned['file']}); optima at an edge of what was tried: {edge}."
    yield ""


def _checks(found: Mapping[str, Any]) -> Iterator[str]:
    checks = found["checks"]
    if not checks:
        return
    go = all(one["holds"] for one in checks.values())
    yield "## Go or no-go"
    yield ""
    failed = [name for name, one in checks.items() if not one["holds"]]
    yield "**Go:** every check holds." if go else f"**No-go:** {', '.join(failed)}."
    yield ""
    yield from table(
        ["check", "of", "values", "bounds", "holds"],
        (
            [
                name,
                f"{one['statistic']} {one['figure']}".strip(),
                values(one) or one["why"],
                bounds(one),
                _word(one),
            ]
            for name, one in checks.items()
        ),
    )


def _word(one: Mapping[str, Any]) -> str:
    return {True: "yes", False: "**no**", None: "**not known**"}[one["holds"]]


def _hypotheses(found: Mapping[str, Any]) -> Iterator[str]:
    stated = found["hypotheses"]
    if not stated:
        return
    yield "## Hypotheses"
    yield ""
    yield (
        "The difference is the first arm's figure less the second's, so that better is positive, over seeds that "
        "both have; with its 95 % t interval. Detectable: the true difference that so many seeds find in four cases "
        "of five; p of the primary ones is corrected for all of them (Holm)."
    )
    yield ""
    yield from table(
        ["", "figure", "arms", "seeds", "difference", "p", "margin", "detectable", "verdict"],
        (_row(name, one) for name, one in stated.items()),
    )


def _row(name: str, one: Mapping[str, Any]) -> list[str]:
    arms = " − ".join(one["arms"])
    if one["groups"]:
        arms = " − ".join(f"{arm} ({group})" for arm, group in zip(one["arms"], one["groups"], strict=True))
    head = [f"{name}{' (primary)' if one['primary'] else ''}", one["title"], f"{arms}, {one['size']}"]
    finding = one.get("finding")
    if finding is None:
        return [
            *head,
            str(len(one["differences"])),
            one["why"],
            "",
            spell(one, one["margin"]).lstrip("+"),
            "",
            "none yet",
        ]
    interval = f"{spell(one, finding['mean'])} [{spell(one, finding['low'])}, {spell(one, finding['high'])}]"
    return [
        *head, str(finding["seeds"]), interval, f"{finding['holm']:.3g}", spell(one, one["margin"]).lstrip("+"),
        spell(one, finding["detectable"]).lstrip("+"), f"**{finding['verdict']}**: {VERDICTS[finding['verdict']]}",
    ]  # fmt: skip


def _scaling(found: Mapping[str, Any]) -> Iterator[str]:
    for name, one in found["scaling"].items():
        yield f"## {one['title']} against compute ({name})"
        yield ""
        if one["why"]:
            yield f"Nothing yet: {one['why']}"
            yield ""
            continue
        figure = Figure(one["figure"], one["title"], one["unit"], one["better"], one["form"])
        yield from table(
            ["arm", "size", "share of the budget", "FLOPs", "documents", "mean over seeds"],
            (
                [
                    arm, point["size"], f"{point['share']:g}", number(point["cost"]["total"]),
                    number(point["cost"]["documents"], whole=True), show(figure, _mean(point)),
                ]
                for arm, told in one["arms"].items()
                for point in told["points"]
            ),
        )  # fmt: skip
        for arm, told in one["arms"].items():
            yield from _law(arm, told)
        yield ""
        one_arm, other = list(one["arms"])
        yield from table(
            [
                f"compute that {one_arm} needs less than {other}",
                "with its 95 % interval",
                "resamples beyond the range",
            ],
            (_parity(lens, ratio) for lens, ratio in one["parity"].items()),
        )


def _mean(point: Mapping[str, Any]) -> float:
    values = list(point["values"].values())
    return sum(values) / len(values)


def _law(arm: str, told: Mapping[str, Any]) -> Iterator[str]:
    if slope := told.get("slope"):
        interval = "" if slope["low"] is None else f" [{slope['low']:.3g}, {slope['high']:.3g}]"
        yield f"- {arm}: {slope['mean']:.3g}{interval} an e-fold of compute."
    if law := told.get("power_law"):
        worst = max(abs(r) for r in law["residuals"])
        yield f"- {arm}: {law['scale']:.3g} · FLOPs^−{law['exponent']:.3g}, residuals up to {100 * worst:.1f} %."


def _parity(lens: str, ratio: Mapping[str, Any]) -> list[str]:
    if "why" in ratio:
        return [lens, ratio["why"], ""]
    return [
        lens, parity(ratio), f"{ratio['never']:.0%} never reach it, {ratio['always']:.0%} are always beyond it",
    ]  # fmt: skip


def _limits(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## What cannot be concluded"
    yield ""
    undecided = [
        name
        for name, one in found["hypotheses"].items()
        if (one.get("finding") or {}).get("verdict", "undecided") == "undecided"
    ]
    if undecided:
        yield f"- Nothing about {', '.join(undecided)}: an undecided difference is neither there nor absent."
    if found["runs"]["there"] < found["runs"]["planned"]:
        yield "- Runs are missing: what stands here is of those that ended, and may change."
    yield "- Intervals cover the spread over seeds, which are few, on one data set, one kind of codec and these sizes."
    yield "- A difference may be one of tuning where optima lie at an edge, or of settings that were not searched."


def table(heads: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown, and an empty line."""
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
    yield ""
