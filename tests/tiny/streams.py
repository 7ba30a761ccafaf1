"""What decoding writes into the streams of its cache, heard at the three ways in."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from torch import Tensor
from transfuse.generation.incremental import IncrementalModel, InTurn
from transfuse.generation.prompts import PackedPrompts
from transfuse.sequences.sequence import DocumentSequence

Written = dict[tuple[int, int], dict[str, list[int]]]
"""By view and row of the document: tokens and columns of what is kept, in order. Rows stay where documents leave at
once."""


def watch(patch: pytest.MonkeyPatch) -> Written:
    """Filled as documents are decoded; ``clear()`` it between."""
    seen: Written = defaultdict(lambda: defaultdict(list))
    prefill, append, in_turn = IncrementalModel.prefill, IncrementalModel.append, InTurn.append

    def note(view: int, row: int, tokens: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        seen[view, row]["tokens"] += tokens.tolist()
        for name, values in columns.items():
            seen[view, row][name] += values.tolist()

    def prompted(self: IncrementalModel, prompts: PackedPrompts) -> Tensor:
        for view, row in {*zip(prompts.view.tolist(), prompts.document.tolist(), strict=True)}:
            own = prompts.source[(prompts.view == view) & (prompts.document == row)]
            note(view, row, prompts.row.tokens[own], {n: c[own] for n, c in prompts.row.columns.items()})
        return prefill(self, prompts)

    def appended(self: IncrementalModel, views: Sequence[int], laid: Sequence[DocumentSequence]) -> Tensor:
        for i, sequence in enumerate(laid):
            view, row = divmod(i, len(laid) // len(views))
            note(views[view], row, sequence.tokens, sequence.columns)
        return append(self, views, laid)

    def in_turn_appended(self: InTurn, ids: np.ndarray) -> Tensor:
        for i in range(len(ids)):
            view, row = divmod(i, len(ids) // len(self.views))
            here = {name: values[i, self.at : self.at + 1] for name, values in self.columns.items()}
            note(self.views[view], row, ids[i : i + 1], here)
        return in_turn(self, ids)

    patch.setattr(IncrementalModel, "prefill", prompted)
    patch.setattr(IncrementalModel, "append", appended)
    patch.setattr(InTurn, "append", in_turn_appended)
    return seen
