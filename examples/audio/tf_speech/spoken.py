"""Spoken digits for a model that knows pictures of them: what it takes for a trained model to be given speech.

The first item of a spoken document is given and has no loss: which kind of document comes is not to be learnt, since
what speech would gain there, the documents that the model knows would lose. Some of those stand between: there a new
begin marker learns where it does not belong. And the words end in another one than those that lead to a picture: a
frozen model's state at their end, all that a new begin marker can be told by, shows the last word best.
"""

from pathlib import Path

import numpy as np
from pydantic import Field
from transfuse.plugin import DataSet, Document, Item, checked_index, checked_split, content_hash
from transfuse_lab.datasets.digits import Digits

from tf_speech.data import LICENCE, DateSettings, at_speed, prompts

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FILES = {word: str(number) for number, word in enumerate(WORDS)}


class SpokenSettings(DateSettings):
    train: int = Field(default=2000, ge=10)
    """Documents to train on."""
    heldout: int = Field(default=100, ge=10)
    """Documents held out: the same ten recordings, at other speeds."""
    pictures: bool = True
    """Whether every second training document is a digit's word and its picture, as the model knows them."""


class Spoken(DataSet):
    """Words, "seven aloud", and their recording, in either order; and pictures of digits between."""

    name = "spoken"
    reversed_share = 0.5
    tasks = ("text->speech", "speech->text")

    def __init__(self, settings: SpokenSettings) -> None:
        self.sizes = {"train": settings.train, "heldout": settings.heldout}
        self.prompts = prompts(Path(settings.folder), FILES)
        self.known = Digits() if settings.pictures else None

    def size(self, split):
        return self.sizes[checked_split(self.name, split)]

    def document(self, split, index, rng=None):
        number = 2 * checked_index(self.name, split, index, self.size(split)) + (split == "heldout")
        source = f"spoken {split} {index}"
        if self.known is not None and split == "train" and index % 2:
            known = self.known.document("train", index // 2 % self.known.size("train"), rng)
            return Document(known.items, number, source)
        word, draw = WORDS[index // 2 % len(WORDS)], np.random.default_rng(number)
        loud, speed = draw.uniform(0.5, 1), draw.uniform(0.85, 1.15)
        wave = (loud * at_speed(self.prompts[word], speed)).astype(np.float32)
        items = (Item("text", f"{word} aloud", loss=False, droppable=True), Item("speech", wave))
        if rng is not None and rng.random() < self.reversed_share:
            items = (Item("speech", wave, loss=False, noised=False), Item("text", f"{word} aloud"))
        return Document(items, number, source)

    def identity(self):
        return {"name": self.name, "content": content_hash(self), "licence": LICENCE}
