"""Codes in an order drawn anew: who sees which, what is scored, and samples that follow the order."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from transfuse.documents import Item
from transfuse.modalities.modality import Evaluate
from transfuse.registry.plugins import Plugins
from transfuse_vq.ordered import OrderedVQ

CODES, SIDES, WIDTH = 7, (2, 3), 16
N = 6


@pytest.fixture
def make(installed: Plugins) -> Callable[..., OrderedVQ]:
    def build(**more) -> OrderedVQ:
        section = {"kind": "ordered_vq", "codec": {"name": "vq", "codes": CODES}, **more}
        made = installed.choose("modality", section, "image").build(name="image")
        made.sizes = [SIDES]
        torch.manual_seed(0)
        made.connect(WIDTH)
        return made

    return build


def seeds(n: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(n)]


def clean(count: int) -> Tensor:
    """Payloads as spans hold them: ``place · V + code``."""
    codes = np.random.default_rng(0).integers(CODES, size=(count, *SIDES))
    return torch.from_numpy(codes + CODES * np.arange(N).reshape(SIDES))


def test_each_visit_has_an_order_and_all_codes(make: Callable) -> None:
    """Orders are even over permutations; codes and places stay together; the target is the codes in that order."""
    x = clean(300)
    placed, t, target = make().corrupt(x, seeds(300), [False] * 300)
    assert torch.equal(placed.flatten(1).sort(1).values, x.flatten(1).sort(1).values)
    assert torch.equal(target, placed % CODES)
    assert not t.any()
    firsts = np.bincount((placed.flatten(1)[:, 0] // CODES).numpy(), minlength=N)
    assert firsts.min() > 25
    again = make().corrupt(x[5:6], seeds(1, 5), [True])[0]
    assert torch.equal(again[0], placed[5])
    rows = make(order="rows").corrupt(x, seeds(300), [False] * 300)[0]
    assert torch.equal(rows, x)


def test_a_position_holds_the_code_before_and_the_place_to_come_and_no_code_of_its_own(
    make: Callable,
) -> None:
    """So under a causal mask code i is predicted from codes before it, wherever those lie; and the last is seen too."""
    image = make()
    x = image.corrupt(clean(1), seeds(1), [False])[0]
    vectors, _ = image.embed(x, torch.zeros(1))
    assert vectors.shape == (1, N + 1, WIDTH)
    for i in range(N):
        other = x.clone().flatten()
        other[i] = other[i] // CODES * CODES + (other[i] + 1) % CODES  # another code at the same place
        moved = (image.embed(other.view_as(x), torch.zeros(1))[0] - vectors).abs().sum(-1)[0] > 0
        assert moved.nonzero().flatten().tolist() == [i + 1]
    flat = x.flatten()
    swapped = flat[[*range(N - 2), N - 1, N - 2]].view_as(x)  # the last two in another order
    moved = (image.embed(swapped, torch.zeros(1))[0] - vectors).abs().sum(-1)[0] > 0
    assert moved.nonzero().flatten().tolist() == [N - 2, N - 1, N]


def test_the_loss_is_a_mean_over_codes_of_each_image(make: Callable) -> None:
    image = make()
    logits = torch.randn(3, N, CODES, dtype=torch.float64)
    target = torch.randint(CODES, (3, *SIDES))
    loss = image.objective(logits, target, torch.zeros(3))
    by_hand = -logits.log_softmax(-1).gather(-1, target.flatten(1)[..., None]).mean((1, 2)).sum()
    torch.testing.assert_close(loss.sum, by_hand)
    assert loss.count == 3
    assert image.spans(Item("image", None), np.zeros(SIDES, np.int64))[0].length == N + 1


class Knowing(Evaluate):
    """Knows the picture: at every place its code, whatever the order; and counts what it is asked."""

    def __init__(self, picture: Tensor) -> None:
        self.picture, self.calls = picture.flatten(), 0

    def __call__(self, x_t: Tensor, t: Tensor, guided: bool = True) -> list[Tensor]:
        self.calls += 1
        places = x_t.flatten(1) // CODES
        logits = torch.nn.functional.one_hot(self.picture[places], CODES) * 50.0
        return [logits] * (2 if guided else 1)


@pytest.mark.parametrize("order", ["random", "rows"])
def test_a_sample_is_put_together_place_by_place(make: Callable, order: str) -> None:
    picture = torch.randint(CODES, SIDES, generator=torch.Generator().manual_seed(4))
    knows = Knowing(picture)
    made = make(order=order).sample(knows, "2x3", seeds(3))
    assert torch.equal(made, picture.expand(3, *SIDES))
    assert knows.calls == N


def test_orders_are_the_samples_own(make: Callable) -> None:
    """A sample is the same whichever others are drawn with it."""

    class Flat(Evaluate):
        def __call__(self, x_t: Tensor, t: Tensor, guided: bool = True) -> list[Tensor]:
            return [torch.zeros(len(x_t), N, CODES)] * 2

    three = make().sample(Flat(), "2x3", seeds(3))
    alone = make().sample(Flat(), "2x3", seeds(1, 2))
    assert torch.equal(three[2], alone[0])
    assert len(np.unique(make().sample(Flat(), "2x3", seeds(200)).numpy())) == CODES
