"""The average of weights: closed form by hand, constants stay, buffers and frozen weights are left alone."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transfuse import checkpoints
from transfuse.checkpoints import RunFolder
from transfuse.checkpoints.checkpoint import EMA_FILE
from transfuse.errors import TransfuseError
from transfuse.training.ema import EMA, decay_after
from transfuse.training.saving import write_checkpoint

from tests.tiny.models import Kit, plugins
from tests.tiny.runs import NAMES, adam, back, recipe_of, same, train, trained


class Point(nn.Module):
    """One trained weight, one frozen, one buffer."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))
        self.frozen = nn.Parameter(torch.tensor([7.0], dtype=torch.float64), requires_grad=False)
        self.register_buffer("seen", torch.tensor([0.0]))
        self.seen: torch.Tensor

    def put(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)


def averaged(values: list[float], decay: float) -> float:
    point = Point(100.0)  # what it was drawn as, of which nothing may be left
    average = EMA(trained(point), decay)
    for value in values:
        point.put(value)
        average.update()
    return float(average.tensors()["weight"])


def test_three_updates_by_hand() -> None:
    """The first is a copy, then the decays are 2/11 and 3/12."""
    after_two = 2 / 11 * 1.0 + 9 / 11 * 2.0
    assert averaged([1.0, 2.0], 0.999) == pytest.approx(after_two, abs=1e-12)
    assert averaged([1.0, 2.0, 5.0], 0.999) == pytest.approx(1 / 4 * after_two + 3 / 4 * 5.0, abs=1e-12)
    assert averaged([1.0, 2.0, 5.0], 0.1) == pytest.approx(0.1 * (0.1 + 0.9 * 2) + 0.9 * 5, abs=1e-12)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.floats(0, 0.9999))
def test_the_average_is_the_weighted_sum_with_weights_that_add_up_to_one(
    values: list[float], decay: float
) -> None:
    decays = [0.0] + [min(decay, (1 + n) / (10 + n)) for n in range(1, len(values))]
    shares = [(1 - d) * math.prod(decays[i + 1 :]) for i, d in enumerate(decays)]
    assert sum(shares) == pytest.approx(1)
    assert averaged(values, decay) == pytest.approx(
        sum(s * v for s, v in zip(shares, values, strict=True)), abs=1e-9
    )


@given(st.floats(-1e6, 1e6), st.integers(1, 40), st.floats(0, 0.9999))
def test_constant_weights_stay_bit_for_bit(value: float, updates: int, decay: float) -> None:
    assert averaged([value] * updates, decay) == value


def test_the_decay_rises_to_what_was_asked() -> None:
    decays = [decay_after(n, 0.999) for n in range(20_000)]
    assert decays == sorted(decays)
    assert decays[8_989] < decays[8_990] == decays[-1] == 0.999


def test_buffers_and_frozen_weights_are_not_averaged() -> None:
    point = Point()
    average = EMA(trained(point), 0.9)
    assert average.tensors().keys() == {"weight"}
    point.put(3.0)
    point.seen.fill_(5.0)
    average.update()
    point.put(4.0)
    with average.applied():
        assert (point.weight.item(), point.frozen.item(), point.seen.item()) == (3.0, 7.0, 5.0)
    assert point.weight.item() == 4.0


def test_the_trained_weights_come_back_after_an_error() -> None:
    point = Point(1.0)
    average = EMA(trained(point), 0.9)
    average.update()
    point.put(2.0)
    seen = []

    def failing() -> None:
        with average.applied():
            seen.append(point.weight.item())
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert seen == [1.0]
    assert point.weight.item() == 2.0


# -- in a checkpoint


@pytest.fixture
def run(kit: Kit, tmp_path: Path) -> tuple[Path, EMA]:
    """The folder of a run whose weights are averaged, saved after two steps."""
    model = kit.model(*NAMES)
    average, optimizer = EMA(trained(model), 0.9), adam(model)
    for step in range(2):
        train(model, optimizer, range(step, step + 1))
        average.update()
    folder = RunFolder(tmp_path)
    folder.write_description(recipe_of(train={"ema": 0.9}), model)
    write_checkpoint(folder, 2, model, optimizer, average=average.tensors())
    return tmp_path, average


def test_what_is_loaded_to_be_used_is_the_average_with_current_buffers(run: tuple[Path, EMA]) -> None:
    folder, average = run
    _, model = checkpoints.load(folder, plugins())
    loaded = dict(model.named_parameters())
    assert same({name: loaded[name].data for name in average.tensors()}, average.tensors())
    assert not torch.equal(loaded["tokens.weight"], average.trained["tokens.weight"])
    assert model.predictable[model.vocabulary.marker("<image 2x2>")]


def test_what_is_loaded_to_go_on_is_not(run: tuple[Path, EMA]) -> None:
    folder, average = run
    model, _, checkpoint = back(folder)
    assert torch.equal(model.tokens.weight, average.trained["tokens.weight"])
    again = EMA(trained(model), 0.9)
    again.restore(checkpoint.tensors(EMA_FILE), checkpoint.state["step"])
    for one in (average, again):
        one.update()
    assert same(average.tensors(), again.tensors())


def test_an_average_of_another_model_is_named(kit: Kit) -> None:
    ema = EMA(trained(kit.model(*NAMES)), 0.9)
    whole = dict(ema.tensors())

    def refused(tensors: dict[str, torch.Tensor], message: str) -> None:
        with pytest.raises(TransfuseError, match=f"the saved average of {message}"):
            ema.restore(tensors, 1)

    refused({k: v for k, v in whole.items() if k != "tokens.weight"}, r"'tokens.weight' is missing")
    refused({**whole, "more": torch.zeros(1)}, r"'more' is \[1\], the model's missing")
    refused({**whole, "tokens.weight": torch.zeros(2, 2)}, r"'tokens.weight' is \[2, 2\]")


def test_an_average_that_is_missing_damaged_or_of_another_recipe_is_named(
    run: tuple[Path, EMA], kit: Kit
) -> None:
    folder, _ = run
    path = folder / "checkpoints/2/ema.safetensors"
    with pytest.raises(TransfuseError, match=r"ema\.safetensors: the weights .* have no place"):
        RunFolder(folder).checkpoint.load_weights(kit.model("text"), averaged=True)
    path.write_bytes(b"")
    with pytest.raises(TransfuseError, match=r"ema\.safetensors is damaged"):
        checkpoints.load(folder, plugins())
    path.unlink()
    with pytest.raises(TransfuseError, match=r"ema\.safetensors is missing"):
        checkpoints.load(folder, plugins())
