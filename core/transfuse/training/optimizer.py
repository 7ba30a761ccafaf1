"""AdamW, fused where torch has that for the device, its gradients clipped and checked without anybody waiting.

Fused AdamW divides gradients by a number and leaves weights alone where a flag is set, both on the device: meant for
loss scaling (`torch.amp.GradScaler`), they do for clipping, and for a step whose loss or gradient is not finite.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from transfuse.config.recipe import TrainSettings
from transfuse.errors import TransfuseError

FUSED = ("cpu", "cuda")
"""Types of device whose fused AdamW takes that number and that flag."""


def adamw(groups: list[dict[str, Any]], train: TrainSettings, device: torch.device) -> torch.optim.AdamW:
    """The recipe's AdamW; its learning rate is set step by step."""
    return torch.optim.AdamW(
        groups, lr=0.0, betas=train.betas, eps=train.eps, weight_decay=train.weight_decay,
        fused=device.type in FUSED,
    )  # fmt: skip


def clipped_step(
    optimizer: torch.optim.AdamW,
    weights: Iterable[nn.Parameter],
    clip: float,
    norm: Tensor,
    losses: Iterable[Tensor],
) -> None:
    """One step, its gradient, whose norm is given, no longer than ``clip``.

    Where the norm or one of ``losses`` is not finite, no weight and no moment is changed.
    """
    weights = [weight for weight in weights if weight.grad is not None]
    finite = torch.stack([norm, *losses]).isfinite().all()
    if optimizer.defaults["fused"]:
        marks: Any = optimizer  # its kernels read both as float32, on the weights' device
        device = weights[0].device if weights else norm.device
        marks.grad_scale = (norm / clip).float().clamp_(min=1.0).to(device)
        marks.found_inf = (~finite).float().to(device)
        optimizer.step()
    elif finite:
        torch.nn.utils.clip_grads_with_norm_(weights, clip, norm)
        optimizer.step()


def optimizer_tensors(
    parameters: nn.Module | Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """The optimiser's state by parameter name, flat: ``NAME/exp_avg`` and so on. parameters: or the module of them."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, parameter in _named(parameters).items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    parameters: nn.Module | Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    saved: Mapping[str, Tensor],
) -> None:
    """The inverse, parameter by parameter. Raises TransfuseError where the state is another model's."""
    parameters = _named(parameters)
    for path, value in saved.items():
        name, _, key = path.rpartition("/")
        if name not in parameters:
            raise TransfuseError(f"the optimiser's state is of a parameter {name!r}, which the model has not")
        if value.dim() and value.shape != parameters[name].shape:
            raise TransfuseError(
                f"the optimiser's state {path!r} is {tuple(value.shape)}, and the parameter "
                f"{tuple(parameters[name].shape)}"
            )
        parameter = parameters[name]
        if value.dim():  # moments lie where and as the weights do
            value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        elif optimizer.defaults.get("fused"):  # else AdamW counts its steps on the CPU
            value = value.to(parameter.device)
        optimizer.state[parameter][key] = value


def _named(parameters: nn.Module | Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    return dict(parameters.named_parameters() if isinstance(parameters, nn.Module) else parameters)
