"""A module put on a device that is not there: torch's FakeTensorMode, whose tensors have a place and no values."""

from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


def put(module: nn.Module, mode: FakeTensorMode, device: str) -> None:
    """What ``module.to(device)`` does: parameters and buffers go there, and nothing else that a module holds."""
    once: dict[int, Tensor] = {}

    def there(tensor: Tensor) -> Tensor:
        if id(tensor) not in once:
            held = tensor.detach()
            moved = (held if isinstance(held, FakeTensor) else mode.from_tensor(held)).to(device)
            trained = isinstance(tensor, nn.Parameter)
            once[id(tensor)] = nn.Parameter(moved, tensor.requires_grad) if trained else moved
        return once[id(tensor)]

    for each in module.modules():
        holders: tuple[Any, ...] = (each._parameters, each._buffers)
        for held in holders:
            held.update({name: there(tensor) for name, tensor in held.items() if tensor is not None})
