"""A document is a list of items: text, images and whatever else, in the order they are read."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

from transfuse.errors import TransfuseError


class Encoded(ABC):
    """Data that went through their modality's codec already, as a packed store holds them."""

    @abstractmethod
    def payload(self, modality: Any) -> Any:
        """The array that ``modality.encode`` gave. Raises TransfuseError where that was with another codec."""


@dataclass(frozen=True)
class Item:
    """One piece of raw data in a document.

    modality: the role that owns the data in a recipe, such as ``text`` or ``image``.
    data: raw data as the modality's ``encode`` takes it: a string, an image array; or `Encoded`.
    loss: False where the item is context only.
    noised: what a diffusing modality does in training: True noises the item (and predicts it, if
        ``loss``), False shows it clean. Discrete modalities ignore it.
    droppable: True where guidance may leave the item out, as the prompt of what follows.
    """

    modality: str
    data: Any
    loss: bool = True
    noised: bool = True
    droppable: bool = False


@dataclass(frozen=True)
class View:
    """A document as guidance compares with it: without its droppable items.

    drop: of these roles; None: of all roles.
    """

    drop: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.drop is not None:
            object.__setattr__(self, "drop", frozenset(self.drop))

    def keeps(self, item: Item) -> bool:
        """Whether the item is part of the view."""
        return not (item.droppable and (self.drop is None or item.modality in self.drop))


@dataclass(frozen=True)
class Document:
    """Items in reading order.

    id: the sample's number in its data set; randomness is keyed by it.
    source: where the document came from, for error messages (``digits train 17``).
    """

    items: tuple[Item, ...]
    id: int = 0
    source: str = "document"

    def __post_init__(self) -> None:
        if not isinstance(self.items, tuple) or not all(isinstance(item, Item) for item in self.items):
            raise TransfuseError(f"{self.source}: items must be a tuple of Item, not {self.items!r:.80}")

    def seen(self, view: View) -> "Document":
        """The document as a guidance view sees it: without the items that it drops."""
        return replace(self, items=tuple(item for item in self.items if view.keeps(item)))
