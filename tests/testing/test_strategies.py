"""Hypothesis as a public face: what the strategies draw is lawful, and the packing machine finds a packer's faults."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse.sequences.packing import Packer
from transfuse.sequences.rows import Row, join
from transfuse.testing import PackingMachine, strategies

from tests.tiny.models import plugins

TRIES = settings(max_examples=20, stateful_step_count=12)
FAULTY = settings(max_examples=100, stateful_step_count=25, phases=(Phase.generate,))
"""What is found is not made small: that takes long."""


class TestPacker(PackingMachine.TestCase):
    settings = TRIES


class Overfull(Packer):
    """Rows of one position too many."""

    def __init__(self, budget: int, **more: Any) -> None:
        super().__init__(budget + 1, **more)


class Forgetful(Packer):
    """What waits at the end of a row is forgotten."""

    def rows(self, sequences: Any) -> Iterator[Row]:
        for row in super().rows(sequences):
            self.waiting.clear()
            yield row


class Renumbering(Packer):
    """Positions are counted through the row."""

    def rows(self, sequences: Any) -> Iterator[Row]:
        for row in super().rows(sequences):
            row.columns["pos"] = np.arange(len(row))
            yield row


class Deaf(Packer):
    """One that is taken up begins with nothing waiting."""

    def __init__(self, budget: int, waiting: Any = (), **more: Any) -> None:
        super().__init__(budget, waiting=[], **more)


@pytest.mark.parametrize("packer", [Overfull, Forgetful, Renumbering, Deaf])
def test_the_machine_finds_the_faults_of_packers(packer: type[Packer]) -> None:
    class Tried(PackingMachine):
        def packer(self, budget: int, waiting: Any = (), arrived: int = 0) -> Packer:
            return packer(budget, look_ahead=5, waiting=list(waiting), arrived=arrived)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Tried, settings=FAULTY)


@given(strategies.rows())
def test_rows_have_the_columns_of_a_packers(columns: dict[str, np.ndarray]) -> None:
    assert len({len(values) for values in columns.values()}) == 1
    filler = columns["doc"] == -1
    assert (columns["idx"] == np.arange(len(filler))).all()
    assert not columns["image"][filler].any()
    assert (columns["span"][filler] == -1).all()


@settings(max_examples=30)
@given(strategies.items_of())
def test_items_can_be_laid_out(items: Any) -> None:
    machine = PackingMachine()
    machine.arrive(items)
    assert len(join(machine.stream)) == len(machine.stream[0])


@settings(max_examples=30)
@given(strategies.registries())
def test_registries_resolve(entries: dict[str, Any]) -> None:
    from types import SimpleNamespace

    from transfuse.registry.hooks import hookimpl

    own = Plugins.of({"drawn": SimpleNamespace(transfuse_registry=hookimpl(lambda: entries))})
    registry = Registry.load(Plugins([*plugins().loaded, *own.loaded]), [packaged_file()])
    for name in entries["recipes"]:
        assert registry.recipe(name).loss.keys() == {"text"}
    assert registry.faults() == []
