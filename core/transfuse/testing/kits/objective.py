"""The kit for objectives: corruption, targets and losses that agree with each other."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transfuse.modalities.loss import Loss
from transfuse.modalities.objective import SpanObjective, TokenObjective, broadcast_like
from transfuse.testing.kits.runner import Kit, expect, global_randomness_untouched

OBJECTIVE: Kit["ObjectiveCase"] = Kit("objective")
B, SHAPE = 3, (2, 5)
DRAWS = 40


@dataclass(frozen=True)
class ObjectiveCase:
    """A TokenObjective or a SpanObjective."""

    part: Any

    @property
    def x0(self) -> Tensor:
        return torch.rand(B, *SHAPE, generator=torch.Generator().manual_seed(1)) * 2 - 1

    def corrupted(self, first: int = 0, context: bool = False, n: int = B) -> tuple[Tensor, Tensor, Tensor]:
        return self.part.corrupt(self.x0[:n], generators(n, first), [context] * n)

    def loss(self, prediction: Tensor, target: Tensor, t: Tensor) -> Tensor:
        """The sum, once its count is right."""
        found = self.part.score(prediction, target, t)
        expect(isinstance(found, Loss), f"score gave {type(found).__name__}, not a Loss")
        expect(found.count == len(target), f"the count is {found.count} for {len(target)} spans")
        return found.sum.reshape(())


def generators(n: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(500 + first + i) for i in range(n)]


def near(a: Tensor, b: Tensor, error: float = 1e-4) -> bool:
    a, b = a.detach().double(), b.detach().double()
    return a.shape == b.shape and bool(((a - b).abs() <= error * (1 + b.abs())).all())


@OBJECTIVE.check(
    "change coefficients so that at clean_time the signal is 1 and the noise 0", of=SpanObjective
)
def clean_time_is_clean(at: ObjectiveCase) -> None:
    """At clean_time x_t is x0."""
    signal, noise = (float(c) for c in at.part.coefficients(torch.tensor([at.part.clean_time])))
    expect(
        abs(signal - 1) < 0.01 and abs(noise) < 0.1,
        f"signal {signal:.3g} and noise {noise:.3g} at clean_time",
    )


@OBJECTIVE.check("change share so that it is 0 at clean_time and 1 at pure noise", of=SpanObjective)
def shares_of_noise_are_shares(at: ObjectiveCase) -> None:
    """share is 0 at clean_time, within 0 and 1 at every time drawn, and near 1 where sampling begins."""
    zero = float(at.part.share(torch.tensor([at.part.clean_time])))
    expect(abs(zero) < 0.01, f"share is {zero:.3g} at clean_time")
    drawn = torch.cat([at.part.share(at.corrupted(9 * i)[1]) for i in range(DRAWS)])
    expect(
        ((drawn >= 0) & (drawn <= 1)).all(),
        f"shares of drawn times go from {drawn.min():.3g} to {drawn.max():.3g}",
    )
    first = float(at.part.share(at.part.times(10)[:1]))
    expect(first > 0.9, f"share is {first:.3g} at the first of times(10)")


@OBJECTIVE.check(
    "change share and coefficients so that noise grows and signal falls with the share", of=SpanObjective
)
def noise_grows_with_its_share(at: ObjectiveCase) -> None:
    """Along times(n), from noise to clean, the share of noise falls, the noise falls and the signal grows."""
    times = at.part.times(20)
    signal, noise = at.part.coefficients(times)
    for name, values in (("share", at.part.share(times)), ("noise", noise), ("signal", -signal)):
        expect((values.diff() <= 1e-9).all(), f"along times(20) the {name} goes back")


@OBJECTIVE.check("change times so that it gives as many times as evaluations are asked for", of=SpanObjective)
def as_many_times_as_evaluations(at: ObjectiveCase) -> None:
    """times(n) are n finite times."""
    for n in (1, 2, 25):
        times = at.part.times(n)
        expect(times.shape == (n,) and times.isfinite().all(), f"times({n}) gave {list(times.shape)}")


@OBJECTIVE.check(
    "change times so that the last is before clean_time: what leads to it is the last step", of=SpanObjective
)
def the_last_time_has_noise_left(at: ObjectiveCase) -> None:
    """At each of times(n) there is noise to be told from x_t, and an estimate of x0 is finite."""
    for n in (2, 20):
        times = at.part.times(n)
        noise = at.part.coefficients(times)[1]
        expect((noise > 0).all(), f"times({n}) have the noise {noise.tolist()[-2:]} in the end")


@OBJECTIVE.check("change times so that it begins where the target can be solved for x0", of=SpanObjective)
def estimates_are_finite_where_samplers_ask(at: ObjectiveCase) -> None:
    """At each of times(n) a prediction gives an x0 that is finite."""
    times = at.part.times(20)
    x_t, prediction = torch.randn(2, 20, 3, generator=generators(1)[0])
    found = at.part.estimate(x_t, prediction, times)
    expect(
        found.isfinite().all(), f"at the times {times[~found.isfinite().all(1)].tolist()} x0 is not finite"
    )


@OBJECTIVE.check("change draw_time so that the times at which samplers begin are trained", of=SpanObjective)
def training_reaches_where_sampling_begins(at: ObjectiveCase) -> None:
    """Some of the times drawn are nearly as far from clean as the first of times(n)."""
    first = float(at.part.share(at.part.times(10)[:1]))
    drawn = torch.cat([at.part.share(at.corrupted(9 * i)[1]) for i in range(DRAWS)])
    seen = f"shares of drawn times reach {drawn.max():.2f}, and sampling begins at {first:.2f}"
    expect(drawn.max() > 0.75 * first, seen)


@OBJECTIVE.check(
    "change draw_time and corrupt so that they draw from each span's own generator alone", of=SpanObjective
)
def corruption_is_fixed_by_its_generators(at: ObjectiveCase) -> None:
    """Equal generators, equal times and noise; a span does not rest on the others of its batch."""
    with global_randomness_untouched():
        one, two = at.corrupted(), at.corrupted()
    expect(
        all(a.equal(b) for a, b in zip(one, two, strict=True)), "generators of equal seeds gave other noise"
    )
    for i in range(B):
        alone = at.part.corrupt(at.x0[i : i + 1], generators(1, i), [False])
        same = all(near(a[0], b[i]) for a, b in zip(alone, one, strict=True))
        expect(same, f"span {i} is corrupted otherwise alone than in a batch")


@OBJECTIVE.check(
    "change corrupt and noised so that they make new tensors and write into none", of=SpanObjective
)
def corruption_leaves_clean_data_as_they_are(at: ObjectiveCase) -> None:
    """corrupt writes nothing into x0."""
    x0 = at.x0
    at.part.corrupt(x0, generators(B), [False] * B)
    expect(x0.equal(at.x0), "corrupt changed x0 in place")


@OBJECTIVE.check(
    "change draw_time so that spans that others are predicted from have no more noise", of=SpanObjective
)
def context_has_no_more_noise(at: ObjectiveCase) -> None:
    """On average a time drawn for context has no larger share of noise."""
    plain, context = (
        torch.cat([at.part.share(at.corrupted(9 * i, context=c)[1]) for i in range(DRAWS)]).mean()
        for c in (False, True)
    )
    expect(context <= plain + 0.02, f"a mean share of {context:.2f} in context, and {plain:.2f} elsewhere")


@OBJECTIVE.check(
    "change corrupt so that x_t is signal · x0 + noise · ε, at the time it returns", of=SpanObjective
)
def corruption_is_signal_and_noise(at: ObjectiveCase) -> None:
    """What is corrupted is the mixture that coefficients say, of x0 and of noise of variance 1."""
    spread = []
    for i in range(DRAWS):
        x_t, t, _ = at.corrupted(9 * i)
        signal, noise = (broadcast_like(c, x_t) for c in at.part.coefficients(t))
        use = noise.flatten() > 0.1
        spread.append((((x_t - signal * at.x0) / noise)[use]).flatten())
    eps = torch.cat(spread)
    close = abs(float(eps.mean())) < 0.25 and 0.6 < float(eps.var()) < 1.5
    expect(close, f"(x_t - signal·x0) / noise has mean {eps.mean():.2f} and variance {eps.var():.2f}")


@OBJECTIVE.check("change estimate so that it solves the target for x0", of=SpanObjective)
def estimates_invert_targets(at: ObjectiveCase) -> None:
    """From x_t and the perfect prediction, estimate gives x0."""
    for i in range(DRAWS):
        x_t, t, target = at.corrupted(9 * i)
        use = at.part.share(t) < 0.95  # where hardly any signal is left, rounding is all there is
        found = at.part.estimate(x_t, target, t)[use]
        far = float((found - at.x0[use]).abs().max()) if use.any() else 0.0
        expect(far < 0.01, f"x0 is estimated off by {far:.3g} at shares {at.part.share(t).tolist()}")


@OBJECTIVE.check("change score so that it is 0 where prediction and target are equal", of=SpanObjective)
def a_perfect_prediction_scores_0(at: ObjectiveCase) -> None:
    """The loss of a perfect predictor is 0, at every time."""
    for i in range(DRAWS):
        _, t, target = at.corrupted(9 * i)
        loss = float(at.loss(target.clone(), target, t))
        expect(loss == 0, f"a perfect prediction scores {loss:.3g} at the times {t.tolist()}")


@OBJECTIVE.check(
    "change score so that a prediction further from its target costs more, at every time", of=SpanObjective
)
def worse_predictions_cost_more(at: ObjectiveCase) -> None:
    """The loss grows with the distance from the target, and is finite."""
    for i in range(DRAWS):
        _, t, target = at.corrupted(9 * i)
        for sign in (1, -1):
            losses = [float(at.loss(target + sign * far, target, t)) for far in (0.1, 0.5, 1.0)]
            rising = 0 < losses[0] < losses[1] < losses[2] < 1e9
            expect(rising, f"ever worse predictions cost {losses} at {t.tolist()}")


@OBJECTIVE.check("change score so that it adds up a mean over each span's elements", of=SpanObjective)
def losses_add_up_over_spans(at: ObjectiveCase) -> None:
    """The loss of B spans is the sum of the losses of each, and longer spans weigh no more."""
    _, t, target = at.corrupted()
    whole = at.loss(target + 1, target, t)
    parts = sum(at.loss(target[i : i + 1] + 1, target[i : i + 1], t[i : i + 1]) for i in range(B))
    expect(
        near(whole, torch.as_tensor(parts)),
        f"{float(whole):.4g} for all spans, {float(parts):.4g} one by one",
    )
    long = target.repeat(1, 1, 2)
    doubled = at.loss(long + 1, long, t)
    expect(near(whole, doubled), f"{float(whole):.4g}, and {float(doubled):.4g} in spans of twice the size")


@OBJECTIVE.check("change score so that the prediction enters it without detach", of=SpanObjective)
def the_score_heeds_the_prediction(at: ObjectiveCase) -> None:
    """The loss has a gradient of every element of the prediction."""
    _, t, target = at.corrupted()
    prediction = (target + 0.3).requires_grad_()
    (grad,) = torch.autograd.grad(at.loss(prediction, target, t), prediction, allow_unused=True)
    expect(grad is not None and (grad != 0).all(), "some of the prediction changes nothing of the loss")


def _logits() -> tuple[Tensor, Tensor]:
    targets = torch.tensor([0, 1, 1, 1, 4, 5])
    return torch.randn(6, 9, generator=torch.Generator().manual_seed(2)), targets


@OBJECTIVE.check("change score so that it adds up over tokens, and counts them", of=TokenObjective)
def scores_add_up_over_tokens(at: ObjectiveCase) -> None:
    """The loss of n tokens is finite, the sum of the losses of each, and its count is n."""
    logits, targets = _logits()
    whole = at.part.score(logits, targets)
    parts = sum(at.part.score(logits[i : i + 1], targets[i : i + 1]).sum for i in range(6))
    expect(whole.count == 6, f"the count is {whole.count} for 6 tokens")
    expect(
        near(whole.sum, torch.as_tensor(parts)),
        f"{float(whole.sum):.4g} for all, {float(parts):.4g} one by one",
    )


@OBJECTIVE.check("change score so that likelier targets cost less", of=TokenObjective)
def likelier_targets_score_less(at: ObjectiveCase) -> None:
    """A higher logit at any target lowers the loss, and one of -inf elsewhere leaves it finite."""
    logits, targets = _logits()
    for i in range(6):
        raised = logits + F.one_hot(targets, 9) * (torch.arange(6) == i)[:, None]
        before, after = (float(at.part.score(x, targets).sum) for x in (logits, raised))
        expect(after < before, f"a loss of {before:.4g}, and {after:.4g} where target {i} is likelier")
    masked = logits.clone()
    masked[:, 8] = -torch.inf
    loss = float(at.part.score(masked, targets).sum)
    expect(abs(loss) < float("inf"), f"a loss of {loss} where an id may not be predicted yet")
