"""What a plan's runs say, at the top of its page: whether the instrument can be trusted, verdicts, and scaling."""

from collections.abc import Mapping
from typing import Any

from transfuse.metrics import Figure

from transfuse_lab.report.figures import number, show_difference
from transfuse_lab.report.html import Html, join, tag
from transfuse_lab.report.points import Difference, Points, Spell, difference_chart, point_chart
from transfuse_lab.report.sections import section, swatch

WORDS = {"seen": "seen", "contrary": "contrary", "not seen": "not seen", "undecided": "undecided"}
MEANING = (
    "Seen: beyond zero, to the side that was stated. Contrary: beyond zero, to the other. Not seen: within the margin, "
    "which was stated before. Undecided: neither, so nothing is said."
)


def plan_findings(found: Mapping[str, Any]) -> Html:
    """All of it, from a plan's findings."""
    return join(_plan(found), _hypotheses(found), _scaling(found), _checks(found))


def _plan(found: Mapping[str, Any]) -> Html:
    plan, runs, tuned = found["plan"], found["runs"], found["tuned"]
    lines = [
        f"Plan {plan['file']}, written before the runs; SHA-256 {plan['sha256']}.",
        f"{runs['there']} of {runs['planned']} runs have ended, {runs['core_hours']:.2f} core-hours in all.",
    ]
    if runs["diverged"]:
        lines.append(f"Diverged, and not run again: {', '.join(runs['diverged'])}.")
    if tuned["file"]:
        edge = ", ".join(tuned["at an edge"]) or "none"
        lines.append(f"Tuned settings: {tuned['file']}; optima at an edge of what was tried: {edge}.")
    return section("The plan", tag("ul", *[tag("li", line) for line in lines]))


def _hypotheses(found: Mapping[str, Any]) -> Html:
    stated = found["hypotheses"]
    if not stated:
        return Html("")
    rows = [
        Difference(
            name, one["finding"]["mean"], one["finding"]["low"], one["finding"]["high"], one["margin"],
            one["finding"]["verdict"], tuple(one["differences"].values()),
        )
        for name, one in stated.items()
        if one.get("finding")
    ]  # fmt: skip
    chart = (
        tag(
            "figure",
            tag("figcaption", "Differences in units of their margins; small dots: single seeds"),
            difference_chart(rows, "differences with 95 % intervals beside their margins"),
            class_="differences",
        )
        if rows
        else None
    )
    heads = ["", "what is compared", "verdict", "difference", "p", "margin", "detectable"]
    head = tag("thead", tag("tr", *[tag("th", one) for one in heads]))
    body = tag("tbody", *[_row(name, one) for name, one in stated.items()])
    note = (
        "First arm less second, so that better is positive, paired by seed, with its 95 % t interval. Detectable: the "
        "true difference that so many seeds find in four cases of five. p of the primary hypotheses is corrected for "
        "all of them (Holm). "
    )
    return section(
        "Verdicts",
        tag("p", note + MEANING, class_="quiet"),
        chart,
        tag("div", tag("table", head, body), class_="scroll"),
    )


def _row(name: str, one: Mapping[str, Any]) -> Html:
    arms = list(one["arms"])
    if one["groups"]:
        arms = [f"{arm} ({group})" for arm, group in zip(arms, one["groups"], strict=True)]
    kind = "primary" if one["primary"] else "secondary"
    what = join(one["title"], tag("span", f"{' − '.join(arms)}, {one['size']}", class_="interval"))
    head = tag("th", name, tag("span", kind, class_="interval"), scope="row")
    finding = one.get("finding")
    if not finding:
        missing = tag("td", tag("span", one["why"], class_="quiet"), colspan=5)
        return tag("tr", head, tag("td", what), missing)
    interval = f"{spell(one, finding['low'])} to {spell(one, finding['high'])}"
    seeds = f"{finding['seeds']} seeds"
    return tag(
        "tr", head, tag("td", what), tag("td", tag("b", WORDS[finding["verdict"]])),
        tag("td", tag("b", spell(one, finding["mean"])), tag("span", interval, class_="interval")),
        tag("td", f"{finding['holm']:.2g}"), tag("td", spell(one, one["margin"]).lstrip("+")),
        tag("td", spell(one, finding["detectable"]).lstrip("+"), tag("span", seeds, class_="interval")),
    )  # fmt: skip


