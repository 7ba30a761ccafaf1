"""The kits find every liar by the check that names its fault, and none in honest parts, ours or strangers'."""

import re

import pytest

from tests.testing.liars import KINDS, lie

CASES = [(kind, name) for kind, (*_, liars) in KINDS.items() for name in liars]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda word: word.replace(" ", "-"))
def test_a_liar_is_refused_by_the_check_that_names_its_fault(kind: str, name: str) -> None:
    kit, honest, case_of, liars = KINDS[kind]
    methods, check = liars[name]
    outcome = kit[check].outcome(case_of(lie(honest, **methods)()))
    assert outcome.status == "fails", f"{name}: {outcome}"
    assert re.match(rf"{check}: .+; change \w+", outcome.text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_honest_part_passes(kind: str) -> None:
    kit, honest, case_of, _ = KINDS[kind]
    case = case_of(honest())
    outcomes = [
        check.outcome(case) for check in kit.of(case) if check.ability != "compile"
    ]  # that takes seconds
    assert [outcome.text for outcome in outcomes if outcome.status == "fails"] == []


def test_there_are_sixty_and_every_kind_has_some() -> None:
    assert len(CASES) >= 60
    assert all(len(liars) >= 5 for *_, liars in KINDS.values())
