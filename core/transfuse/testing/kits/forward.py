"""What holds of a SpanModality in a forward pass: embed, head and objective, one by one."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from transfuse.modalities import seam
from transfuse.modalities.modality import SpanModality
from transfuse.testing.kits.modality_case import DRAWS, ModalityCase, Noised, seeds
from transfuse.testing.kits.runner import Kit, LeftOut, close, expect

FORWARD: Kit[ModalityCase] = Kit("modality")


@FORWARD.check(
    "change embed so that it returns B × n vectors of the model's width, and the head's state",
    of=SpanModality,
)
def embedding_gives_a_vector_a_position(at: ModalityCase) -> None:
    """embed gives finite vectors, one a position."""
    vectors, _ = at.embed(at.noised())
    expect(vectors.isfinite().all(), "embed gave NaN or infinity")


@FORWARD.check("change embed so that all of x_t reaches the vectors or the state", of=SpanModality)
def embedding_heeds_all_of_x_t(at: ModalityCase) -> None:
    """Every element of x_t changes what is predicted, through the vectors or the state."""
    spans = at.noised()
    if not spans.x_t.is_floating_point():
        raise LeftOut("x_t are whole numbers, without gradients")
    x_t = spans.x_t.clone().requires_grad_()
    moved = Noised(x_t, spans.t, spans.target)
    vectors, state = at.embed(moved)
    (grad,) = torch.autograd.grad((_mixed(vectors) + _mixed(at.head(vectors, state, moved))), x_t)
    blind = int((grad[0] == 0).sum())
    expect(not blind, f"{blind} of {grad[0].numel()} elements of x_t change nothing")


@FORWARD.check("change embed so that what stands where in x_t is told apart", of=SpanModality)
def embedding_keeps_elements_apart(at: ModalityCase) -> None:
    """Of 16 changes of x_t no more than half come to the same: a mean over the span would be all there is."""
    spans = at.noised()
    if not spans.x_t.is_floating_point():
        raise LeftOut("x_t are whole numbers, without gradients")
    x_t = spans.x_t[:1].clone().requires_grad_()
    moved = Noised(x_t, spans.t[:1], spans.target[:1])
    vectors, state = at.embed(moved)
    made = torch.cat([each.flatten() for each in (vectors, at.head(vectors, state, moved))]).double()
    mixes = torch.randn(16, made.numel(), generator=seeds(1)[0], dtype=torch.float64) @ made
    grads = torch.stack([torch.autograd.grad(mix, x_t, retain_graph=True)[0].flatten() for mix in mixes])
    rank, most = int(torch.linalg.matrix_rank(grads.double(), rtol=1e-5)), min(grads.shape)
    expect(rank > most / 2, f"of {most} directions in x_t {rank} make a difference")


@FORWARD.check(
    "change embed or head so that they are told the time, or say does_not = {'time': reason}",
    ability="time",
    of=SpanModality,
)
def predictions_heed_the_time(at: ModalityCase) -> None:
    """The time changes what is predicted of one x_t. Ids of which some are hidden show how many."""
    spans = at.noised()
    if not spans.x_t.is_floating_point():
        raise LeftOut("x_t are whole numbers, which show how many of them are hidden")
    clean = torch.full_like(spans.t, float(seam.call(at.connected, "clean_time")))
    expect(
        not close(at.predict(spans), at.predict(Noised(spans.x_t, clean, spans.target))), "t changes nothing"
    )


@FORWARD.check(
    "change embed and head so that spans of a batch do not meet: no mean over the first axis", of=SpanModality
)
def spans_are_embedded_apart(at: ModalityCase) -> None:
    """A batch of B is B batches of 1, from x_t to the prediction."""
    spans = at.noised()
    whole, (vectors, _) = at.predict(spans), at.embed(spans)
    for i in range(len(spans.t)):
        one = at.one(spans, i)
        expect(
            close(at.embed(one)[0][0], vectors[i]), f"span {i} of a batch is embedded otherwise than alone"
        )
        expect(close(at.predict(one)[0], whole[i]), f"span {i} of a batch is predicted otherwise than alone")


@FORWARD.check(
    "change embed and head so that no layer measures a batch: LayerNorm, and no BatchNorm", of=SpanModality
)
def spans_are_embedded_apart_in_training(at: ModalityCase) -> None:
    """While it trains a batch of B is B batches of 1 too; where nothing is dropped at random."""
    spans, training = at.noised(), copy.copy(at)
    training.model = at.new_model().train()
    training.model.load_state_dict(at.model.state_dict())
    vars(training).pop("connected")
    whole = training.predict(spans)
    if not close(whole, training.predict(spans)):
        raise LeftOut("in training it drops some at random")
    for i in range(len(spans.t)):
        alone = training.predict(at.one(spans, i))[0]
        expect(close(alone, whole[i]), f"in training span {i} of a batch is predicted otherwise than alone")


@FORWARD.check(
    "change embed so that what head needs is in the state that it returns, and not on self", of=SpanModality
)
def the_head_reads_its_own_state(at: ModalityCase) -> None:
    """Another call of embed, before head is called, changes nothing of the prediction."""
    spans, other = at.noised(), at.noised(first=50)
    vectors, state = at.embed(spans)
    first = at.head(vectors, state, spans)
    at.embed(other)
    expect(
        close(at.head(vectors, state, spans), first), "head predicted otherwise after another call of embed"
    )


@FORWARD.check("change embed and head so that they work on copies", of=SpanModality)
def predicting_leaves_x_t_as_it_is(at: ModalityCase) -> None:
    """embed and head write nothing into x_t, t and hidden."""
    spans = at.noised()
    kept = copy.deepcopy(spans)
    vectors, state = at.embed(spans)
    hidden = vectors.detach().clone()
    at.head(vectors.detach(), state, spans)
    expect(spans.x_t.equal(kept.x_t) and spans.t.equal(kept.t), "embed or head changed x_t or t in place")
    expect(vectors.equal(hidden), "head changed hidden in place")


@FORWARD.check("change head so that what it predicts depends on hidden, at every position", of=SpanModality)
def the_head_heeds_hidden(at: ModalityCase) -> None:
    """Every position of the transformer's output changes what is predicted."""
    spans = at.noised()
    vectors, state = at.embed(spans)
    hidden = torch.randn(vectors.shape, generator=seeds(1)[0]).requires_grad_()
    prediction = _mixed(at.head(hidden, state, spans))
    expect(prediction.requires_grad, "the prediction does not depend on hidden")
    (grad,) = torch.autograd.grad(prediction, hidden, allow_unused=True)
    expect(grad is not None, "the prediction does not depend on hidden")
    deaf = [j for j in range(hidden.shape[1]) if not grad[:, j].any()]
    expect(not deaf, f"positions {deaf[:4]} of {hidden.shape[1]} change nothing of the prediction")


