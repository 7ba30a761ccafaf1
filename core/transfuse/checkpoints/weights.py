"""Weights on disk: safetensors files, one name a tensor, loaded whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from transfuse.errors import TransfuseError
from transfuse.files import sync


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Tensors by name, as they are now; on the disk when it returns."""
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    sync(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The inverse. Raises TransfuseError naming the file where it is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise TransfuseError(f"{path} is missing: the checkpoint is not complete") from None
    except SafetensorError as error:
        raise TransfuseError(f"{path} is damaged ({error}): restore it, or train again") from None


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module without second names of tied weights."""
    once = {name for name, _ in module.named_parameters()}
    second = {name for name, _ in module.named_parameters(remove_duplicate=False)} - once
    return {name: tensor for name, tensor in module.state_dict().items() if name not in second}


def load_weights(module: nn.Module, path: Path) -> None:
    """All of a module's weights from a file that holds just these; else TransfuseError, and no weight changed."""
    weights, expected = read_tensors(path), module_tensors(module)
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights:
            raise TransfuseError(f"{path}: the weights {name!r} are missing; it was saved by another recipe")
        if name not in expected:
            raise TransfuseError(f"{path}: the weights {name!r} have no place in the recipe's model")
        if weights[name].shape != expected[name].shape:
            raise TransfuseError(
                f"{path}: the weights {name!r} are {tuple(weights[name].shape)}, "
                f"and the recipe's model has {tuple(expected[name].shape)}"
            )
    module.load_state_dict(weights, strict=False)
