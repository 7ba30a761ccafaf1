"""What a plan says of its runs: differences to the stated side, verdicts, scaling, and bounds held against records."""

from pathlib import Path

import pytest
from transfuse_lab.comparison.findings import findings
from transfuse_lab.comparison.keeping import DIVERGED, PLACE
from transfuse_lab.comparison.plan_file import PlanFile
from transfuse_lab.comparison.results_page import results_page
from transfuse_lab.comparison.tuned import Choice, Tuned
from transfuse_lab.report.page import page

from tests.tiny.simulated import PLAN, plan_file, simulated


@pytest.fixture
def file(tmp_path: Path) -> PlanFile:
    return plan_file(tmp_path)


def test_what_was_planted_is_seen_and_named(file: PlanFile) -> None:
    records = simulated(file.plan, {"two": -0.2, "planted": -0.2})
    told = findings(file, records, len(records), Tuned())
    for name in ("recall", "nats", "planted"):
        finding = told["hypotheses"][name]["finding"]
        assert finding["verdict"] == "seen", name
        assert finding["mean"] == pytest.approx(0.2, abs=0.04), (
            "better is positive, whichever way the figure goes"
        )
    assert told["hypotheses"]["recall"]["finding"]["seeds"] == 5
    assert told["hypotheses"]["planted"]["finding"]["seeds"] == 4, (
        "paired over the seeds that both groups have"
    )
    assert all(one["holds"] for one in told["checks"].values()), told["checks"]
    assert told["plan"]["sha256"] == file.digest


def test_nothing_planted_is_not_seen_and_its_spread_is_told(file: PlanFile) -> None:
    told = findings(file, simulated(file.plan, sd=0.005), 99, Tuned())
    recall = told["hypotheses"]["recall"]
    assert recall["finding"]["verdict"] == "not seen"
    assert recall["finding"]["sd_low"] < recall["finding"]["sd"] < recall["finding"]["sd_high"]
    assert recall["seeds_wanted"] == 3
    assert told["runs"]["core_hours"] > 0


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"ceiling": 0.9}, "ceilings"),
        ({"effects": {"one": 0.6, "two": 0.6}}, "middle"),
        ({"effects": {"planted": 0.3}}, "planted"),
    ],
)
def test_a_bound_that_is_not_kept_is_no_go(file: PlanFile, change: dict, check: str) -> None:
    told = findings(file, simulated(file.plan, **change), 99, Tuned())
    assert told["checks"][check]["holds"] is False
    assert "**No-go:** " in results_page(told, "transfuse compare")
    assert check in results_page(told, "x").partition("**No-go:** ")[2].partition("\n")[0]


def test_repeated_runs_that_differ_in_a_bit_are_found(file: PlanFile) -> None:
    records = simulated(file.plan)
    at = next(i for i, one in enumerate(records) if one.facts[PLACE]["group"] == "again")
    metrics = {**records[at].metrics, "recall": records[at].metrics["recall"] + 1e-12}
    records[at] = records[at].model_copy(update={"metrics": metrics})
    assert findings(file, records, 99, Tuned())["checks"]["same"]["values"] == {
        f"{records[at].entry}, seed 10": 1
    }


def test_a_run_that_diverged_scores_chance_in_a_hypothesis_and_leaves_a_check_unanswered(
    file: PlanFile,
) -> None:
    records = simulated(file.plan, {"two": -0.2})
    at = next(
        i for i, one in enumerate(records)
        if one.seed == 3 and one.facts[PLACE] | {"axes": {}} == {
            "group": "main", "arm": "one", "size": "large", "share": 1.0, "axes": {}}
    )  # fmt: skip
    records[at] = records[at].model_copy(update={"metrics": {}, "faults": {DIVERGED: "step 7: not finite"}})
    told = findings(file, records, 99, Tuned())
    two = next(
        one
        for one in records
        if one.facts[PLACE] == {**records[at].facts[PLACE], "arm": "two"} and one.seed == 3
    )
    assert told["hypotheses"]["recall"]["differences"]["3"] == pytest.approx(-two.metrics["recall"])
    assert "step 7" in told["hypotheses"]["nats"]["why"], (
        "no nats would be the best there are: none is made up"
    )
    assert told["checks"]["middle"]["holds"] is None
    assert "step 7" in told["checks"]["middle"]["why"]
    assert told["runs"]["diverged"] == [f"{records[at].entry}, seed 3"]


def test_a_sign_that_another_group_does_not_keep_counts_from_the_difference_on_that_is_wanted(
    tmp_path: Path,
) -> None:
    groups = "  other: {sizes: [large], seeds: [0, 1, 2]}\n"
    check = "  sign: {statistic: sign, figure: recall, group: other, other: main, size: large, wanted: %g, at_least: 0}"
    for least, more, sign in ((0.06, 0.0, 1), (0.06, 0.4, -1), (0.5, 0.4, 0)):
        file = plan_file(tmp_path, PLAN.replace("hypotheses:", groups + "hypotheses:") + check % least)
        records = simulated(file.plan, {"two": -0.2})
        for one in records:
            if (one.facts[PLACE]["group"], one.facts[PLACE]["arm"]) == ("other", "two"):
                one.metrics["recall"] += more
        told = findings(file, records, 99, Tuned())["checks"]["sign"]
        assert told["values"]["sign"] == sign
        assert told["holds"] is (sign >= 0)


