"""What holds of a SpanModality's samples: shape and numbers, whose randomness, and what they depend on."""

import numpy as np
import torch
from torch import Tensor

from transfuse.documents import Document, Item
from transfuse.generation.decoding import generate
from transfuse.modalities import seam
from transfuse.modalities.modality import Evaluate, SpanModality
from transfuse.testing.kits.forward import close
from transfuse.testing.kits.modality_case import ModalityCase, seeds
from transfuse.testing.kits.raw_data import shown
from transfuse.testing.kits.runner import Kit, LeftOut, expect, global_randomness_untouched

SAMPLING: Kit[ModalityCase] = Kit("modality")


class Answers(Evaluate):
    """A model's stand-in: each span's prediction is a function of that span's x_t alone, times ``scale``.

    prediction: the shape of one. It checks what it is asked, as a model does.
    """

    def __init__(
        self, modality: SpanModality, like: Tensor, prediction: torch.Size, scale: float = 1.0
    ) -> None:
        self.modality, self.like, self.prediction, self.scale = modality, like, prediction, scale
        self.asked = 0

    def __call__(self, x_t: Tensor, t: Tensor, guided: bool = True) -> list[Tensor]:
        seam.asked(self.modality, x_t, t, self.like)
        self.asked += 1
        if self.prediction == x_t.shape[1:] and x_t.is_floating_point():
            made = x_t.tanh()
        else:
            flat = x_t.flatten(1).double()
            seed = (flat * torch.arange(1, flat.shape[1] + 1)).sum(dim=1)
            steps = torch.arange(self.prediction.numel(), dtype=torch.float64)
            made = torch.sin(seed[:, None] + steps).reshape(-1, *self.prediction).float()
        views = 1 + len(seam.call(self.modality, "views")) if guided else 1
        return [self.scale * made / (1 + view) for view in range(views)]


def sampled(at: ModalityCase, label: str, first: int = 0, n: int = 2, scale: float = 1.0) -> np.ndarray:
    """n payloads drawn from generators of the seeds from ``first`` on, as decoding takes them."""
    blank = seam.payload(at.modality, "blank", label)
    (span, *_), clean_time = at.spans(blank), float(seam.call(at.connected, "clean_time"))
    like, t = torch.from_numpy(np.stack([span.payload] * n)), torch.full((n,), clean_time)
    with torch.inference_mode():
        width = at.model.settings.dim
        vectors, state = seam.embed(at.connected, like, t, span.copy, span.length, width)
        prediction = seam.head(at.connected, vectors, state, t, span.copy)
        answers = Answers(at.connected, like, prediction.shape[1:], scale)
        return seam.sample(at.connected, answers, label, seeds(n, first), blank)


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
    """Other predictions, other samples."""
    one, two = (sampled(at, first_label(at), scale=scale) for scale in (1.0, -0.7))
    expect(not np.array_equal(one, two), "opposite predictions gave the same samples")


@SAMPLING.check("change labels, spans, sample and decode so that an item is drawn behind others and written once more",
                of=SpanModality)  # fmt: skip
def it_is_generated_in_a_document(at: ModalityCase) -> None:
    """A model continues a document with an item of it, by the command's own way."""
    prompts = [Document(() if at.modality.predicts_markers else (Item(at.other, "ab"),))] * 2
    made = generate(at.model, prompts, want=at.name, label=first_label(at))
    for document in made:
        expect(document.items[-1].modality == at.name, "the last item is not the one that was asked for")
        seam.payload(at.modality, "encode", document.items[-1].data)
