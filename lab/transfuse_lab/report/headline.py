"""What the numbers say, in sentences that claim no more than the seeds allow."""

from collections.abc import Mapping, Sequence

from transfuse.metrics import Figure

from transfuse_lab.evaluation.statistics import FEWEST, Summary, differences, summaries
from transfuse_lab.report.figures import figures_of, show, show_difference
from transfuse_lab.runs.records import RunRecord

CEILING = 0.02  # nearer than this to the classifier's own accuracy, generation accuracy ranks nobody
MOST_NAMED = 3  # entries named one by one
TUNING = (
    "Recipes as shipped were not tuned equally, and this page does not know whether these were: a difference "
    "may be one of tuning, not of method. To check, give each the same search, for example "
    "--axis train.lr=1.5e-3,3e-3,6e-3,1.2e-2, then its sampler, guidance and temperature. Objectives do "
    "not share a best sampler: one that all have may decide between them, and a plan tunes it by arm (drawn)."
)


def title(entries: Sequence[str], data_name: str) -> str:
    """``transfusion against chameleon on digits``."""
    if len(entries) > MOST_NAMED:
        return f"{len(entries)} recipes on {data_name}"
    return f"{' against '.join(entries)} on {data_name}"


def not_yet(awaited: Sequence[str], records: Sequence[RunRecord]) -> list[str]:
    """Of a page that is written before all runs have ended, which of them it does not have."""
    if not awaited:
        return []
    several, named = len(awaited) > 1, ", ".join(awaited)
    return [
        f"{len(awaited)} of {len(awaited) + len(records)} runs {'have' if several else 'has'} not ended, and "
        f"{'are' if several else 'is'} not on this page yet: {named}."
    ]


def sentences(entries: Mapping[str, Sequence[RunRecord]]) -> list[str]:
    """Of two entries or more, what a difference may come from; then one sentence a headline metric, and limits.

    With two entries or more, each sentence says whether the paired 95 % interval of the difference to
    the first entry excludes zero, or that there are too few seeds to tell.
    """
    found = {entry: summaries(runs) for entry, runs in entries.items()}
    known = figures_of([run for runs in entries.values() for run in runs])
    findings = [line for one in known.values() if one.headline and (line := _finding(one, entries, found))]
    return [*([TUNING] if len(entries) > 1 else []), *findings, *_limits(known, entries, found)]


def _finding(
    one: Figure, entries: Mapping[str, Sequence[RunRecord]], found: Mapping[str, Mapping[str, Summary]]
) -> str:
    means = {entry: figures[one.name].mean for entry, figures in found.items() if one.name in figures}
    if not means:
        return ""
    head = f"{one.headline[0].upper()}{one.headline[1:]}"
    if len(means) <= MOST_NAMED:
        shown = ", ".join(f"{entry} {show(one, mean)}" for entry, mean in means.items())
        return f"{head}: {shown}.{_verdict(one, entries)}"
    known = sorted((mean, entry) for entry, mean in means.items() if mean is not None)
    if not known:
        return f"{head}: no recipe has a figure."
    (low, lowest), (high, highest) = known[0], known[-1]
    return f"{head}: from {show(one, low)} ({lowest}) to {show(one, high)} ({highest})."


def _verdict(one: Figure, entries: Mapping[str, Sequence[RunRecord]]) -> str:
    """Whether two entries differ; nothing for one, or for more than three (the table says it)."""
    (reference, runs), *others = entries.items()
    if not others or len(entries) > MOST_NAMED:
        return ""
    words = []
    for entry, other in others:
        difference = differences(runs, other).get(one.name)
        if difference is None or difference.mean is None:
            words.append(f" {entry} and {reference} cannot be compared: no shared seed with a figure.")
        elif difference.low is None or difference.high is None:
            continue  # said once, of all metrics, by `_limits`
        else:
            zero = "includes zero: undecided" if difference.verdict == "undecided" else "excludes zero"
            ends = (difference.mean, difference.low, difference.high)
            mean, low, high = (show_difference(one, end) for end in ends)
            words.append(f" Difference, {entry} minus {reference}: {mean}; ")
            words.append(f"its 95\u00a0% interval, {low} to {high}, {zero}.")
    return "".join(words)


def _limits(
    known: Mapping[str, Figure],
    entries: Mapping[str, Sequence[RunRecord]],
    found: Mapping[str, Mapping[str, Summary]],
) -> list[str]:
    limits = []
    fewest = min(len(runs) for runs in entries.values())
    if fewest < FEWEST:
        seeds = "one seed" if fewest == 1 else f"{fewest} seeds"
        limits.append(
            f"With {seeds} there are no intervals: the values are shown one by one, and differences are "
            "hints, not findings."
        )
    for entry, figures in found.items():
        bad = [known[name].title for name, summary in figures.items() if None in summary.values]
        if bad:
            limits.append(
                f"{entry} has no figure for some seed (diverged, or not measured): {', '.join(bad)}."
            )
    ceiling = [
        (figures["generation_accuracy"].mean, figures["classifier_accuracy"].mean)
        for figures in found.values()
        if {"generation_accuracy", "classifier_accuracy"} <= figures.keys()
    ]
    if ceiling and all(a is not None and b is not None and a >= b - CEILING for a, b in ceiling):
        limits.append("Generation accuracy is as high as the classifier can see, so it can rank nobody here.")
    return limits