def spell(one: Mapping[str, Any], value: float) -> str:
    """A difference of a hypothesis' figure: points, per cent of the second arm's mean, or the figure's unit."""
    if one["relative"]:
        return f"{100 * value:+.2f}\u00a0%".replace("-", "−")
    text = show_difference(_figure(one), value)
    return f"{text} {one['unit']}" if one["unit"] else text


def _figure(one: Mapping[str, Any]) -> Figure:
    return Figure(one["figure"], one["title"], one["unit"], "", one["form"])


def _scaling(found: Mapping[str, Any]) -> Html:
    cards = [_scaling_card(one) for one in found["scaling"].values() if not one["why"]]
    if not cards:
        return Html("")
    note = (
        "Each dot is a run at the end of its cool-down, each line joins the means over seeds. Parity: how many times "
        "its compute the first arm can do without and still match the second at its largest."
    )
    return section("Against compute", tag("p", note, class_="quiet"), tag("div", *cards, class_="cards"))


def _scaling_card(one: Mapping[str, Any]) -> Html:
    figure = _figure(one)
    lines = [
        Points(
            arm,
            colour,
            tuple(point["cost"]["total"] for point in told["points"]),
            tuple(tuple(point["values"].values()) for point in told["points"]),
        )
        for colour, (arm, told) in enumerate(one["arms"].items())
    ]
    title = f"{one['title']}{' (' + one['unit'] + ')' if one['unit'] else ''}"
    chart = point_chart(lines, "training FLOPs", title, f"{title} against training FLOPs", _marks(figure))
    names = tag("p", *[swatch(line.name, line.colour) for line in lines], class_="legend")
    first, second = list(one["arms"])
    facts = [_slope(arm, told) for arm, told in one["arms"].items() if told.get("slope")]
    facts += [
        f"parity of {first} against {second} by {lens}: {parity(r)}" for lens, r in one["parity"].items()
    ]
    return tag(
        "figure", tag("figcaption", title, names), chart, tag("ul", *[tag("li", fact) for fact in facts])
    )


def _marks(figure: Figure) -> Spell:
    """How an axis spells the figure: without a part of a per cent."""
    return (lambda value: f"{100 * value:.3g} %".replace("-", "−")) if figure.form == "percent" else number


def _slope(arm: str, told: Mapping[str, Any]) -> str:
    slope = told["slope"]
    between = "" if slope["low"] is None else f" ({number(slope['low'])} to {number(slope['high'])})"
    return f"{arm}: {number(slope['mean'])}{between} for e times the compute".replace("-", "−")


def parity(ratio: Mapping[str, Any]) -> str:
    """``1.3 times (0.9 to 1.7)``, or its bound where the one arm never, or always, reaches the other."""
    if "why" in ratio:
        return ratio["why"]
    bound = {"": "", "never": "under ", "always": "over "}[ratio["censored"]]
    return f"{bound}{ratio['ratio']:.3g} times ({ratio['low']:.3g} to {ratio['high']:.3g})"


def _checks(found: Mapping[str, Any]) -> Html:
    checks = found["checks"]
    if not checks:
        return Html("")
    failed = [name for name, one in checks.items() if not one["holds"]]
    word = f"No-go: {', '.join(failed)}." if failed else "Go: every check holds."
    heads = tag("thead", tag("tr", *[tag("th", one) for one in ("", "values", "bounds", "holds")]))
    rows = [
        tag(
            "tr",
            tag(
                "th", name, tag("span", f"{one['statistic']} {one['figure']}", class_="interval"), scope="row"
            ),
            tag("td", values(one) or one["why"]),
            tag("td", bounds(one)),
            tag("td", {True: "yes", False: tag("b", "no"), None: tag("b", "not known")}[one["holds"]]),
        )
        for name, one in checks.items()
    ]
    whole = tag("table", heads, tag("tbody", *rows), class_="small")
    return section(
        "Can the instrument be trusted?", tag("p", tag("b", word)), tag("div", whole, class_="scroll")
    )


def values(one: Mapping[str, Any]) -> str:
    """``transfusion 0.41, chameleon 0.38``."""
    return ", ".join(f"{name} {value:.4g}" for name, value in one["values"].items())


def bounds(one: Mapping[str, Any]) -> str:
    """``≥ 0.2, ≤ 0.9``."""
    ends = (("≥", one["at_least"]), ("≤", one["at_most"]))
    return ", ".join(f"{sign} {end:g}" for sign, end in ends if end is not None) or "told only"
