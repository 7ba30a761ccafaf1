"""An optimiser's state by parameter name, so that it survives a change of groups, order or sharding."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from transfuse.errors import TransfuseError


def tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter name, flat: ``NAME/exp_avg`` and so on."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
    """The inverse, parameter by parameter. Raises TransfuseError where the state is another model's."""
    parameters = dict(model.named_parameters())
    for path, value in saved.items():
        name, _, key = path.rpartition("/")
        if name not in parameters:
            raise TransfuseError(f"the optimiser's state is of a parameter {name!r}, which the model has not")
        if value.dim() and value.shape != parameters[name].shape:
            raise TransfuseError(
                f"the optimiser's state {path!r} is {tuple(value.shape)}, and the parameter "
                f"{tuple(parameters[name].shape)}"
            )
        optimizer.state[parameters[name]][key] = value
