"""A device that is not there: torch's FakeTensorMode, in which tensors have a shape and a place and no values.

What is left on the CPU and meets a tensor of the device raises, as on a GPU; so does every read of a value, for
which a GPU would be waited for, but those that a test allows.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from transfuse.testing.pretended import put as put

ROOT = Path(__file__).parents[2]
READS = {
    getattr(Tensor, name): name
    for name in ("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy")
}


class Reads(TorchFunctionMode):
    """Answers the reads of a value that are allowed, and raises on others.

    allowed: by place, ``module.function``, the answer, from the tensor that is read. seen: the places that read.
    """

    def __init__(self, allowed: Mapping[str, Callable[[Tensor], Any]]) -> None:
        super().__init__()
        self.allowed, self.seen = allowed, set[str]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in READS or not isinstance(args[0], FakeTensor):
            return func(*args, **(kwargs or {}))
        place = _place()
        self.seen.add(place)
        if place not in self.allowed:
            raise AssertionError(
                f"{place} reads a value of the device: {READS[func]} of {tuple(args[0].shape)}"
            )
        return self.allowed[place](args[0])


def _place() -> str:
    """The innermost function of this project that is running, tests apart."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if ROOT in path.parents and path.relative_to(ROOT).parts[0] not in ("tests", ".venv"):
            return f"{path.stem}.{frame.f_code.co_qualname.split('.<locals>')[0]}"
        frame = frame.f_back
    return "a test"


def zeros(read: Tensor) -> np.ndarray:
    """An answer for a read of a whole tensor."""
    return np.zeros(tuple(read.shape), str(read.dtype).removeprefix("torch."))


@contextmanager
def pretended(allowed: Mapping[str, Callable[[Tensor], Any]] | None = None) -> Iterator[FakeTensorMode]:
    """While it is entered, tensors may be on any device. Each of the reads that are allowed must happen."""
    reads = Reads(allowed or {})
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, reads:
        yield mode
    assert reads.seen == set(reads.allowed), f"allowed, and not read: {set(reads.allowed) - reads.seen}"
