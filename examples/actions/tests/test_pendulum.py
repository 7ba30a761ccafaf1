"""The kits over actions, states and episodes; the expert against random torques; the mask and a policy by eye."""

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the world is gymnasium's: pip install gymnasium")

from tf_pendulum.data import CHUNK, Pendulum, PendulumSettings
from tf_pendulum.drive import random, scripted
from tf_pendulum.expert import GOALS, STEPS, episodes
from tf_pendulum.metric import ActionError
from transfuse import Registry
from transfuse.plugin import Evaluation, Task
from transfuse.testing import DataSetTests, ModalityTests

RECIPE = Registry.open().recipe("pendulum")
DATA = Pendulum(PendulumSettings(train=2, heldout=2))


class TestActions(ModalityTests):
    mask = RECIPE.mask

    @pytest.fixture
    def modality(self):
        return RECIPE.modalities["action"].build(name="action")

    @pytest.fixture
    def raws(self):
        return list(DATA.raw("train", "action"))[:8]


class TestState(ModalityTests):
    mask = RECIPE.mask

    @pytest.fixture
    def modality(self):
        return RECIPE.modalities["state"].build(name="state")

    @pytest.fixture
    def raws(self):
        return list(DATA.raw("train", "state"))[:8]


class TestPendulum(DataSetTests):
    @pytest.fixture
    def data(self):
        return DATA


@pytest.mark.parametrize("goal", GOALS)
def test_the_expert_does_what_it_is_told_and_chance_does_not(goal):
    returns, kept = episodes(goal, 10, scripted(goal), seed=7)
    assert kept.all()
    by_chance, lucky = episodes(goal, 10, random(0), seed=7)
    assert not lucky.any()
    if goal == "stand up":  # what gymnasium's reward is for
        assert returns.min() > by_chance.max()


def test_a_policy_is_asked_again_when_its_chunk_is_done():
    asked = []

    def policy(states, step):
        asked.append(step)
        return np.zeros((len(states), 4))

    episodes("hang still", 2, policy)
    assert asked == list(range(0, STEPS, 4))


def test_a_chunk_is_what_the_expert_does_next():
    first, second = (DATA.document("train", i) for i in range(2))
    assert first.items[2].data.shape == (CHUNK, 1)
    assert np.array_equal(first.items[2].data[1:], second.items[2].data[:-1])
    assert (first.items[1].loss, first.items[1].noised) == (False, False)


def test_words_state_and_actions_by_eye():
    """Two words, a state between its markers, two actions between theirs, the end."""
    columns = {
        "doc": np.zeros(10, int),
        "idx": np.arange(10),
        "rank": np.array([-1, -1, 0, 0, 0, 1, 1, 1, 1, -1]),
    }
    assert RECIPE.mask.draw(columns) == [
        "#.........", "##........", *["#####....."] * 3, *["#########."] * 4, "##########",
    ]  # fmt: skip


def test_what_no_policy_is_off():
    chunks = [np.full((8, 1), torque, np.float32) for torque in (-1, 1)]
    found = ActionError().compute(Evaluation(Task.parse("text+state->action"), [(), ()], chunks, chunks))
    assert found == {"action_error": 0, "action_error_mean": 1}
