"""The kits find every liar by the check that names its fault, and none in honest parts, ours or strangers'."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from transfuse.testing import Kit

from tests.testing.fresh_liars import FRESH, RIGHT, case_of
from tests.testing.liars import KINDS, lie

Case = tuple[Kit[Any], Any]
LIARS: dict[str, tuple[Callable[[], Case], str]] = {
    f"{kind}: {name}": (lambda of=of, methods=methods: (of[0], of[2](lie(of[1], **methods)())), check)
    for kind, of in KINDS.items()
    for name, (methods, check) in of[3].items()
} | {f"fresh {liar.kind}: {liar.name}": (liar.case, liar.check) for liar in FRESH if liar.check}
HONEST: dict[str, Callable[[], Case]] = {
    kind: lambda of=of: (of[0], of[2](of[1]())) for kind, of in KINDS.items()
} | {
    f"fresh {kind}: {make.__name__}": lambda kind=kind, make=make: case_of(kind, make) for kind, make in RIGHT
}


@pytest.mark.parametrize("name", LIARS, ids=lambda word: word.replace(" ", "-"))
def test_a_liar_is_refused_by_the_check_that_names_its_fault(name: str) -> None:
    make, check = LIARS[name]
    kit, case = make()
    outcome = kit[check].outcome(case)
    assert outcome.status == "fails", f"{name}: {outcome}"
    assert re.match(rf"{check}: .+; change \w+", outcome.text)


def complaints(case: Case) -> list[str]:
    """What fails; without the check of torch.compile, which takes seconds."""
    kit, of = case
    outcomes = [check.outcome(of) for check in kit.of(of) if check.ability != "compile"]
    return [outcome.text for outcome in outcomes if outcome.status == "fails"]


@pytest.mark.parametrize("name", HONEST)
def test_the_honest_part_passes(name: str) -> None:
    assert complaints(HONEST[name]()) == []


@pytest.mark.parametrize("liar", [liar for liar in FRESH if not liar.check], ids=lambda liar: liar.name)
def test_what_no_law_forbids_is_not_refused(liar: Any) -> None:
    assert liar.why
    assert complaints(liar.case()) == []


def test_there_are_many_and_every_kind_has_some() -> None:
    assert len(LIARS) >= 300
    assert all(len(liars) >= 5 for *_, liars in KINDS.values())
