"""FLOPs by formula are those that torch counts, in every arm and at several sizes, with the output layer apart."""

from collections.abc import Callable
from itertools import islice

import pytest
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transfuse.model.model import Model
from transfuse.sequences.batch import Batch
from transfuse.training.trainer import Trainer

ARMS = {
    "transfusion": ("transfusion",),
    "transfusion, U-Net": ("transfusion", "image.patcher={name: unet, width: 8}"),
    "chameleon": ("chameleon",),
    "masked": ("chameleon", "image={kind: masked_vq}", "mask=bidirectional"),
    "ordered": ("chameleon", "image={kind: ordered_vq}"),
}
SIZES = {"32x2": (), "48x3": ("model.dim=48", "model.layers=3")}


def counted(model: Model, batch: Batch, logits: bool = True) -> int:
    """FLOPs of a forward pass without attention's products, which kernels count as they like."""
    model.attend = lambda columns: (
        [lambda q, k, v: v.repeat_interleave(len(q) // len(v), 0)] * model.settings.layers
    )
    if not logits:
        size = model.vocabulary.size
        model.logits = lambda hidden, dtype=None: hidden.new_zeros(len(hidden), size, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        model.losses(batch)
    return counter.get_total_flops()


@pytest.fixture
def trained(small_recipe: Callable, fitted: Callable, shapes: Callable) -> Callable[..., Trainer]:
    def begun(arm: str, *sets: str) -> Trainer:
        name, *own = ARMS[arm]
        recipe, data = small_recipe(name, *own, *sets), shapes(sides=(8,))
        return Trainer(recipe, fitted(recipe, data, 0.0), data)

    return begun


def excess(trainer: Trainer) -> tuple[float, float]:
    """How far the formula is from what torch counts of a row, as a share: all of it, and the output layer alone."""
    model, s = trainer.model, trainer.model.settings
    (row,) = islice(trainer.rows, 1)
    batch = trainer.batch(row)
    pairs = 4.0 * s.heads * s.head_width * s.layers * model.mask.pairs(row.columns)
    whole = counted(model, batch)
    without = counted(model, batch, logits=False)
    assert trainer.costs.output_flops(row) > 0
    return (
        trainer.costs.flops(row) / (3 * (whole + pairs)) - 1,
        trainer.costs.output_flops(row) / (3 * (whole - without)) - 1,
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("arm", ARMS)
def test_the_formula_is_what_torch_counts(trained: Callable, arm: str, size: str) -> None:
    assert excess(trained(arm, *SIZES[size])) == pytest.approx((0, 0), abs=1e-12)


def test_a_layer_that_no_formula_counts_is_found(trained: Callable) -> None:
    trainer = trained("transfusion")
    beside = nn.Linear(32, 32, bias=False)
    trainer.model.backbone.blocks[0].register_forward_hook(lambda block, given, made: made + beside(made))
    assert excess(trainer)[0] < -0.005


def test_an_output_layer_that_is_computed_twice_is_found(trained: Callable) -> None:
    trainer = trained("chameleon")
    once = trainer.model.logits
    trainer.model.logits = lambda hidden, dtype=None: (once(hidden, dtype) + once(hidden, dtype)) / 2
    assert excess(trainer)[1] == pytest.approx(-0.5)


def test_what_was_spent_is_kept_in_both_ways(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    recipe, data = small_recipe(), shapes()
    trainer = Trainer(recipe, fitted(recipe, data), data)
    seen = []
    of = trainer.costs.output_flops
    trainer.costs.output_flops = lambda row: seen.append(of(row)) or seen[-1]
    for _ in range(2):
        trainer.step()
    assert 0 < trainer.progress.output_flops < trainer.progress.flops
    assert trainer.progress.output_flops in (pytest.approx(sum(seen)), pytest.approx(sum(seen) / 2))
