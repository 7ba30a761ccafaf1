"""A model that is drawn without ever being whole: built on no memory, then drawn a weight at a time.

``recorded`` notes what is done to tensors while a model is built on torch's ``meta`` device, which keeps shapes alone.
``Recording.draw`` does the same things again on real memory, in the same order, so that random numbers come out as if
it had been built there; a weight is handed over as soon as nothing more is done to it, and freed. What is overwritten
later is freed before.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from transfuse.errors import TransfuseError
from transfuse.model.model import Model

FILLS = (
    "normal_",
    "uniform_",
    "zero_",
    "fill_",
    "copy_",
    "exponential_",
    "bernoulli_",
    "_no_grad_trunc_normal_",
)
"""Operators that write all of their first tensor, whatever stood there."""


@dataclass(frozen=True)
class _Done:
    """One operator that was called, with what it was given and returned."""

    call: Any
    given: tuple[Any, ...]
    named: dict[str, Any]
    returned: Any

    def tensors(self) -> Iterator[Tensor]:
        return _without_memory(self.given, self.named, self.returned)

    @property
    def fills(self) -> int | None:
        """The memory of which nothing that stood there is read, if there is one."""
        name = getattr(self.call, "overloadpacket", self.call).__name__
        first = self.given[0] if self.given else None
        if name not in FILLS or not isinstance(first, Tensor) or not first.is_meta or not _covers(first):
            return None
        others = map(_memory, _without_memory(*self.given[1:]))
        return None if _memory(first) in others else _memory(first)


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[_Done] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        self.done.append(_Done(func, args, kwargs or {}, returned))
        return returned


@dataclass
class Recording:
    """What was done to tensors without memory, and to torch's seed, while something was built."""

    done: list[_Done] = field(default_factory=list)

    def draw(self, wanted: dict[str, Tensor], hand_over: Callable[[str, Tensor], None]) -> None:
        """Does it on the CPU, with the same random numbers.

        wanted: the tensors without memory that are to be drawn, by name; ``hand_over(name, drawn)`` is called once for
        each, and what it was given is freed behind it.
        """
        names: dict[int, list[str]] = {}
        for name, tensor in wanted.items():
            names.setdefault(_memory(tensor), []).append(name)
        uses: dict[int, list[int]] = {}
        for i, step in enumerate(self.done):
            for memory in {_memory(tensor) for tensor in step.tensors()}:
                uses.setdefault(memory, []).append(i)
        there: dict[int, Tensor] = {}

        def real(leaf: Any) -> Any:
            if isinstance(leaf, torch.device):
                return torch.device("cpu")
            if not isinstance(leaf, Tensor) or not leaf.is_meta:
                return leaf
            memory = _memory(leaf)
            if memory not in there:
                there[memory] = torch.empty(leaf.untyped_storage().nbytes(), dtype=torch.uint8)
            base = there[memory].view(leaf.dtype) if there[memory].dtype != leaf.dtype else there[memory]
            return base.as_strided(leaf.shape, leaf.stride(), leaf.storage_offset())

        with torch.random.fork_rng(devices=[]), torch.no_grad():
            for i, step in enumerate(self.done):
                inputs = set(map(_memory, _without_memory(step.given, step.named)))
                made = step.call(*tree_map(real, step.given), **tree_map(real, step.named))
                for shadow, tensor in zip(tree_leaves(step.returned), tree_leaves(made), strict=True):
                    if isinstance(shadow, Tensor) and shadow.is_meta and _memory(shadow) not in inputs:
                        kept = real(shadow)
                        kept.copy_(tensor)
                for memory in {_memory(tensor) for tensor in step.tensors()}:
                    later = [j for j in uses[memory] if j > i][:1]
                    if later and self.done[later[0]].fills != memory:
                        continue
                    if not later:
                        for name in names.pop(memory, ()):
                            hand_over(name, real(wanted[name]))
                    there.pop(memory, None)
        if left := [name for each in names.values() for name in each]:
            raise TransfuseError(f"nothing was written into {left[0]!r} while the model was built")


@contextmanager
def recorded() -> Iterator[Recording]:
    """While it is entered, tensors are made without memory, and what is done to them is noted.

    Torch raises RuntimeError or NotImplementedError where a number of such a tensor is asked for.
    """
    recorder, recording = _Recorder(), Recording()
    skipped: Any = nn.init
    truncated, seed = skipped._no_grad_trunc_normal_, torch.manual_seed

    def noted(tensor: Tensor, *given: Any, **named: Any) -> Tensor:
        """Torch leaves out this one, whose number of draws depends on what is drawn, where there is no memory."""
        if tensor.is_meta:
            recorder.done.append(_Done(truncated, (tensor, *given), named, tensor))
            return tensor
        return truncated(tensor, *given, **named)

    def seeded(number: int) -> Any:
        recorder.done.append(_Done(_seed, (number,), {}, None))
        return seed(number)

    skipped._no_grad_trunc_normal_, torch.manual_seed = noted, seeded
    try:
        with torch.device("meta"), recorder:
            yield recording
    finally:
        skipped._no_grad_trunc_normal_, torch.manual_seed = truncated, seed
    recording.done = recorder.done


def _without_memory(*values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.is_meta)


def _seed(number: int) -> None:
    torch.manual_seed(number)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _covers(tensor: Tensor) -> bool:
    return (
        tensor.is_contiguous() and tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
    )


def built(model: Callable[[], Model]) -> tuple[Model, Recording | None]:
    """A model without memory, and how its weights are drawn; or in memory, None beside it, where a plugin asks for
    numbers of its tensors while it is built."""
    try:
        with recorded() as recording:
            return model(), recording
    except Exception:  # whatever a plugin makes of it; what is wrong otherwise is raised again
        return model(), None