def test_a_run_without_the_one_that_it_repeats_leaves_the_check_open(tmp_path: Path) -> None:
    file = plan_file(tmp_path, PLAN.replace("again: {arms: [one]", "again: {arms: [one, two]"))
    told = findings(file, simulated(file.plan), 99, Tuned())["checks"]["same"]
    assert told["holds"] is None
    assert "the run it repeats is not in aa" in told["why"]


def test_of_fewer_than_three_pairs_nothing_is_said_and_the_rest_is_corrected_for_it(file: PlanFile) -> None:
    records = simulated(file.plan, {"two": -0.03})
    whole = findings(file, records, 99, Tuned())["hypotheses"]
    fewer = [one.model_copy(update={"metrics": {k: v for k, v in one.metrics.items() if k != "nats"},
             "faults": {"nats": "not measured"}}) for one in records]  # fmt: skip
    told = findings(file, fewer, 99, Tuned())["hypotheses"]
    assert "finding" not in told["nats"]
    assert "not measured" in told["nats"]["why"]
    assert told["recall"]["finding"]["holm"] == pytest.approx(min(1, 2 * told["recall"]["finding"]["p"]))
    assert whole["recall"]["finding"]["p"] == told["recall"]["finding"]["p"]


def test_parity_and_slopes_under_three_lenses(file: PlanFile) -> None:
    told = findings(file, simulated(file.plan, {"two": -0.12}, sd=0.001), 99, Tuned())["scaling"]["recall"]
    for lens in ("total", "without output layer", "documents"):
        assert told["parity"][lens]["ratio"] == pytest.approx(2.718, rel=0.1), "one e-fold of compute is .12"
    assert told["arms"]["one"]["slope"]["mean"] == pytest.approx(0.12, abs=0.01)
    assert [point["share"] for point in told["arms"]["one"]["points"]] == [0.25, 0.5, 0.25, 1, 0.5, 1] or len(
        told["arms"]["one"]["points"]
    ) == 6
    assert told["arms"]["one"].get("power_law") is None, "recall is no loss"


def test_what_is_at_an_edge_of_the_search_is_no_go(tmp_path: Path) -> None:
    file = plan_file(tmp_path, PLAN + "  interior: {statistic: interior, at_least: 1}\n")
    inside = Choice("train.lr", ((1e-3, 1.0), (2e-3, 2.0), (4e-3, 1.0)), 2e-3, 2e-3, True, False)
    edge = Choice("train.lr", ((1e-3, 1.0), (2e-3, 2.0)), 2e-3, 2e-3, False, False)
    drawn = Choice("image.guidance.scale", ((1, 2.0), (2, 1.0), (3, 1.0)), 1, 1, False, True)
    for choice, holds in ((inside, True), (edge, False)):
        tuned = Tuned({"one": {"small": [choice, drawn]}}, {"small": 3e12, "large": 1.2e13}, "d")
        told = findings(file, simulated(file.plan), 99, tuned)
        assert told["checks"]["interior"]["holds"] is holds
        edges = [] if holds else ["one small train.lr"]
        assert told["tuned"]["at an edge"] == [*edges, "one small image.guidance.scale"]
    assert findings(file, simulated(file.plan), 99, Tuned())["checks"]["interior"]["holds"] is None


def test_the_pages_say_what_was_found(file: PlanFile) -> None:
    records = simulated(file.plan, {"two": -0.2})
    told = findings(file, records, len(records), Tuned())
    text = results_page(told, "transfuse compare --plan plan.yaml")
    assert file.digest in text
    assert "**Go:** every check holds." in text
    assert "**seen**" in text
    report = page(records, {"name": "digits"}, (), "transfuse compare --plan plan.yaml", told)
    assert file.digest in report
    assert "Go: every check holds" in report
    assert report.count("<svg") >= 3


@pytest.mark.parametrize(
    ("before", "after", "name", "words"),
    [
        ("group: again, other: aa, at_most", "group: again, at_most", "same", "say `other`: the group whose runs"),
        ("group: planted, other: aa, at_most", "group: planted, at_most", "planted", "say `other`: the group that"),
        ("figure: recall, size: large, at_least: 0.2", "figure: recal, size: large, at_least: 0.2", "middle",
         "it has none; did you mean"),
        ("statistic: lowest, figure: ceiling", "statistic: sign, figure: recall", "ceilings", "say `other`: the group"),
    ],
)  # fmt: skip
def test_a_check_that_cannot_be_answered_says_what_to_say(
    tmp_path: Path, before: str, after: str, name: str, words: str
) -> None:
    assert PLAN.count(before) == 1
    file = plan_file(tmp_path, PLAN.replace(before, after))
    told = findings(file, simulated(file.plan), 99, Tuned())["checks"][name]
    assert told["holds"] is None
    assert words in told["why"]


def test_a_hypothesis_says_which_way_is_better_and_which_runs_are_meant(tmp_path: Path) -> None:
    text = PLAN.replace(
        "nats: {figure: nats, arms: [one, two], margin: 0.15",
        "nats: {figure: ceiling, arms: [one, two], margin: 0.15",
    )
    file = plan_file(tmp_path, text)
    records = simulated(file.plan)
    told = findings(file, records, 99, Tuned())["hypotheses"]["nats"]
    assert "say `better: higher` or `better: lower`" in told["why"]
    twice = [*records, *(one.model_copy(update={"entry": "again"}) for one in records)]
    told = findings(file, twice, 99, Tuned())["hypotheses"]["recall"]
    assert "several runs of seed 0 fit: say which `axis` or `size` is meant" in told["why"]