@FORWARD.check("change embed and head so that they use no dropout or noise of their own", of=SpanModality)
def predicting_twice_is_the_same(at: ModalityCase) -> None:
    """embed and head are functions of what they are given."""
    spans = at.noised()
    expect(at.predict(spans).equal(at.predict(spans)), "one x_t, t and hidden gave two predictions")


@FORWARD.check(
    "change objective so that it returns a finite sum, with the number of spans as its count", of=SpanModality
)
def the_loss_is_finite_and_counted(at: ModalityCase) -> None:
    """The loss is finite at every time, not negative, and its count is B."""
    for i in range(DRAWS):
        spans = at.noised(i)
        loss = float(at.score(at.predict(spans), spans).sum.detach())
        expect(0 <= loss < float("inf"), f"a loss of {loss} at the times {spans.t.tolist()}")


@FORWARD.check("change objective so that the prediction enters it without detach", of=SpanModality)
def the_objective_heeds_the_prediction(at: ModalityCase) -> None:
    """The loss has a gradient of the prediction of every span."""
    spans = at.noised()
    prediction = at.predict(spans).detach().requires_grad_()
    loss = at.score(prediction, spans).sum
    (grad,) = torch.autograd.grad(loss, prediction, allow_unused=True)
    expect(grad is not None, "the loss does not depend on the prediction")
    deaf = [i for i in range(len(grad)) if not grad[i].any()]
    expect(not deaf, f"the predictions of spans {deaf} change nothing of the loss")


