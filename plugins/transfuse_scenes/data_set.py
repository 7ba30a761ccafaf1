"""The data set `scenes`: captioned pictures, edits and captions alone, as many as one likes; each by its number."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transfuse.datasets import (
    ENDLESS,
    DataSet,
    checked_index,
    checked_split,
    content_hash,
    in_either_order,
)
from transfuse.documents import Document, Item
from transfuse.randomness import Key

from transfuse_scenes import edits
from transfuse_scenes.glosses import read_glosses
from transfuse_scenes.grammar import PRESETS, UNSEEN, Count, Description, Grammar, Listing, caption
from transfuse_scenes.scenes import realise
from transfuse_scenes.settings import BLOCK, ScenesSettings
from transfuse_scenes.world import PAIRS, render

HELD_OUT = {"tune": 512, "test": 512, "unseen_pairs": 512, "unseen_couples": 512, "edits": 256}
"""How many documents each set that is kept apart has."""
OTHERWISE: dict[str, Literal["edit", "gloss"]] = {"edits": "edit", "glosses": "gloss"}
"""What a set that is kept apart has, but pairs."""
WORDNET = "; glosses: WordNet 3.0, Princeton University, under its own licence"
NUMBERED = 1 << 41
"""Ids of held-out documents begin here, a set after another."""


class Scenes(DataSet):
    """Scenes of coloured shapes, of which 32×32 pictures ``[3, 32, 32]`` float32 are drawn, with their captions.

    Split ``train`` has no end, and the others are of `HELD_OUT`: ``tune`` and ``test`` as training's pairs are,
    ``unseen_pairs`` with colours and shapes that training never shows together, ``unseen_couples`` with pairs that it
    never shows in one scene, ``edits``, and ``glosses`` where there are any. A document is a pure function of its split
    and number. No training document shows a colour and shape of `UNSEEN`, and no caption or picture of one a couple of
    pairs that are kept apart.
    """

    name = "scenes"
    splits = ("train", *HELD_OUT)
    reversed_share = 0.2
    tasks = ("text->image", "image->text")

    def __init__(self, settings: ScenesSettings) -> None:
        self.settings, self.grammar = settings, PRESETS[settings.preset]
        self.sizes, self.glosses = dict(HELD_OUT), dict[str, tuple[str, ...]]()
        if settings.glosses is not None:
            self.glosses["train"], self.glosses["glosses"] = read_glosses(Path(settings.glosses))
            self.sizes["glosses"] = len(self.glosses["glosses"])
            self.splits = ("train", *self.sizes)

    def size(self, split: str) -> int:
        return self.sizes.get(checked_split(self.name, split, self.splits), ENDLESS)

    def tasks_in(self, split: str) -> tuple[str, ...]:
        return {"edits": ("image+text->image",), "glosses": ("text",)}.get(split, self.tasks)

    def period(self, split: str) -> int:
        return BLOCK

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        checked_index(self.name, split, index, self.size(split))
        key = Key(0)
        own = key.rng(f"scenes {self.settings.preset} {split}", index)
        number = index if split == "train" else NUMBERED + list(self.sizes).index(split) * ENDLESS + index
        source = f"scenes {split} {index}"
        kind = self._kind(split, index)
        if kind == "gloss":
            texts = self.glosses[split]
            text = texts[index if split == "glosses" else own.integers(len(texts))]
            return Document((Item("text", text),), number, source)
        if kind == "edit":
            return Document(_edit(self.grammar, own), number, source)
        description = DRAWN.get(split, Grammar.draw)(self.grammar, own)
        text = Item("text", caption(description), droppable=True)
        if kind == "caption":
            return Document((Item("text", caption(description)),), number, source)
        shown = self.grammar.draw(own) if self.settings.shuffled and split == "train" else description
        pair = Document((text, Item("image", render(realise(shown, own)))), number, source)
        return in_either_order(pair, self.reversed_share, rng)

    def _kind(self, split: str, index: int) -> Literal["pair", "edit", "caption", "gloss"]:
        if split != "train":
            return OTHERWISE.get(split, "pair")
        left = BLOCK - index % BLOCK
        if left <= self.settings.captions:
            return "gloss" if self.glosses and left % 2 else "caption"
        return "edit" if left <= self.settings.captions + self.settings.edits else "pair"

    def document_roles(self, split: str, index: int) -> list[str]:
        return {"pair": ["text", "image"], "edit": ["image", "text", "image"]}.get(
            self._kind(split, index), ["text"]
        )

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **self.settings.model_dump(mode="json", exclude={"glosses"}),  # whose words are among the content
            "content": content_hash(_First(self)),
            "licence": f"made by this program, and free to use{WORDNET if self.glosses else ''}",
        }


class _First(Scenes):
    """The first documents of each split, whose hash tells another grammar or renderer."""

    def __init__(self, whole: Scenes) -> None:
        super().__init__(whole.settings)

    def size(self, split: str) -> int:
        return 10 * BLOCK


def _edit(grammar: Grammar, rng: np.random.Generator) -> tuple[Item, ...]:
    """A picture of a listing, an instruction, and the picture after it."""
    while True:
        description = grammar.draw(rng)
        if isinstance(description, Listing):
            break
    before = realise(description, rng)
    instruction, after = edits.draw(before, grammar, rng)
    return (
        Item("image", render(before), droppable=True),
        Item("text", str(instruction), droppable=True),
        Item("image", render(after)),
    )


def _unseen_pairs(grammar: Grammar, rng: np.random.Generator) -> Description:
    """A description with at least one colour and shape that training never shows together."""
    wide = Grammar(PAIRS, grammar.numbers, grammar.lengths, grammar.apart)
    while True:
        description = wide.draw(rng)
        if UNSEEN & {*description.pairs}:
            return description


def _unseen_couples(grammar: Grammar, rng: np.random.Generator) -> Description:
    """A description in which at least two trained pairs stand together that never do in training."""
    wide = Grammar(grammar.pairs, grammar.numbers, grammar.lengths)
    while True:
        description = wide.draw(rng)
        if not isinstance(description, Count) and not grammar.together(list(description.pairs)):
            return description


DRAWN: dict[str, Callable[[Grammar, np.random.Generator], Description]] = {
    "unseen_pairs": _unseen_pairs,
    "unseen_couples": _unseen_couples,
}
"""How held-out descriptions are drawn that training has not; all others as training's."""
