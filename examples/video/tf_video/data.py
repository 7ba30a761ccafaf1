"""Clips of one handwritten digit that moves and bounces, each with the digit's name and where it sets out for."""

from functools import cached_property

import numpy as np
from pydantic import Field
from transfuse.plugin import DataSet, Document, Item, Settings, checked_index, checked_split, content_hash

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WAYS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
SIDE, DIGIT = 24, 8  # pixels of a frame, and of the digit in it, which moves by its own width
FRAMES = (4, 8)  # fewest and most of a clip


class ClipSettings(Settings):
    train: int = Field(default=8000, ge=1)
    """Clips to train on."""
    heldout: int = Field(default=400, ge=1)
    """Clips held out, of digits that are not trained on; half of them to tune by, half to test by."""


def bounced(place: int) -> int:
    """A place on the line, folded back at both edges of the frame."""
    room = SIDE - DIGIT
    return room - abs(place % (2 * room) - room)


def clip(picture: np.ndarray, start: tuple[int, int], step: tuple[int, int], frames: int) -> np.ndarray:
    """``[frames, 1, 24, 24]``: the picture from ``start`` on, by ``step`` a frame."""
    made = np.zeros((frames, 1, SIDE, SIDE), np.float32)
    for number, frame in enumerate(made):
        top, left = (bounced(at + number * by) for at, by in zip(start, step, strict=True))
        frame[0, top : top + DIGIT, left : left + DIGIT] = picture
    return made


class Clips(DataSet):
    """Caption and frames, or frames and caption. A held-out clip shows a digit of 299 that no training clip shows."""

    name = "clips"
    reversed_share = 0.4
    tasks = ("frame+frame->frame", "frame+frame+frame+frame->text")

    def __init__(self, settings: ClipSettings) -> None:
        self.sizes = {"train": settings.train, "heldout": settings.heldout}

    def size(self, split):
        return self.sizes[checked_split(self.name, split)]

    def document(self, split, index, rng=None):
        number = 2 * checked_index(self.name, split, index, self.size(split)) + (split == "heldout")
        draw = np.random.default_rng(number)
        pictures, labels = self._digits[split]
        digit = draw.integers(len(labels))
        way = draw.choice(list(WAYS))
        step = tuple(DIGIT * by for by in WAYS[way])
        free = [
            (max(0, -by), SIDE - DIGIT - max(0, by)) for by in step
        ]  # from where the first step meets no edge
        start = tuple(DIGIT * int(draw.integers(a // DIGIT, b // DIGIT + 1)) for a, b in free)
        frames = clip(pictures[digit], start, step, int(draw.integers(FRAMES[0], FRAMES[1] + 1)))
        told = f"{NAMES[labels[digit]]} {way}"
        shown = tuple(Item("frame", frame) for frame in frames)
        if rng is not None and rng.random() < self.reversed_share:
            items = (*shown, Item("text", told))
        else:
            items = (Item("text", told, droppable=True), *shown)
        return Document(items, number, f"clips {split} {index}")

    def identity(self):
        licence = "CC BY 4.0: UCI handwritten digits, as packaged in scikit-learn"
        return {"name": self.name, "content": content_hash(self), "licence": licence}

    @cached_property
    def _digits(self):
        """Pictures ``[n, 8, 8]`` in [0, 1] and labels by split."""
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        pictures = (pixels / 16).astype(np.float32).reshape(-1, DIGIT, DIGIT)
        held = np.arange(len(labels)) % 6 == 5
        return {"train": (pictures[~held], labels[~held]), "heldout": (pictures[held], labels[held])}
