"""Modalities of grids of any number of axes: sizes, labels, blanks, facts, and what is refused."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse import TransfuseError
from transfuse.plugin import Codec, GridModality, Item, Span

SIZES = st.integers(1, 4).flatmap(lambda axes: st.lists(
    st.tuples(*[st.integers(1, 4)] * axes), min_size=1, max_size=3, unique=True
))  # fmt: skip


class Plain(Codec):
    """Raw data are the latents, ``[2, *sides]``, or the codes, ``[*sides]``."""

    channels, bound = 2, 1.0

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.codes = codes

    def fit(self, raws: Any, seed: int, report: Any, effort: float = 1.0) -> None: ...

    def restore(self, facts: dict[str, Any]) -> None: ...

    def facts(self) -> dict[str, Any]:
        return {}

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.codes else shape[1:]

    def encode(self, raw: np.ndarray) -> np.ndarray:
        return raw

    def decode(self, payload: np.ndarray) -> np.ndarray:
        return payload


class Cells(GridModality):
    def __init__(self, codes: int = 0, patch: int = 1) -> None:
        super().__init__("cells", Plain(codes))
        self.patch = patch

    def connect(self, dim: int) -> None: ...

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        return [Span(payload, self.length_of(payload), self.label_of(payload))]

    def of(self, *sizes: tuple[int, ...]) -> "Cells":
        """Fit to data of these sizes, in positions."""
        sides = [[self.patch * side for side in size] for size in sizes]
        self.fit(
            [np.zeros(s if self.codec.codes else (2, *s), np.float32) for s in sides], 0, lambda line: None
        )
        return self


@given(sizes=SIZES, codes=st.sampled_from([0, 7]), patch=st.integers(1, 3))
def test_a_label_a_size_whose_blank_has_it_and_facts_bring_both_back(
    sizes: list[tuple[int, ...]], codes: int, patch: int
) -> None:
    cells = Cells(codes, patch).of(*sizes)
    assert set(cells.labels()) == {"x".join(map(str, size)) for size in sizes}
    again = Cells(codes, patch)
    again.restore(json.loads(json.dumps(cells.facts())))
    assert again.labels() == cells.labels()
    for label in again.labels():
        blank = again.encode(again.blank(label))
        assert blank.dtype == (np.int64 if codes else np.float32)
        (span,) = again.spans(Item("cells", None), blank)
        assert (span.label, span.length) == (label, np.prod([int(side) for side in label.split("x")]))


def test_other_sizes_and_sizes_that_patches_do_not_fill_are_named() -> None:
    with pytest.raises(TransfuseError, match="its latent grid is 5, and this modality was fit to 3, 4"):
        Cells().of((3,), (4,)).encode(np.zeros((2, 5), np.float32))
    with pytest.raises(TransfuseError, match="its latent grid is 2x3x4, and this modality was fit to 2x2x2"):
        Cells().of((2, 2, 2)).encode(np.zeros((2, 2, 3, 4), np.float32))
    cells = Cells(patch=2)
    with pytest.raises(
        TransfuseError, match="'cells': a latent grid of 4x5x6 does not divide into patches of 2"
    ):
        cells.fit([np.zeros((2, 4, 5, 6), np.float32)], 0, lambda line: None)
