"""docs/results.md has the tables of its records; plans in the docs are plans, and their page has every key."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from transfuse_lab.comparison.plan_file import (
    Arm,
    Check,
    Group,
    Hypothesis,
    Knob,
    Plan,
    Scaling,
    Schedule,
    Size,
    Tune,
    TunedArm,
    read_plan,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "bench")
    spec = importlib.util.spec_from_file_location("results", ROOT / "bench/results.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("pages", None)
    return module


def test_the_tables_are_of_the_records(bench: ModuleType) -> None:
    page = (ROOT / "docs/results.md").read_text()
    for mark, table in bench.TABLES.items():
        assert f"<!-- {mark} -->\n{table()}\n<!-- end -->" in page, "run python bench/results.py --write"


@pytest.mark.parametrize("name", ["pilot-plan", "prereg-scenes"])
def test_plans_are_plans_within_their_hours(name: str) -> None:
    file = read_plan(ROOT / f"docs/results/{name}.yaml")
    assert file.plan.hours <= {"pilot-plan": 4, "prereg-scenes": 16}[name]
    assert file.plan.tune
    assert {100}.isdisjoint(seed for group in file.plan.groups.values() for seed in group.seeds)
    trials = {
        arm: [(knob.key, len(knob.values)) for knob in one.trained]
        for arm, one in file.plan.tune.arms.items()
    }
    assert trials["transfusion"] == trials["chameleon"], "equal trials"


def test_nothing_is_started_before_the_pilots_checks_hold() -> None:
    assert read_plan(ROOT / "docs/results/prereg-scenes.yaml").plan.requires == ("pilot.json",)


def test_the_pages_plan_is_one_and_the_page_has_every_part(tmp_path: Path) -> None:
    page = (ROOT / "docs/comparing.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    assert list(read_plan(path).plan.arms) == ["flow", "ddpm"]
    table = re.findall(r"^\| .* \| `([a-z_]+)` \| (.*) \|$", page.partition("## Every key")[2], re.MULTILINE)
    kinds = (Plan, Arm, Size, Schedule, Group, Hypothesis, Scaling, Check, Tune, TunedArm, Knob)
    assert [key for key, _ in table] == [key for kind in kinds for key in kind.model_fields]
    assert all(meaning for _, meaning in table)
