"""What holds of a SpanModality's samples: shape and numbers, whose randomness, and what they depend on."""

import numpy as np
import torch
from torch import Tensor

from transfuse.documents import Document, Item
from transfuse.generation.decoding import generate
from transfuse.modalities import seam
from transfuse.modalities.modality import Evaluate, SpanModality
from transfuse.modalities.objective import broadcast_like
from transfuse.testing.kits.modality_case import ModalityCase, seeds
from transfuse.testing.kits.raw_case import off, shown
from transfuse.testing.kits.runner import Kit, LeftOut, close, expect, global_randomness_untouched

SAMPLING: Kit[ModalityCase] = Kit("modality")


class Answers(Evaluate):
    """A model's stand-in: each span's prediction is a function of that span's x_t alone, times ``scale``.

    prediction: the shape of one. views: the scale of what its views predict, by default one that falls from view to
    view. It checks what it is asked, as a model does, and keeps the shares of noise.
    """

    def __init__(
        self,
        modality: SpanModality,
        like: Tensor,
        prediction: torch.Size,
        scale: float = 1.0,
        views: float | None = None,
    ) -> None:
        self.modality, self.like, self.prediction = modality, like, prediction
        self.scale, self.views, self.shares = scale, views, []

    def __call__(self, x_t: Tensor, t: Tensor, guided: bool = True) -> list[Tensor]:
        seam.asked(self.modality, x_t, t, self.like)
        self.shares += seam.call(self.modality, "noise_share", t).tolist()
        if self.prediction == x_t.shape[1:] and x_t.is_floating_point():
            made = x_t.tanh()
        else:
            flat = x_t.flatten(1).double()
            seed = (flat * torch.arange(1, flat.shape[1] + 1)).sum(dim=1)
            steps = torch.arange(self.prediction.numel(), dtype=torch.float64)
            made = torch.sin(seed[:, None] + steps).reshape(-1, *self.prediction).float()
        views = 1 + len(seam.call(self.modality, "views")) if guided else 1
        if self.views is None:
            return [self.scale * made / (1 + view) for view in range(views)]
        return [(self.views if view else self.scale) * made for view in range(views)]


class Knowing(Evaluate):
    """A perfect model of one payload x0, and of its views: what `corrupt` says is predicted at any x_t and t.

    At the times that are drawn, x0 and zeros corrupted alike show how much of x0 there is in x_t (s) and in the target
    (a), and how much of the noise in x_t the target has (r); between these times they are interpolated.
    """

    def __init__(self, modality: SpanModality, x0: Tensor, draws: int = 400) -> None:
        self.views, self.x0 = 1 + len(seam.call(modality, "views")), x0
        of = [torch.stack([each] * draws) for each in (x0, 0 * x0, -x0)]
        made = [seam.corrupt(modality, each, seeds(draws), [False] * draws) for each in of]
        (x_t, t, target), (noise, _, aim), (other, _, beyond) = made
        shown, still = (x_t - noise).flatten(1), noise.flatten(1)
        wanted, left = (target - aim).flatten(1), aim.flatten(1)
        s, a, r = share(shown, x0.flatten()), share(wanted, x0.flatten()), share(left, still)
        lines = (
            close(x_t + other, 2 * noise),
            close(target + beyond, 2 * aim),
            close(r[:, None] * still, left),
        )
        if not all(lines):
            raise LeftOut("what it corrupts is no mixture of the payload and noise")
        order = t.argsort()
        self.t, self.table = t[order].numpy(), [each[order].double().numpy() for each in (s, a, r)]

    def __call__(self, x_t: Tensor, t: Tensor, guided: bool = True) -> list[Tensor]:
        found = [torch.from_numpy(np.interp(t.double().numpy(), self.t, each)) for each in self.table]
        s, a, r = (broadcast_like(each, x_t) for each in found)
        return [a * self.x0 + r * (x_t - s * self.x0)] * (self.views if guided else 1)


