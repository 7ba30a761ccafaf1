"""A trained model on held-out captioned images: everything that metrics are computed from, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transfuse.datasets import DataSet
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.generation import GenerationConfig
from transfuse.metrics import Evaluation
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import collate
from transfuse.sequences.packing import Packer

from transfuse_lab.evaluation.own_image import captions_are_names
from transfuse_lab.evaluation.shown import evenly
from transfuse_lab.progress import bar
from transfuse_lab.runs.trained import draw_images, text_and_image, write_captions

MOST = 1000  # held-out pairs that are evaluated; the first ones
SEEN = 200  # training captions that are prompted, spread evenly, where captions are names


@dataclass(frozen=True)
class Pairs:
    """Captions and images of a split, aligned; and the two modalities' names."""

    text: str
    image: str
    captions: list[str]
    images: list[np.ndarray]

    def prompt(self, i: int) -> Document:
        """Caption i, to be shown as an image."""
        return Document((Item(self.text, self.captions[i], droppable=True),), id=i, source=f"caption {i}")

    def question(self, i: int) -> Document:
        """Image i, to be captioned."""
        return Document((Item(self.image, self.images[i], noised=False),), id=i, source=f"image {i}")

    def answered(self, i: int) -> Document:
        """Image i and its caption: what the likelihood is of."""
        asked = Item(self.image, self.images[i], loss=False, noised=False)
        return Document((asked, Item(self.text, self.captions[i])), id=i, source=f"image {i}")


def pairs(data: DataSet, split: str, text: str, image: str, most: int | None = None) -> Pairs:
    """The split's captioned images. Raises TransfuseError naming a document that is no pair of the two."""
    captions: list[str] = []
    images: list[np.ndarray] = []
    for i in range(min(data.size(split), most or data.size(split))):
        document = data.document(split, i)
        raws = {item.modality: item.data for item in document.items}
        if raws.keys() != {text, image} or len(document.items) != 2:
            raise TransfuseError(
                f"{document.source}: evaluation takes one {text} and one {image} a document, "
                f"not {[item.modality for item in document.items]}"
            )
        captions.append(raws[text])
        images.append(raws[image])
    if not images:
        raise TransfuseError(
            f"data set {data.name!r}: split {split!r} is empty, and evaluation needs some of it"
        )
    shapes = sorted({raw.shape for raw in images})
    if len(shapes) > 1:
        raise TransfuseError(
            f"data set {data.name!r}: evaluation takes images of one shape, not {shapes[0]} and {shapes[1]}; "
            f"give the folder a size, as in --data 'DIR;size=32'"
        )
    return Pairs(text, image, captions, images)


def caption_likelihood(model: Model, documents: Sequence[Document], text: str) -> tuple[float, int]:
    """Negative log-likelihood in nats of the documents' text, all else given and clean; and its tokens."""
    layout, modalities = model.layout, model.modalities
    own = model.vocabulary.range(text)
    nats, count = 0.0, 0
    sequences = [layout.sequence(document) for document in documents]
    budget = max(4096, *map(len, sequences)) if sequences else 4096
    with torch.inference_mode():
        for row in Packer(budget).rows(sequences):
            batch = collate(row, modalities, Key(0), model.settings.rope, clean=True)
            batch = batch.to(model.tokens.weight.device)
            hidden, _ = model(batch)
            in_text = (batch.targets >= own.start) & (batch.targets < own.stop)
            logits = model.logits(hidden[batch.predicted[in_text]])
            chosen = torch.log_softmax(logits.double(), dim=-1).gather(1, batch.targets[in_text][:, None])
            nats -= float(chosen.sum())
            count += int(in_text.sum())
    return nats, count


def evaluate(model: Model, data: DataSet, seed: int) -> Evaluation:
    """Everything the metrics are computed from. Images are drawn at the recipe's guidance."""
    model.eval()
    text, image = text_and_image(model)
    train, held = pairs(data, "train", text, image), pairs(data, "heldout", text, image, MOST)
    everything = range(len(held.captions))
    with bar("evaluate") as progress:
        writer = model.modalities[text]
        longest = max(len(writer.encode(caption)) for caption in {*train.captions, *held.captions})
        config = GenerationConfig(want=text, tokens=longest + 1, greedy=True)
        captions = list(write_captions(model, [held.question(i) for i in everything], config))
        nats, count = caption_likelihood(model, [held.answered(i) for i in everything], text)
        progress.update(0.1, "captions")
        seen = seen_places(train.captions, held.captions)
        images = []
        for prompts in ([held.prompt(i) for i in everything], [train.prompt(i) for i in seen]):
            for made in draw_images(model, prompts, image, seed):
                images.append(made)
                progress.update(0.1 + 0.9 * len(images) / (len(held.captions) + len(seen)), "images")
        generated = np.stack(images)
    codec = model.modalities[image]
    return Evaluation(
        train_images=np.stack(train.images),
        train_captions=train.captions,
        heldout_images=np.stack(held.images),
        heldout_captions=held.captions,
        prompts=held.captions,
        generated=generated[: len(held.captions)],
        predicted_captions=captions,
        reconstructions=np.stack([codec.decode(codec.encode(i)) for i in held.images]),
        caption_nats=nats,
        caption_tokens=count,
        caption_bytes=sum(len(caption.encode()) for caption in held.captions),
        seen_prompts=[train.captions[i] for i in seen],
        seen_generated=generated[len(held.captions) :],
    )


def seen_places(train: Sequence[str], heldout: Sequence[str]) -> list[int]:
    """Which training captions are prompted too: a fixed, even spread where captions are names, else none."""
    return evenly(len(train), SEEN) if captions_are_names([*train, *heldout]) else []
