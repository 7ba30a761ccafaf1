"""The kit for metrics: figures that were declared, finite, and the same each time."""

import json
import math
from copy import deepcopy
from dataclasses import dataclass, replace
from numbers import Real

from transfuse.metrics import Evaluation, Figure, Metric
from transfuse.testing.kits.raw_case import off
from transfuse.testing.kits.runner import Kit, LeftOut, expect, global_randomness_untouched

METRIC: Kit["MetricCase"] = Kit("metric")


@dataclass(frozen=True)
class MetricCase:
    """A metric, and an evaluation of a task that it applies to, of several prompts; what was made is the truth."""

    part: Metric
    evaluation: Evaluation

    def figures(self, evaluation: Evaluation | None = None) -> dict[str, float]:
        return dict(self.part.compute(evaluation or self.evaluation))

    def mixed(self) -> Evaluation:
        """The same, where each thing made stands at the prompt before its own."""
        first, *others = self.evaluation.made
        return replace(self.evaluation, made=[*others, first])


@METRIC.check(
    "change figures so that it lists a Figure, of a name of its own, for each number that compute gives"
)
def figures_are_declared(at: MetricCase) -> None:
    """It declares at least one figure, no name twice, each with a title."""
    figures = list(at.part.figures)
    expect(figures and all(isinstance(f, Figure) for f in figures), f"figures is {figures!r:.60}")
    names = [figure.name for figure in figures]
    expect(
        len({*names}) == len(names) and all(f.title for f in figures), f"the names of its figures are {names}"
    )


@METRIC.check("change compute so that it returns figures that are declared, by name")
def only_declared_figures_are_reported(at: MetricCase) -> None:
    """Every name that compute gives is among figures."""
    strange = sorted(at.figures().keys() - {figure.name for figure in at.part.figures})
    expect(not strange, f"compute gave {strange}, which figures has not")


@METRIC.check(
    "change compute so that it returns finite numbers, or leaves a figure out where there is nothing to measure"
)
def figures_are_finite(at: MetricCase) -> None:
    """Every figure is a finite number, a percentage one from 0 to 1."""
    forms = {figure.name: figure.form for figure in at.part.figures}
    for name, value in at.figures().items():
        expect(isinstance(value, Real) and math.isfinite(value), f"{name} is {value!r:.60}")
        share = forms.get(name) != "percent" or 0 <= value <= 1
        expect(share, f"{name} is {value}, and a percentage is given as a share from 0 to 1")


@METRIC.check("change compute so that all it draws comes from a generator of its own, of a set seed")
def measuring_twice_is_the_same(at: MetricCase) -> None:
    """compute is a function of the evaluation; nothing is drawn from a global random state."""
    with global_randomness_untouched():
        one, two = at.figures(), at.figures()
    expect(one == two, f"measured twice, {one} and {two}")
    at.figures(at.mixed())
    after = at.figures()
    expect(after == one, f"{one}, and when something else had been measured {after}")


@METRIC.check("change compute so that it works on copies")
def what_is_measured_is_left_as_it_is(at: MetricCase) -> None:
    """compute writes nothing into what was made."""
    kept = deepcopy(list(at.evaluation.made))
    at.figures()
    expect(
        all(off(a, b) == 0 for a, b in zip(at.evaluation.made, kept, strict=True)),
        "compute changed what was made",
    )


@METRIC.check(
    "change compute, or better, so that what is made as it should be is no worse than what belongs to others"
)
def mixed_up_answers_are_no_better(at: MetricCase) -> None:
    """Answers that belong to other prompts are no better than the right ones."""
    right, wrong = at.figures(), at.figures(at.mixed())
    for figure in at.part.figures:
        if figure.better and figure.name in right and figure.name in wrong:
            gain = (wrong[figure.name] - right[figure.name]) * (1 if figure.better == "higher" else -1)
            values = f"{right[figure.name]:.4g}, and {wrong[figure.name]:.4g} mixed up"
            seen = f"{figure.name}, of which {figure.better} is better, is {values}"
            expect(gain <= 1e-3 * (1 + abs(right[figure.name])), seen)


@METRIC.check("change notes so that it gives one text for each thing that was made, or None")
def notes_go_with_what_was_made(at: MetricCase) -> None:
    """notes are texts, as many as were made."""
    notes = at.part.notes(at.evaluation)
    if notes is None:
        raise LeftOut("it has no notes")
    expect(len(notes) == len(at.evaluation.made), f"{len(notes)} notes on {len(at.evaluation.made)} things")
    expect(all(isinstance(note, str) for note in notes), "a note is no text")


@METRIC.check("change facts so that it is a dict of what JSON holds")
def facts_are_json(at: MetricCase) -> None:
    """facts come back from JSON."""
    facts = at.part.facts()
    expect(isinstance(facts, dict) and json.loads(json.dumps(facts)) == facts, f"facts() is {facts!r:.60}")