def share(values: Tensor, of: Tensor) -> Tensor:
    """The multiple of ``of`` that each row of values is nearest to; 0 where ``of`` is 0."""
    return (values * of).sum(-1) / (of * of).sum(-1).clamp(min=1e-30)


def stand_in(at: ModalityCase, label: str, n: int, scale: float = 1.0, views: float | None = None) -> Answers:
    """What answers instead of a model for n spans of a label."""
    blank = seam.payload(at.modality, "blank", label)
    (span, *_), clean_time = at.spans(blank), float(seam.call(at.connected, "clean_time"))
    like, t = torch.from_numpy(np.stack([span.payload] * n)), torch.full((n,), clean_time)
    with torch.inference_mode():
        width = at.model.settings.dim
        vectors, state = seam.embed(at.connected, like, t, span.copy, span.length, width)
        prediction = seam.head(at.connected, vectors, state, t, span.copy)
    return Answers(at.connected, like, prediction.shape[1:], scale, views)


def drawn(at: ModalityCase, evaluate: Evaluate, label: str, first: int = 0, n: int = 2) -> np.ndarray:
    """n payloads drawn from generators of the seeds from ``first`` on, as decoding takes them."""
    blank = seam.payload(at.modality, "blank", label)
    with torch.inference_mode():
        return seam.sample(at.connected, evaluate, label, seeds(n, first), blank)


def sampled(
    at: ModalityCase,
    label: str,
    first: int = 0,
    n: int = 2,
    scale: float = 1.0,
    views: float | None = None,
) -> np.ndarray:
    """n payloads by a stand-in for a model."""
    return drawn(at, stand_in(at, label, n, scale, views), label, first, n)


def first_label(at: ModalityCase) -> str:
    """The label of the spans that the other checks are about."""
    label = at.alike[0].label
    if label is None:
        raise LeftOut("its spans have no label, so that nothing could begin one")
    return label


@SAMPLING.check(
    "change sample so that it returns finite payloads of the shape that blank(label) has", of=SpanModality
)
def samples_have_the_shape_asked_for(at: ModalityCase) -> None:
    """sample gives B finite payloads of each label's shape."""
    for label in at.labels[:4]:
        sampled(at, label)


@SAMPLING.check("change sample so that what it returns can be decoded, and decode so that it takes what is sampled",
                of=SpanModality)  # fmt: skip
def samples_are_decoded(at: ModalityCase) -> None:
    """decode makes raw data of a sample, which are laid out with the label that was asked for."""
    for label in at.labels[:4]:
        raw = seam.call(at.modality, "decode", sampled(at, label)[0])
        payload = seam.payload(at.modality, "encode", raw)
        found = at.spans(payload)[0].label
        expect(
            found == label, f"a sample of {label!r} is decoded to {shown(raw)}, which has the label {found!r}"
        )


@SAMPLING.check("change sample so that all it draws comes from the generators", of=SpanModality)
def samples_are_fixed_by_their_generators(at: ModalityCase) -> None:
    """Equal generators, equal samples."""
    one, two = (sampled(at, first_label(at)) for _ in "ab")
    expect(np.array_equal(one, two), "generators of equal seeds gave other samples")


@SAMPLING.check("change sample so that it begins with noise from the generators, or say does_not = {'draw': reason}",
                ability="draw", of=SpanModality)  # fmt: skip
def samples_are_drawn(at: ModalityCase) -> None:
    """Other generators, other samples."""
    found = [sampled(at, first_label(at), first=40 * i, scale=0.3) for i in range(3)]
    expect(
        any(not np.array_equal(found[0], other) for other in found[1:]),
        "generators of other seeds gave the same samples",
    )


@SAMPLING.check("change sample so that sample i draws from generators[i] and from no other", of=SpanModality)
def samples_are_drawn_apart(at: ModalityCase) -> None:
    """A sample does not rest on which others are drawn with it."""
    whole = torch.from_numpy(sampled(at, first_label(at), n=3))
    for i in range(3):
        alone = torch.from_numpy(sampled(at, first_label(at), first=i, n=1))
        expect(
            close(alone[0], whole[i]),
            f"sample {i} of a batch is another than drawn alone, from an equal generator",
        )


