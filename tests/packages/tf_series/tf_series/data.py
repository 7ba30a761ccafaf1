"""Series of four shapes at random height and place, with their names and with pictures of them."""

import numpy as np
from pydantic import Field
from transfuse.plugin import (
    DataSet,
    Document,
    Item,
    Settings,
    checked_index,
    checked_split,
    content_hash,
    in_either_order,
)

SHAPES = ("rising", "falling", "wave", "pulse")
LENGTHS = (16, 24)
SIDE = 8  # of the pictures


class Size(Settings):
    train: int = Field(default=320, ge=1)
    """Documents to train on."""
    heldout: int = Field(default=48, ge=1)
    """Documents held out."""


def shape(name: str, length: int, place: float) -> np.ndarray:
    """A series of height 1; ``place`` in [0, 1) moves waves and pulses, and ramps have none."""
    x = np.linspace(0, 1, length, dtype=np.float32)
    return {
        "rising": 2 * x - 1,
        "falling": 1 - 2 * x,
        "wave": np.sin(2 * np.pi * (2 * x + place)),
        "pulse": 2 * np.exp(-np.square((x - 0.2 - 0.6 * place) / 0.08)) - 1,
    }[name]


def picture(series: np.ndarray) -> np.ndarray:
    """The area under the series, white on black, its edge a shade of grey: ``[1, 8, 8]``."""
    at = np.linspace(0, len(series) - 1, SIDE).round().astype(int)
    height = (series[at] + 1) / 2 * SIDE
    return (height - np.arange(SIDE)[::-1, None]).clip(0, 1).astype(np.float32)[None]


class Shapes(DataSet):
    """A caption, then an item for each further role: the series, a picture of it, that picture mirrored."""

    reversed_share = 0.4

    def __init__(self, settings: Size, name: str, roles: tuple[str, ...]) -> None:
        self.name, self.roles = name, roles
        self.sizes = {"train": settings.train, "heldout": settings.heldout}

    def size(self, split):
        return self.sizes[checked_split(self.name, split)]

    def document(self, split, index, rng=None):
        number = checked_index(self.name, split, index, self.size(split))
        number = 2 * number + (split == "heldout")  # so that no split's size changes the other's documents
        draw = np.random.default_rng(number)
        name, length = SHAPES[draw.integers(len(SHAPES))], LENGTHS[draw.integers(len(LENGTHS))]
        series = draw.uniform(0.6, 1) * shape(name, length, draw.random())
        series = (series + 0.03 * draw.standard_normal(length)).astype(np.float32)
        made = {"series": series, "image": picture(series), "mirror": picture(series)[..., ::-1].copy()}
        items = (Item("text", name, droppable=True), *(Item(role, made[role]) for role in self.roles))
        plain = Document(items, number, f"{self.name} {split} {index}")
        return in_either_order(plain, self.reversed_share, rng)

    def identity(self):
        return {"name": self.name, "content": content_hash(self), "licence": "CC0"}
