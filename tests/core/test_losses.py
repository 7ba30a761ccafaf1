"""Sums with counts: micro-batches add up to the batch, weights are never guessed, nothing is left out in silence."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transfuse.errors import TransfuseError
from transfuse.modalities.loss import Loss
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.rows import join
from transfuse.training.combiner import Combiner, add_counts

from tests.core.tiny import Kit, captioned

WEIGHTED = Combiner({"text": 1.0, "image": 5.0})


def loss(values: list[float]) -> Loss:
    return Loss(torch.tensor(values, dtype=torch.float64).sum(), float(len(values)))


def test_the_loss_is_the_weighted_sum_of_means_and_is_broken_down_unweighted() -> None:
    losses = {"text": loss([1.0, 3.0]), "image": loss([0.5])}
    combined = WEIGHTED.combine(losses, {"text": 2, "image": 1})
    assert float(combined.total) == 2.0 + 5 * 0.5
    assert combined.means == {"text": 2.0, "image": 0.5}


def test_losses_add_as_sums_and_counts() -> None:
    total = loss([1.0, 3.0]) + loss([2.0])
    assert (float(total.sum), total.count, total.mean) == (6.0, 3.0, 2.0)
    assert add_counts([{"text": 2, "image": 1}, {"text": 3}]) == {"text": 5, "image": 1}


numbers = st.lists(st.floats(0, 100), min_size=1, max_size=8)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
def test_shares_of_micro_batches_add_up_to_the_whole(parts: list[tuple[list[float], list[float]]]) -> None:
    losses = [{"text": loss(text), "image": loss(image)} for text, image in parts]
    counts = add_counts({name: one.count for name, one in part.items()} for part in losses)
    whole = {name: sum((part[name] for part in losses[1:]), losses[0][name]) for name in counts}
    shares = [WEIGHTED.combine(part, counts) for part in losses]
    expected = WEIGHTED.combine(whole, counts)
    torch.testing.assert_close(sum(share.total for share in shares), expected.total, rtol=1e-12, atol=1e-12)
    for name, mean in expected.means.items():
        assert sum(share.means[name] for share in shares) == pytest.approx(mean, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(
    kit: Kit, dtype: torch.dtype, tolerance: float
) -> None:
    model = kit.model().to(dtype).train()
    documents = [
        captioned(0), captioned(1, side=8), captioned(2, first="image"), captioned(3), captioned(4, side=8),
    ]  # fmt: skip
    sequences = [model.layout.sequence(d) for d in documents]

    def gradients(rows: list[list[int]]) -> tuple[float, dict[str, torch.Tensor]]:
        batches = [
            _as(collate(join([sequences[i] for i in row]), model.modalities, Key(0)), dtype) for row in rows
        ]
        counts = add_counts(batch.counts for batch in batches)
        model.zero_grad()
        total = 0.0
        for batch in batches:
            combined = WEIGHTED.combine(model.losses(batch), counts)
            combined.total.backward()
            total += float(combined.total.detach())
        return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    whole, expected = gradients([[0, 1, 2, 3, 4]])
    for rows in ([[0, 1], [2], [3, 4]], [[4], [3], [2], [1], [0]]):
        total, found = gradients(rows)
        assert total == pytest.approx(whole, rel=tolerance)
        for name, gradient in expected.items():
            error = (found[name] - gradient).norm() / gradient.norm()
            assert float(error) < tolerance, name


def _as(batch: Batch, dtype: torch.dtype) -> Batch:
    groups = (replace(g, x_t=g.x_t.to(dtype), target=g.target.to(dtype)) for g in batch.groups)
    return replace(batch, groups=tuple(groups))


def test_counts_are_known_before_the_forward_pass(kit: Kit) -> None:
    model = kit.model("text", "image", "image_vq").train()
    row = join([
        model.layout.sequence(captioned(0)), model.layout.sequence(captioned(1, image="image_vq")),
    ])  # fmt: skip
    batch = collate(row, model.modalities, Key(0))
    assert batch.counts == {name: one.count for name, one in model.losses(batch).items()}
    assert batch.counts["image"] == 1
    assert batch.counts["image_vq"] == 4
    # Words, two begin markers and two ends are the text's to predict.
    assert batch.counts["text"] == int(row.columns["text"].sum()) + 4


def test_a_forgotten_weight_is_an_error_with_a_hint() -> None:
    with pytest.raises(
        TransfuseError, match=r"'text' has a loss but no weight.*`loss: \{text: 1\}`.*did you mean 'txt'"
    ):
        Combiner({"txt": 1.0}).combine({"text": loss([1.0])}, {"text": 1})


def test_weight_0_takes_no_part_but_is_still_shown() -> None:
    parameter = torch.tensor(3.0, requires_grad=True)
    losses = {"text": Loss(parameter * 2, 1.0), "image": loss([1.0])}
    combined = Combiner({"text": 0.0, "image": 1.0}).combine(losses, {"text": 1, "image": 1})
    combined.total.backward()
    assert float(combined.total.detach()) == 1.0
    assert combined.means["text"] == 6.0
    assert float(parameter.grad or 0) == 0


def test_a_step_without_any_loss_is_an_error() -> None:
    with pytest.raises(TransfuseError, match=r"^nothing in this step carries a loss: no item has loss=True$"):
        WEIGHTED.combine({}, {})


def test_a_micro_batch_without_loss_adds_nothing_to_a_step_that_has_some() -> None:
    combined = WEIGHTED.combine({}, {"text": 3})
    combined.total.backward()
    assert float(combined.total.detach()) == 0
    assert combined.means == {}


def test_a_loss_that_the_counts_leave_out_is_an_error() -> None:
    with pytest.raises(TransfuseError, match="'image' has a loss, and the step's counts leave it out"):
        WEIGHTED.combine({"text": loss([1.0]), "image": loss([1.0])}, {"text": 1})
