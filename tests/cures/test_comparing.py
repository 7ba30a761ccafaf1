"""Comparisons and evaluations: what cannot be compared or asked, done as it is told, and it is."""
# ruff: noqa: E501 (a command and what it must do stand on one line)

import subprocess

import pytest

from tests.cures.situation import Row, Situation, rows
from tests.tiny.workers import Here

COMPARE = "compare transfusion FLOPS --out c --seeds"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Here)


@rows({
    "arguments.py: --seeds": (f"{COMPARE} one", r"such as (\d),", f"{COMPARE} {{}}"),
    "arguments.py: --axis {text}: write": (f"{COMPARE} 0 --axis loss.image", r"such as (\S+)", f"{COMPARE} 0 --axis {{}}"),
    "arguments.py: --axis {key}: stands twice": (f"{COMPARE} 0 --axis loss.image=1 --axis loss.image=5", r"(all its values in one)", f"{COMPARE} 0 --axis loss.image=1,5"),
    "settings.py: give --seeds": (f"{COMPARE} 0 --set train.seed=1", r"give (--seeds 0)", "compare transfusion FLOPS --out c {}"),
    "settings.py: give one of the two": (f"{COMPARE} 0 --set loss.image=1 --axis loss.image=1,5", r"(give one)", f"{COMPARE} 0 --axis loss.image=1,5"),
    "plan.py: compare: recipe {twice[0]}": ("compare transfusion transfusion FLOPS --out c --seeds 0", r"(--axis)", f"{COMPARE} 0 {{}} loss.image=1,5"),
    "plan.py: compare: {entry} and": (f"{COMPARE} 0 --axis loss.image=5,5.0", "(leave one value out)", f"{COMPARE} 0"),
    "plan.py: compare: {by_steps[0]}": ("compare short --data pets --out c --seeds 0", r"(--set train\.flops=)2e12", "compare short --data pets --out c --seeds 0 {}1e6"),
    "plan.py: compare: the recipes have unequal": ("compare small large --data pets --out c --seeds 0", r"(--set train\.flops=)2e12", "compare small large --data pets --out c --seeds 0 {}1e6"),
    "plan.py: compare: no recipe": ("compare FLOPS --out c --seeds 0 --registry none.yaml", r"in a registry: (compare: \[transfusion\])", f"{COMPARE} 0"),
})  # fmt: skip
def test_a_comparison_as_it_should_be(s: Situation, row: Row) -> None:
    s.pets()
    tiny = "image: {codec: pixel, patcher: {patch: 2}, sampler: {evaluations: 3}}, text: {vocab: 280}"
    model = f"modalities: {{{tiny}}}, model: {{dim: 32, layers: 2, heads: 2}}"
    recipes = {"short": "steps: 3", "small": "flops: 1.0e6", "large": "flops: 2.0e6"}
    lines = [
        f"  {name}: {{extends: transfusion, {model}, train: {{budget: 160, {budget}}}}}"
        for name, budget in recipes.items()
    ]
    s.write("registry.yaml", "\n".join(["recipes:", *lines]))
    s.write("none.yaml", "compare: []\n")
    s.follows(row)