@SAMPLING.check("change sample so that it draws from the generators alone", of=SpanModality)
def sampling_leaves_global_randomness_alone(at: ModalityCase) -> None:
    """sample draws nothing from a global random state."""
    at.connected  # noqa: B018, its weights are drawn from torch's
    with global_randomness_untouched():
        sampled(at, first_label(at))


@SAMPLING.check("change sample so that what evaluate returns enters the sample", of=SpanModality)
def samples_heed_the_model(at: ModalityCase) -> None:
    """Other predictions of the whole document, other samples."""
    one, two = (sampled(at, first_label(at), scale=scale, views=0.5) for scale in (1.0, -0.7))
    expect(not np.array_equal(one, two), "opposite predictions gave the same samples")


@SAMPLING.check(
    "change sample so that it first asks at the time of pure noise, which it begins with", of=SpanModality
)
def samples_begin_at_noise(at: ModalityCase) -> None:
    """The first time that it asks at is one of noise, as what it begins with is."""
    answers = stand_in(at, first_label(at), 2)
    drawn(at, answers, first_label(at))
    first = min(answers.shares[:2], default=1.0)
    expect(first > 0.9, f"it begins with noise, and asks the model at a share of noise of {first:.3g}")


@SAMPLING.check("change sample so that it guides by its views: guidance.denoiser(evaluate, self.noise_share)",
                of=SpanModality)  # fmt: skip
def samples_heed_the_views(at: ModalityCase) -> None:
    """Other predictions of the views that it compares with, other samples."""
    if not seam.call(at.connected, "views"):
        raise LeftOut("it compares with no views")
    one, two = (sampled(at, first_label(at), scale=0.5, views=views) for views in (1.0, -0.7))
    expect(not np.array_equal(one, two), "opposite predictions of its views gave the same samples")


@SAMPLING.check(
    "change sample so that guidance goes from the views to the document: u + scale * (g - u)", of=SpanModality
)
def samples_follow_the_document(at: ModalityCase) -> None:
    """A change of the document's prediction moves samples as it does where the views change with it."""
    if not seam.call(at.connected, "views") or not at.clean.is_floating_point():
        raise LeftOut("it compares with no views, or its payloads are ids")
    scales = [(0.2, 0.2), (0.1, 0.2), (0.1, 0.1)]
    both, own, rest = (sampled(at, first_label(at), scale=s, views=v) for s, v in scales)
    expect(((both - own) * (both - rest)).sum() >= 0, "the document's prediction moves samples the other way")


@SAMPLING.check(
    "change sample, or the target that corrupt returns, so that a perfect prediction leads to clean payloads",
    of=SpanModality,
)
def a_perfect_model_gives_the_payload(at: ModalityCase) -> None:
    """Where what corrupt calls the target is what is predicted, of one payload, that payload is drawn."""
    if not at.clean.is_floating_point():
        raise LeftOut("its payloads are ids")
    x0, label = at.clean[0], first_label(at)
    blank = seam.payload(at.modality, "blank", label)
    if blank.shape != x0.shape or at.predict(at.noised()).shape[1:] != x0.shape:
        raise LeftOut("its payloads, spans and predictions are of several shapes")
    found = drawn(at, Knowing(at.connected, x0), label)
    far = max(off(each, x0.numpy()) for each in found)
    expect(far < 0.05, f"a perfect model's samples are off by {far:.2g} of the payload's size")


@SAMPLING.check("change labels, spans, sample and decode so that an item is drawn behind others and written once more",
                of=SpanModality)  # fmt: skip
def it_is_generated_in_a_document(at: ModalityCase) -> None:
    """A model continues a document with an item of it, by the command's own way."""
    prompts = [Document(() if at.modality.predicts_markers else (Item(at.other, "ab"),))] * 2
    made = generate(at.model, prompts, want=at.name, label=first_label(at))
    for document in made:
        expect(document.items[-1].modality == at.name, "the last item is not the one that was asked for")
        seam.payload(at.modality, "encode", document.items[-1].data)
