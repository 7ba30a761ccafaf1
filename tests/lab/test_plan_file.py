"""A plan is checked before anything is run: names, seeds, and each fault with its line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transfuse.errors import TransfuseError
from transfuse_lab.comparison.plan_file import read_plan

from tests.tiny.simulated import PLAN


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            "sizes: [small], seeds: [10]}",
            "sizes: [tiny], seeds: [10]}",
            "groups.again.sizes: names 'tiny', known: large",
        ),
        (
            "arms: [one, two], margin: 0.06, primary",
            "arms: [one, tow], margin: 0.06, primary",
            "names 'tow', did you mean",
        ),
        ("groups: [aa, planted]", "groups: [aa, plant]", "hypotheses.planted.groups: names 'plant'"),
        ("seeds: [0, 1, 2, 3, 4]", "seeds: [0, 1, 1]", "groups.main.seeds: has one twice"),
        ("margin: 0.15", "margin: 0", "hypotheses.nats.margin"),
        ("statistic: sd", "statistic: sdd", "checks.spread.statistic"),
        ("result: simulated.md", "result: simulated", "result: should be the name of a page"),
        ("hours: 1", "hours: 1\nrequire: x.json", "require: unknown key"),
        ("arms: [one, one], groups: [aa, planted]", "arms: [one, one]", "are one and the same"),
        (
            "hours: 1",
            "hours: 1\ntune: {arms: {one: {}}, sizes: [small], seeds: [3], score: {recall: 1}}\ntuned: t.json",
            "groups.main.seeds: has 3, which tuning uses",
        ),
        (
            "hours: 1",
            "hours: 1\ntune: {arms: {one: {}}, sizes: [small], seeds: [100], score: {recall: 1}}",
            "tuned: is missing",
        ),
        (
            "hours: 1",
            "hours: 1\ntuned: t.json\ntune: {arms: {one: {trained: [{key: train.lr, values: [3, 2, 1]}]}}, "
            "sizes: [small], seeds: [100], score: {recall: 1}}",
            "values: must rise",
        ),
    ],
)
def test_each_fault_is_told_with_its_line(tmp_path: Path, before: str, after: str, words: str) -> None:
    assert PLAN.count(before) == 1
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace(before, after))
    with pytest.raises(TransfuseError) as caught:
        read_plan(path)
    assert words in str(caught.value), str(caught.value)
    assert str(caught.value).startswith(f"{path}:")


def test_its_hash_is_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    one = read_plan(path)
    path.write_text(PLAN + "# a remark\n")
    assert read_plan(path).digest != one.digest
    assert read_plan(path).plan == one.plan
    assert one.plan.main == "main"
    assert one.at("records") == tmp_path / "records"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("compare",), "--data is missing; or give a plan: --plan FILE"),
        (("compare", "--data", "digits"), "--out is missing; or give a plan"),
        (
            ("compare", "--data", "digits", "--out", "x", "--dry-run"),
            "lists the budget of a plan: give --plan FILE",
        ),
        (("compare", "--plan", "p.yaml", "--seeds", "1"), "--plan says what --seeds says: leave it out"),
        (("compare", "chameleon", "--plan", "p.yaml"), "--plan says what RECIPE says"),
        (("compare", "--plan", "p.yaml"), "p.yaml is not there: name the file of a plan"),
        (("tune", "p.yaml"), "p.yaml is not there"),
    ],
)
def test_commands_that_say_too_much_or_too_little(
    cli: Callable, command: tuple[str, ...], words: str
) -> None:
    done = cli(*command)
    assert done.exit_code == 2
    assert words in done.stderr


def test_what_has_no_search_is_not_tuned(cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    done = cli("tune", tmp_path / "plan.yaml", "--out", tmp_path / "runs")
    assert "has no section tune: write down what is to be searched" in done.stderr
