"""What generation is asked for: which modality, how much of it, and how text is chosen."""

from dataclasses import dataclass
from typing import get_args

from transfuse.errors import TransfuseError
from transfuse.model.precision import DType


@dataclass(frozen=True)
class GenerationConfig:
    """How documents are continued.

    want: None goes on until the model ends the document. A modality's name asks for one item of it: with
        begin markers, the model only chooses which; without (text), the item ends with the document.
    label: which of the shapes of ``want`` the item has; None: the model chooses.
    tokens: at most so many tokens of open-ended text a document. items: at most so many items.
    greedy: text is the likeliest token at each place, whatever the modality's temperature.
    seed: what all randomness is keyed by, with a document's index: equal seeds, equal samples.
    budget: positions that the key-value cache may hold, of all views together: as many documents are continued at a
        time as fit when grown to the limits above, at least one. It bounds memory, at ``layers × 2 × kv_heads ×
        head_dim`` numbers a position, however many prompts there are.
    dtype: in what matrix products are computed (`transfuse.model.precision`).
    """

    want: str | None = None
    label: str | None = None
    tokens: int = 32
    items: int = 8
    greedy: bool = False
    seed: int = 0
    budget: int = 1 << 14
    dtype: DType = "float32"

    def __post_init__(self) -> None:
        if self.label is not None and self.want is None:
            raise TransfuseError(f"label {self.label!r} is of an item of one modality: say which, want=")
        for name in ("tokens", "items", "budget"):
            if getattr(self, name) < 1:
                raise TransfuseError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.dtype not in get_args(DType):
            raise TransfuseError(f"dtype must be {' or '.join(get_args(DType))}, not {self.dtype!r:.40}")
