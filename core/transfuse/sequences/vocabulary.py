"""One row of numbers for every discrete thing: text tokens, image codes, markers, each in a named range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from transfuse.errors import TransfuseError, did_you_mean
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality, TokenModality

BEGIN, END = "<document>", "</document>"
MOST = 1 << 24  # ids of a range that is read


@dataclass(frozen=True)
class Range:
    """Ids ``start … start + size - 1``; a range of markers has one label an id, others none."""

    name: str
    start: int
    size: int
    labels: tuple[str, ...] = ()

    @property
    def stop(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Vocabulary:
    """Ranges end to end. Extending appends: no id ever changes its number.

    ``document`` holds the marks of a document's begin and end; every modality has a range of its
    name if it has ids of its own, and one named ``NAME_markers`` if it has begin and end markers.
    """

    ranges: tuple[Range, ...] = (Range("document", 0, 2, (BEGIN, END)),)

    @property
    def size(self) -> int:
        return self.ranges[-1].stop

    def extended(self, name: str, ids: int = 0, labels: Sequence[str] = ()) -> "Vocabulary":
        """With one more range at the end, of ``ids`` ids or of one id a label."""
        if any(r.name == name for r in self.ranges):
            raise TransfuseError(f"the vocabulary has a range {name!r} already")
        size = len(labels) or ids
        if not size:
            return self
        return Vocabulary((*self.ranges, Range(name, self.size, size, tuple(labels))))

    def range(self, name: str) -> Range:
        for r in self.ranges:
            if r.name == name:
                return r
        raise TransfuseError(
            f"the vocabulary has no range {name!r}; {did_you_mean(name, (r.name for r in self.ranges))}"
        )

    @cached_property
    def markers(self) -> dict[str, int]:
        """The ids of all markers by label."""
        return {label: r.start + i for r in self.ranges for i, label in enumerate(r.labels)}

    def marker(self, label: str) -> int:
        """The id of a marker such as ``</document>`` or ``<image 4x4>``."""
        if label not in self.markers:
            raise TransfuseError(
                f"the vocabulary has no marker {label!r}; {did_you_mean(label, self.markers)}"
            )
        return self.markers[label]

    def name(self, id: int) -> str:
        """A readable name of an id: a marker's label or ``range[i]``."""
        for r in self.ranges:
            if r.start <= id < r.stop:
                return r.labels[id - r.start] if r.labels else f"{r.name}[{id - r.start}]"
        raise TransfuseError(f"id {id} is outside the vocabulary of {self.size}")

    def dump(self) -> list[dict[str, object]]:
        """JSON form, recorded with a checkpoint."""
        return [{"name": r.name, "size": r.size, "labels": list(r.labels)} for r in self.ranges]

    @staticmethod
    def from_dump(rows: Sequence[dict]) -> "Vocabulary":
        ranges: list[Range] = []
        for row in rows:
            name, size, labels = str(row["name"]), row["size"], tuple(map(str, row["labels"]))
            if not isinstance(size, int) or not 0 < size < MOST or size != (len(labels) or size):
                raise ValueError(f"{size} ids of {name!r:.40}")
            ranges.append(Range(name, ranges[-1].stop if ranges else 0, size, labels))
        return Vocabulary(tuple(ranges))


def begin_marker(modality: str, label: str) -> str:
    return f"<{modality} {label}>"


def end_marker(modality: str) -> str:
    return f"</{modality}>"


def vocabulary_for(
    modalities: Mapping[str, Modality], recorded: Vocabulary | None = None, cure: str = ""
) -> Vocabulary:
    """A vocabulary with the ids and markers of each modality, in order.

    recorded: a checkpoint's; what it lacks is added at its end. Raises TransfuseError, ending in ``cure``, where a
    modality has other ids or markers than were recorded.
    """
    vocabulary = recorded or Vocabulary()
    known = {r.name: r for r in vocabulary.ranges} if recorded else {}

    def add(name: str, ids: int, labels: tuple[str, ...] = ()) -> None:
        nonlocal vocabulary
        if name not in known:
            vocabulary = vocabulary.extended(name, ids, labels)
        elif (known[name].size, known[name].labels) != (ids, labels):
            raise TransfuseError(
                f"the vocabulary records {known[name].size} ids of {name!r}, and the recipe's modality now has "
                f"{ids}{' or other markers' if labels else ''}{cure}"
            )

    for name, modality in modalities.items():
        if isinstance(modality, TokenModality):
            add(name, seam.call(modality, "codes"))
        if labels := seam.call(modality, "labels"):
            markers = (*(begin_marker(name, label) for label in labels), end_marker(name))
            add(f"{name}_markers", len(markers), markers)
    return vocabulary
