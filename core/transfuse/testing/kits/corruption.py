"""What holds of a SpanModality's corrupt and noise_share: which noise, how much of it, and drawn from what."""

import torch

from transfuse.modalities import seam
from transfuse.modalities.modality import SpanModality
from transfuse.testing.kits.modality_case import DRAWS, ModalityCase
from transfuse.testing.kits.runner import Kit, LeftOut, close, expect, global_randomness_untouched

CORRUPTION: Kit[ModalityCase] = Kit("modality")


@CORRUPTION.check(
    "change corrupt so that x_t and target have the payload's shape and dtype, and t is a float a span",
    of=SpanModality,
)
def corruption_keeps_shapes(at: ModalityCase) -> None:
    """corrupt gives x_t and target as the clean payloads are, and a finite time for each span."""
    at.noised()


@CORRUPTION.check(
    "change corrupt so that it draws each span's time and noise from that span's generator", of=SpanModality
)
def corruption_is_fixed_by_its_generators(at: ModalityCase) -> None:
    """Equal generators, equal noise."""
    one, two = at.noised(), at.noised()
    expect(one.x_t.equal(two.x_t) and one.t.equal(two.t), "generators of equal seeds gave other noise")


@CORRUPTION.check("change corrupt so that it draws noise and time from the generators", of=SpanModality)
def corruption_is_drawn(at: ModalityCase) -> None:
    """Other generators, other noise."""
    one, two = at.noised(), at.noised(first=50)
    expect(not one.x_t.equal(two.x_t), "generators of other seeds gave the same noise")


@CORRUPTION.check("change corrupt so that span i draws from generators[i] and from no other", of=SpanModality)
def spans_are_corrupted_apart(at: ModalityCase) -> None:
    """A span's noise does not rest on the others of its batch, nor on their order."""
    whole = at.noised()
    for i in range(len(at.clean)):
        alone = at.noised(i, at.clean[i : i + 1])
        same = close(alone.x_t[0], whole.x_t[i].to(alone.x_t)) and alone.t[0] == whole.t[i]
        expect(same, f"span {i} of a batch is corrupted otherwise than alone, from an equal generator")


@CORRUPTION.check("change corrupt so that it reads is_context[i] for span i", of=SpanModality)
def context_is_each_spans_own(at: ModalityCase) -> None:
    """Whether another span of the batch is context changes nothing of a span."""
    flags = [i == 0 for i in range(len(at.clean))]
    whole = at.noised(context=flags)
    for i, flag in enumerate(flags):
        alone = at.noised(i, at.clean[i : i + 1], [flag])
        same = close(alone.x_t[0], whole.x_t[i].to(alone.x_t))
        expect(same, f"span {i} is corrupted otherwise where span 0 of its batch is context")


@CORRUPTION.check(
    "change corrupt so that it draws from the generators alone: torch.randn(shape, generator=g)",
    of=SpanModality,
)
def corruption_leaves_global_randomness_alone(at: ModalityCase) -> None:
    """corrupt draws nothing from a global random state."""
    at.connected  # noqa: B018, its weights are drawn from torch's
    with global_randomness_untouched():
        at.noised()


@CORRUPTION.check("change corrupt so that it makes new tensors and writes into none", of=SpanModality)
def corruption_leaves_clean_data_as_they_are(at: ModalityCase) -> None:
    """corrupt writes nothing into the clean payloads."""
    clean = at.clean
    kept = clean.clone()
    at.noised(clean=clean)
    expect(clean.equal(kept), "corrupt changed the clean payloads in place")


@CORRUPTION.check(
    "change corrupt so that x_t holds noise, more of it at some times than at others", of=SpanModality
)
def corruption_noises(at: ModalityCase) -> None:
    """x_t is another than the clean payload."""
    far = max(float((at.noised(i).x_t != at.clean).float().mean()) for i in range(DRAWS))
    expect(far > 0, "x_t is the clean payload at every time that was drawn")


@CORRUPTION.check(
    "change noise_share so that it is 0 at clean_time and 1 at pure noise, whatever the times count in",
    of=SpanModality,
)
def noise_share_is_a_share(at: ModalityCase) -> None:
    """noise_share is 0 at clean_time, and within 0 and 1 at every time that is drawn."""
    clean = torch.tensor([float(seam.call(at.connected, "clean_time"))])
    zero = float(seam.call(at.connected, "noise_share", clean))
    expect(abs(zero) < 1e-3, f"noise_share is {zero:.3g} at the clean time {float(clean):g}")
    for i in range(DRAWS):
        share = seam.call(at.connected, "noise_share", at.noised(i).t)
        expect(
            ((share >= 0) & (share <= 1)).all(),
            f"noise_share is {share.tolist()} for times that corrupt drew",
        )


@CORRUPTION.check("change noise_share so that it takes each time by itself", of=SpanModality)
def a_share_is_of_its_own_time(at: ModalityCase) -> None:
    """The share of a time does not rest on the other times of a batch."""
    t = at.noised().t
    whole = seam.call(at.connected, "noise_share", t)
    alone = torch.cat([seam.call(at.connected, "noise_share", t[i : i + 1]) for i in range(len(t))])
    expect(close(alone, whole), f"noise_share is {whole.tolist()} at once, and {alone.tolist()} one by one")


@CORRUPTION.check(
    "change corrupt and noise_share so that a span at a time of more noise is further from clean",
    of=SpanModality,
)
def more_noise_is_further_from_clean(at: ModalityCase) -> None:
    """Over many draws, spans of a larger share of noise lie further from the clean payload."""
    shares, far = [], []
    for i in range(4 * DRAWS):
        spans = at.noised(7 * i)
        shares += seam.call(at.connected, "noise_share", spans.t).double().tolist()
        far += (spans.x_t.double() - at.clean.double()).abs().flatten(1).mean(dim=1).tolist()
    if len({*shares}) < 3:
        raise LeftOut("it has fewer than three times")
    like = float(torch.corrcoef(torch.tensor([shares, far], dtype=torch.float64))[0, 1])
    expect(like > 0, f"share of noise and distance from clean correlate by {like:.2f}")
