"""Ranks that train together do what one does: equal rows, losses and gradients, each with its part of the weights."""

import pytest
import torch
from transfuse.errors import TransfuseError
from transfuse.training.ranks import ALONE, Ranks
from transfuse.training.sharding import mesh_of

from tests.tiny.rank_programs import losses
from tests.tiny.together import together

PROGRAM = "tests.tiny.rank_programs:losses"
CLOSE = 1e-9  # relative, in float64


def compared(
    ranks: int, steps: int, *settings: str, name: str = "transfusion", seldom: bool = False
) -> list[int]:
    """Each of several ranks measures what one alone does; together they hold what it holds. How many items were encoded
    by codecs with weights, by one alone and by each of them."""
    settings = ("train.ema=0.9", f"train.steps={steps}", *settings)
    one = losses(ALONE, steps, settings, name, seldom)
    each = together(ranks, PROGRAM, steps, settings, name, seldom)
    for mine in each:
        assert mine["steps"] == each[0]["steps"], "all ranks know the same"
        for there, here in zip(one["steps"], mine["steps"], strict=True):
            assert here == pytest.approx(there, rel=CLOSE)
    divided = next((int(s.split("=")[1]) for s in settings if s.startswith("train.shard=")), ranks)
    assert sum(mine["held"] for mine in each) == one["held"] * ranks // divided
    assert max(mine["held"] for mine in each) < 1.1 * one["held"] / divided
    return [one["encoded"], *(mine["encoded"] for mine in each)]


def test_two_ranks_have_the_losses_of_one_and_half_the_weights() -> None:
    """Five rows, so that one rank computes a row of the other's once more and throws it away."""
    compared(2, 20, "train.rows=5")


def test_a_modality_may_be_absent_on_a_rank() -> None:
    """A row a document: on some ranks and in some steps there is no image, no text to predict, or no row at all."""
    compared(
        3, 8, "train.rows=2", "train.budget=28", "train.look_ahead=1", "image.patcher.name=unet", seldom=True
    )


def test_weights_are_divided_in_groups_of_ranks_and_layers_computed_again() -> None:
    compared(4, 4, "train.rows=8", "train.shard=2", "train.recompute=true")


def test_every_rank_has_all_weights_where_they_are_not_divided() -> None:
    compared(
        2,
        4,
        "train.rows=4",
        "train.shard=1",
        "model.block=per-modality",
        "train.lr_scale={backbone: {text: 0}}",
    )


def test_ids_of_codes_and_frozen_blocks() -> None:
    settings = ("train.rows=4", "train.lr_scale={backbone: 0}", "model.tied=true")
    alone, *each = compared(2, 4, *settings, name="chameleon")
    assert alone > 10
    assert alone <= sum(each) <= alone + 2, "each item is encoded by one rank, and they read two at a time"
    assert max(each) - min(each) <= 2


def test_ranks_that_are_no_groups_are_an_error() -> None:
    with pytest.raises(
        TransfuseError, match=r"^train.shard: 6 ranks are no groups of 4: give a divisor of 6"
    ):
        mesh_of(Ranks(0, 6, torch.device("cpu")), 4)
