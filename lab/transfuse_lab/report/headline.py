"""What the numbers say, in sentences that claim no more than the seeds allow."""

from collections.abc import Mapping, Sequence

from transfuse_lab.comparison_json import differences, summaries
from transfuse_lab.records import RunRecord
from transfuse_lab.report.figures import figure
from transfuse_lab.statistics import FEWEST, Summary

CEILING = 0.02  # nearer than this to the classifier's own accuracy, generation accuracy ranks nobody
SAID_OF = {
    "generation_accuracy": "prompted images that show what was asked for",
    "caption_accuracy": "held-out images captioned exactly right",
    "frechet_distance": "Fréchet distance to held-out images (lower is better)",
}


def title(entries: Sequence[str], data_name: str) -> str:
    """``transfusion against chameleon on digits``."""
    if len(entries) > 3:
        return f"{len(entries)} recipes on {data_name}"
    return f"{' against '.join(entries)} on {data_name}"


def sentences(entries: Mapping[str, Sequence[RunRecord]]) -> list[str]:
    """The findings: one sentence a headline metric, then what limits them.

    With two entries or more, each sentence says whether the paired 95 % interval of the difference to
    the first entry excludes zero, or that there are too few seeds to tell.
    """
    found = {entry: summaries(runs) for entry, runs in entries.items()}
    said = [line for name in SAID_OF if (line := _finding(name, entries, found))]
    return [*said, *_limits(entries, found)]


def _finding(
    name: str, entries: Mapping[str, Sequence[RunRecord]], found: Mapping[str, Mapping[str, Summary]]
) -> str:
    means = {entry: figures[name].mean for entry, figures in found.items() if name in figures}
    if not means:
        return ""
    shown = ", ".join(f"{entry} {figure(name).show(mean)}" for entry, mean in _best_first(name, means))
    return f"{SAID_OF[name][0].upper()}{SAID_OF[name][1:]}: {shown}.{_verdict(name, entries)}"


def _best_first(name: str, means: Mapping[str, float | None]) -> list[tuple[str, float | None]]:
    if len(means) <= 3:
        return list(means.items())
    known = [(entry, mean) for entry, mean in means.items() if mean is not None]
    known.sort(key=lambda pair: pair[1], reverse=figure(name).better == "higher")
    return [*known[:1], *known[-1:]] if len(known) > 1 else list(known)


def _verdict(name: str, entries: Mapping[str, Sequence[RunRecord]]) -> str:
    """Whether two entries differ; nothing for one, or for more than three (the table says it)."""
    (reference, runs), *others = entries.items()
    if not others or len(others) > 2:
        return ""
    words = []
    for entry, other in others:
        difference = differences(runs, other).get(name)
        if difference is None or difference.mean is None:
            words.append(f" {entry} and {reference} cannot be compared: no shared seed with a figure.")
        elif difference.low is None or difference.high is None:
            continue  # said once, of all metrics, by `_limits`
        else:
            low, high = (figure(name).show_difference(v) for v in (difference.low, difference.high))
            interval = f"{entry} minus {reference} is between {low} and {high} (95 % interval)"
            if difference.verdict == "undecided":
                words.append(f" Undecided: {interval}, zero included.")
            else:
                words.append(f" {interval[0].upper()}{interval[1:]}, zero excluded.")
    return "".join(words)


def _limits(
    entries: Mapping[str, Sequence[RunRecord]], found: Mapping[str, Mapping[str, Summary]]
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
        bad = [figure(name).title for name, summary in figures.items() if None in summary.values]
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
