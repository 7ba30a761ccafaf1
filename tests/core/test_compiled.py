"""Compiled layers compute what plain ones do, and are not compiled anew for rows of other lengths and documents."""

from collections.abc import Callable

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from transfuse.training import Trainer

from tests.tiny.datasets import Shapes

# torch's compiler looks at tensors' gradients, and warns of it
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")

ROWS = 30
WARM = 3


def test_compiled_layers_are_compiled_once_and_train_as_plain_ones(
    small_recipe: Callable, fitted: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, compiled = CompileCounterWithBackend("aot_eager"), torch.compile
    monkeypatch.setattr(torch, "compile", lambda run, **how: compiled(run, backend=counter, **how))

    def trainer(*compile: str) -> Trainer:
        recipe = small_recipe("transfusion", f"train.steps={ROWS}", "train.look_ahead=3", *compile)
        return Trainer(recipe, fitted(recipe, Shapes(), effort=0.0), Shapes())

    plain, made = trainer(), trainer("train.compile=true")
    lengths = set()
    for row in range(ROWS):
        before = made.progress.positions
        if row < WARM:
            assert made.step() == pytest.approx(plain.step(), rel=1e-4)
        else:
            made.step()
        lengths.add(made.progress.positions - before)
        if row == WARM - 1:
            graphs = counter.frame_count
    assert len(lengths) > 3
    assert counter.frame_count == graphs > 0