@FORWARD.check("change objective so that it is 0 where prediction and target are equal", of=SpanModality)
def a_perfect_prediction_costs_nothing(at: ModalityCase) -> None:
    """The loss of a perfect prediction is 0, at every time."""
    for i in range(DRAWS):
        spans = at.noised(i)
        loss = float(at.score(_perfect(at, spans), spans).sum.detach())
        expect(abs(loss) < 1e-3, f"a perfect prediction costs {loss:.3g} at the times {spans.t.tolist()}")


@FORWARD.check("change objective so that a prediction further from its target costs more", of=SpanModality)
def worse_predictions_cost_more(at: ModalityCase) -> None:
    """The loss grows with the distance from the target."""
    spans = at.noised()
    right = _perfect(at, spans, sure=4.0)
    wrong = torch.randn(right.shape, generator=seeds(1)[0])
    losses = [
        float(at.score(right + share * (wrong - right), spans).sum.detach()) for share in (0.1, 0.5, 1.0)
    ]
    expect(
        losses[0] < losses[1] < losses[2], f"ever worse predictions cost {[f'{loss:.3g}' for loss in losses]}"
    )


@FORWARD.check(
    "change objective so that it scores every element, also where the target is 0", of=SpanModality
)
def targets_of_0_are_scored(at: ModalityCase) -> None:
    """An error where the target is 0 costs something, and not NaN."""
    spans = at.noised()
    if not spans.target.is_floating_point():
        raise LeftOut("its targets are whole numbers")
    zero = Noised(spans.x_t, spans.t, torch.zeros_like(spans.target))
    loss = float(at.score(torch.ones_like(at.predict(spans)), zero).sum.detach())
    expect(0 < loss < float("inf"), f"a prediction of 1 costs {loss:.3g} where the target is 0")


@FORWARD.check(
    "change objective so that it adds up a mean for each span: flatten(1).mean(1).sum()", of=SpanModality
)
def losses_add_up_over_spans(at: ModalityCase) -> None:
    """The loss of B spans is the sum of the losses of each."""
    spans = at.noised()
    prediction = at.predict(spans).detach()
    whole = at.score(prediction, spans).sum
    cut = [slice(i, i + 1) for i in range(len(spans.t))]
    parts = [at.score(prediction[s], Noised(spans.x_t[s], spans.t[s], spans.target[s])).sum for s in cut]
    total = torch.stack([part.reshape(()) for part in parts]).sum()
    expect(
        close(whole.reshape(()), total),
        f"{float(whole):.4g} for all spans, and {float(total):.4g} one by one",
    )


@FORWARD.check(
    "change objective so that it takes the mean over a span's elements, not their sum", of=SpanModality
)
def long_spans_weigh_as_short_ones(at: ModalityCase) -> None:
    """The same error at every element costs the same in a span of twice the size."""
    spans = at.noised()
    if spans.target.dim() != 2 or at.predict(spans).shape != spans.target.shape:
        raise LeftOut(f"it is tried on spans of one axis, and these are {list(spans.target.shape[1:])}")
    double = Noised(spans.x_t.repeat(1, 2), spans.t, spans.target.repeat(1, 2))
    short, long = (at.score(s.target + 1, s).sum for s in (spans, double))
    expect(
        close(short, long),
        f"an error of 1 costs {float(short):.3g}, and {float(long):.3g} in spans twice as long",
    )


def _mixed(x: Tensor) -> Tensor:
    """A number that every element changes, each by another amount."""
    x = x.double()
    return (x * torch.linspace(0.5, 1.5, x.numel(), dtype=x.dtype).reshape(x.shape)).sum()


def _perfect(at: ModalityCase, spans: Noised, sure: float = 100.0) -> Tensor:
    """The prediction that equals the target; of ids logits that are so ``sure`` of it."""
    prediction, target = at.predict(spans).detach(), spans.target
    if prediction.shape == target.shape and target.is_floating_point():
        return target.clone()
    ids = target.flatten(1)
    if not target.is_floating_point() and prediction.shape[:-1] == ids.shape:
        return sure * F.one_hot(ids.clamp(min=0), prediction.shape[-1]).float()
    raise LeftOut(
        f"predictions {list(prediction.shape)} are of another kind than targets {list(target.shape)}"
    )
