"""The kits as pytest classes: give the fixtures of one, and each check of the kit is a test.

>>> class TestSeries(ModalityTests):
...     @pytest.fixture
...     def modality(self):
...         return Plugins.load().choose("modality", "series").build(name="series")
...
...     @pytest.fixture
...     def raws(self):
...         return [np.zeros(16), np.ones(24)]
"""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from transfuse.masks import Mask
from transfuse.metrics import Evaluation
from transfuse.modalities.objective import SpanObjective
from transfuse.testing.kits.attention import ATTENTION, AttentionCase
from transfuse.testing.kits.block import BLOCK, BlockCase
from transfuse.testing.kits.codec import CODEC
from transfuse.testing.kits.dataset import DATASET, DataSetCase
from transfuse.testing.kits.metric import METRIC, MetricCase
from transfuse.testing.kits.modality import MODALITY
from transfuse.testing.kits.modality_case import MASK, ModalityCase
from transfuse.testing.kits.objective import OBJECTIVE, ObjectiveCase
from transfuse.testing.kits.raw_case import RawDataCase
from transfuse.testing.kits.runner import Check, Kit
from transfuse.testing.kits.sampler import SAMPLER, SamplerCase
from transfuse.testing.modalities import StraightPath


class KitTests:
    """What all of them share: a test a check, skipped with its reason where it says nothing of the part.

    The part of the first test serves all of a class. of: the interface that the part is of, ``class
    TestSeries(ModalityTests, of=SpanModality)``: laws of other kinds of part are then no tests, else they are skipped.
    """

    kit: ClassVar[Kit[Any]]
    shared: ClassVar[dict[type, Any]] = {}

    def __init_subclass__(cls, kit: Kit[Any] | None = None, of: type | None = None) -> None:
        if kit is not None:
            cls.kit = kit
        if kit is not None or of is not None:
            cls.test_kit = _tests(cls.kit, of or object)  # type: ignore[attr-defined]


def _tests(kit: Kit[Any], of: type) -> Callable[..., None]:
    """The test that a class has for each check of its kit which says something of the parts that it has."""
    checks = [check for check in kit.checks if issubclass(of, check.of) or issubclass(check.of, of)]

    @pytest.mark.parametrize("check", checks, ids=str)
    def test_kit(self: KitTests, check: Check[Any], case: Any) -> None:
        case = self.shared.setdefault(type(self), case)
        if not isinstance(case.part, of):
            pytest.fail(f"of={of.__name__}, and the part is a {type(case.part).__name__}", pytrace=False)
        if not isinstance(case.part, check.of):
            pytest.skip(f"no law of a {type(case.part).__name__}")
        outcome = check.outcome(case)
        if outcome.status == "fails":
            pytest.fail(outcome.text, pytrace=False)
        elif outcome.status != "ok":
            pytest.skip(f"{outcome.status}: {outcome.text}")

    return test_kit


class ModalityTests(KitTests, kit=MODALITY):
    """Fixtures: ``modality``, as its part builds it, and ``raws``, a few raw data of every shape that there is.

    mask: of the recipe that it is for. rope: the columns that turn the rotary axes. fit: False where the fixture
    hands over one that is fit.
    """

    mask: Mask | str = MASK
    rope: tuple[str, ...] = ("pos",)
    fit = True

    @pytest.fixture
    def case(self, modality: Any, raws: Any) -> ModalityCase:
        return ModalityCase(modality, raws, self.mask, self.rope, self.fit)


class CodecTests(KitTests, kit=CODEC):
    """Fixtures: ``codec``, as its part builds it, and ``raws``. fit: False where the fixture hands over one that is."""

    fit = True

    @pytest.fixture
    def case(self, codec: Any, raws: Any) -> RawDataCase:
        return RawDataCase(codec, raws, self.fit)


class ObjectiveTests(KitTests, kit=OBJECTIVE):
    """Fixture: ``objective``, a TokenObjective or a SpanObjective."""

    @pytest.fixture
    def case(self, objective: Any) -> ObjectiveCase:
        return ObjectiveCase(objective)


class SamplerTests(KitTests, kit=SAMPLER):
    """Fixture: ``sampler``, with as many evaluations as are needed. objective: by which it is tried."""

    objective: SpanObjective = StraightPath()

    @pytest.fixture
    def case(self, sampler: Any) -> SamplerCase:
        return SamplerCase(sampler, self.objective)


class AttentionTests(KitTests, kit=ATTENTION):
    """Fixture: ``backend``."""

    @pytest.fixture
    def case(self, backend: Any) -> AttentionCase:
        return AttentionCase(backend)


class BlockTests(KitTests, kit=BLOCK):
    """Fixture: ``block``, as a recipe's ``model.block`` chooses it: ``Plugins.load().choose("block", "parallel")``.

    settings: of the models that it is tried in, where it cannot be of width 48 with 2 heads.
    """

    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def case(self, block: Any) -> BlockCase:
        return BlockCase(block, **self.settings)


class DataSetTests(KitTests, kit=DATASET):
    """Fixture: ``data``, and ``anew``, where another of the same settings can be opened."""

    @pytest.fixture
    def anew(self) -> Any:
        return None

    @pytest.fixture
    def case(self, data: Any, anew: Any) -> DataSetCase:
        return DataSetCase(data, anew)


class MetricTests(KitTests, kit=METRIC):
    """Fixtures: ``metric``, and ``evaluation`` of a task that it applies to, where what was made is the truth."""

    @pytest.fixture
    def case(self, metric: Any, evaluation: Evaluation) -> MetricCase:
        return MetricCase(metric, evaluation)
