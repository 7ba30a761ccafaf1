"""Weights on disk: safetensors files, one name a tensor, loaded whole or not at all.

Of ranks that trained together each wrote its pieces: a file's header says where in the tensor a piece begins.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
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


@dataclass(frozen=True)
class Part:
    """Files of one kind of tensors, with each one's SHA-256, None where it was checked; and a prefix of their names."""

    files: Mapping[Path, str | None]
    prefix: str = ""

    def __str__(self) -> str:
        return str(next(iter(self.files), self.prefix))

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Raises TransfuseError naming the file where one is missing or damaged."""
        for path, sha256 in self.files.items():
            if sha256 is not None:
                check_file(path, sha256)
        try:
            yield
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise TransfuseError(f"{self} is damaged ({error}): {CURE}") from None

    def pieces(self) -> Iterator[tuple[str, list[int], Any]]:
        """Each piece: its tensor's name, where in the tensor it begins, and itself, to be read in slices."""
        for path in self.files:
            with safe_open(path, framework="pt") as file:
                places = json.loads((file.metadata() or {}).get("DCP_SHARDING_INFO", "{}"))
                for name in file.keys():  # noqa: SIM118 - the file is no mapping
                    piece = file.get_slice(name)
                    first = places[name]["saved_offsets"] if places else [0] * len(piece.get_shape())
                    yield name.removeprefix(self.prefix), first, piece


def read_tensors(part: Part) -> dict[str, Tensor]:
    """The inverse, pieces put together. Raises TransfuseError where a file is missing, damaged, or holds NaN."""
    with part.checked():
        if not part.prefix and len(part.files) == 1:
            tensors = load_file(next(iter(part.files)))
        else:
            tensors = _joined([(name, first, piece[...]) for name, first, piece in part.pieces()])
    check_finite(part, tensors)
    return tensors


def _joined(pieces: list[tuple[str, list[int], Tensor]]) -> dict[str, Tensor]:
    shapes: dict[str, list[int]] = {}
    for name, first, piece in pieces:
        last = [a + n for a, n in zip(first, piece.shape, strict=True)]
        shapes[name] = [max(pair) for pair in zip(shapes.get(name, last), last, strict=True)]
    whole = {name: torch.empty(shapes[name], dtype=piece.dtype) for name, _, piece in pieces}
    for name, first, piece in pieces:
        whole[name][tuple(slice(a, a + n) for a, n in zip(first, piece.shape, strict=True))] = piece
    return whole


def check_finite(where: object, tensors: Mapping[str, Tensor]) -> None:
    """Raises TransfuseError naming the tensor that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise TransfuseError(
                f"{where}: {name!r} holds NaN or infinity: the run had diverged when it was saved; train again "
                f"with a lower train.lr and another --out"
            )


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module without second names of tied weights."""
    once = {name for name, _ in module.named_parameters()}
    second = {name for name, _ in module.named_parameters(remove_duplicate=False)} - once
    return {name: tensor for name, tensor in module.state_dict().items() if name not in second}


def load_weights(module: nn.Module, part: Part) -> None:
    """All of a module's weights from a file that holds just these; else TransfuseError, and no weight changed."""
    expected = module_tensors(module)
    weights = read_tensors(part)
    check_fit(part, weights, expected)
    module.load_state_dict(weights, strict=False)


def load_average(module: nn.Module, part: Part) -> None:
    """The same of its trained parameters alone, as far as they are averaged: those that training froze are not."""
    weights = read_tensors(part)
    trained = {n: p.detach() for n, p in module.named_parameters() if p.requires_grad and n in weights}
    check_fit(part, weights, trained)
    for name, tensor in weights.items():
        trained[name].copy_(tensor)


def check_fit(path: object, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises TransfuseError where these are not the names, shapes and dtypes of those."""
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights:
            raise TransfuseError(f"{path}: the weights {name!r} are missing; it was saved by another recipe")
        if name not in expected:
            raise TransfuseError(f"{path}: the weights {name!r} have no place in the recipe's model")
        there, here = weights[name], expected[name]
        for a, b in ((tuple(there.shape), tuple(here.shape)), (there.dtype, here.dtype)):
            if a != b:
                raise TransfuseError(f"{path}: the weights {name!r} are {a}, and the recipe's model has {b}")
