"""Steps that are not finite change nothing on any rank and are counted; jumps are noted; short memory is told."""

import re
from collections.abc import Callable

import pytest
import torch
from transfuse.errors import TransfuseError
from transfuse.training import Trainer
from transfuse.training.guards import CALM, Diverged, Guard, out_of_memory
from transfuse.training.ranks import ALONE

from tests.tiny.rank_programs import spoilt
from tests.tiny.together import together

SETTINGS = [
    "train.rows=4",
    "train.budget=40",
    "train.look_ahead=1",
    "train.ema=0.9",
    "train.steps=6",
    "train.drop=0",
]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_row_that_is_not_finite(ranks: int) -> None:
    program = "tests.tiny.rank_programs:spoilt"
    each = [spoilt(ALONE, SETTINGS)] if ranks == 1 else together(ranks, program, SETTINGS)
    for found in each:
        assert found["still"] == [2, 3], "no weight, moment or average moved"
        assert found["guard"] == each[0]["guard"]
        assert (found["guard"]["skipped"], found["guard"]["in_a_row"]) == (2, 0)
        assert [(event["step"], event["event"]) for event in found["events"]] == [
            (2, "skipped"),
            (3, "skipped"),
        ]
        assert all("image" in event["of"] for event in found["events"]), "and what is read behind the image"
        assert found["events"][0]["documents"] == ["shapes train 3"], "and no other row's"
        assert re.match(
            r"step 2: the loss of (text, )?image(, text)? is not finite, and no weight was changed; the step holds "
            r"shapes train 3 …",
            found["said"][0],
        )
        assert all("loss_image" in step for step in (found["steps"][1], found["steps"][4]))


def test_too_many_in_a_row_end_it() -> None:
    guard = Guard(limit=1)
    assert not guard.finite(0, {"text": float("inf")}, 1.0)
    with pytest.warns(UserWarning, match=r"^step 0: the loss of text is not finite.*skipped: 1 so far"):
        guard.skip(0, {"text": float("inf")}, ["a", "b"])
    assert not guard.finite(1, {"text": 1.0}, float("nan"))
    with pytest.raises(
        Diverged, match=r"^step 1: the gradient is not finite.*holds a, b .*2 such steps in a row"
    ):
        guard.skip(1, {"text": 1.0}, ["a", "b"])
    assert guard.finite(2, {"text": 1.0}, 1.0)
    again = Guard(limit=1)
    again.restore(guard.state())
    assert (again.skipped, again.in_a_row) == (2, 0)


def test_a_loss_that_jumps_is_noted_with_its_documents() -> None:
    guard = Guard(limit=3)
    noise = torch.rand(3 * CALM, generator=torch.Generator().manual_seed(0)).tolist()
    for step, each in enumerate(noise):
        guard.look(step, 2.0 + 0.2 * each, ["usual"])
    assert guard.events == []
    guard.look(len(noise), 4.0, ["culprit"])
    (event,) = guard.events
    assert (event["event"], event["documents"], event["loss"]) == ("jump", ["culprit"], 4.0)
    assert event["usual"] == pytest.approx(2.1, abs=0.05)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out(
    error: BaseException,
    small_recipe: Callable,
    fitted: Callable,
    shapes: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = small_recipe("transfusion", "train.budget=44")
    trainer = Trainer(recipe, fitted(recipe, shapes()), shapes())

    def raises(batch: object) -> None:
        raise error

    monkeypatch.setattr(trainer.model, "losses", raises)
    with pytest.raises(TransfuseError, match=r"for a row of \d+ positions: lower train.budget, which is 44"):
        trainer.step()
    assert out_of_memory(RuntimeError("shapes do not match"), 1, 1) is None
