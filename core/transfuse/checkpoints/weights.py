"""Weights on disk: safetensors files, one name a tensor, loaded whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from transfuse.errors import TransfuseError
from transfuse.files import CURE, digest, sync, writing


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Tensors by name, as they are now; on the disk when it returns. Returns the file's SHA-256."""
    size = sum(tensor.nbytes for tensor in tensors.values())
    with writing(path, f"; it has about {size:,} bytes, and what was saved before is kept"):
        try:
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
        except SafetensorError as error:  # what it calls the system's own
            raise OSError(str(error)) from error
        sync(path)
        return digest(path)


def check_file(path: Path, sha256: str) -> None:
    """Raises TransfuseError naming the file where it is missing or another than was written."""
    try:
        if digest(path) == sha256:
            return
    except OSError as error:
        fault = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise TransfuseError(f"{path} {fault}: {CURE}") from None
    raise TransfuseError(f"{path} is damaged (its checksum is another): {CURE}")


def read_tensors(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """The inverse. Raises TransfuseError naming the file where it is missing, damaged, or holds NaN or infinity.

    sha256: None where `check_file` was asked before.
    """
    if sha256 is not None:
        check_file(path, sha256)
    try:
        tensors = load_file(path)
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise TransfuseError(
                    f"{path}: {name!r} holds NaN or infinity: the run had diverged when it was saved; train again "
                    f"with a lower train.lr and another --out"
                )
        return tensors
    except SafetensorError as error:
        raise TransfuseError(f"{path} is damaged ({error}): {CURE}") from None


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module without second names of tied weights."""
    once = {name for name, _ in module.named_parameters()}
    second = {name for name, _ in module.named_parameters(remove_duplicate=False)} - once
    return {name: tensor for name, tensor in module.state_dict().items() if name not in second}


def load_weights(module: nn.Module, path: Path, sha256: str | None) -> None:
    """All of a module's weights from a file that holds just these; else TransfuseError, and no weight changed."""
    module.load_state_dict(_fitting(module_tensors(module), path, read_tensors(path, sha256)), strict=False)


def load_average(module: nn.Module, path: Path, sha256: str | None) -> None:
    """The same of its trained parameters alone, as far as they are averaged: those that training froze are not."""
    weights = read_tensors(path, sha256)
    trained = {n: p.detach() for n, p in module.named_parameters() if p.requires_grad and n in weights}
    for name, tensor in _fitting(trained, path, weights).items():
        trained[name].copy_(tensor)


def _fitting(expected: Mapping[str, Tensor], path: Path, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights:
            raise TransfuseError(f"{path}: the weights {name!r} are missing; it was saved by another recipe")
        if name not in expected:
            raise TransfuseError(f"{path}: the weights {name!r} have no place in the recipe's model")
        there, here = weights[name], expected[name]
        for a, b in ((tuple(there.shape), tuple(here.shape)), (there.dtype, here.dtype)):
            if a != b:
                raise TransfuseError(f"{path}: the weights {name!r} are {a}, and the recipe's model has {b}")
    return weights
