"""A rank reads its own pieces of a checkpoint's tensors, whatever pieces they were written in, and no more."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from transfuse.checkpoints import Checkpoint
from transfuse.checkpoints.checkpoint import MODEL, OPTIMIZER
from transfuse.checkpoints.weights import Part, check_finite, check_fit, module_tensors
from transfuse.model.model import Model
from transfuse.training.optimizer import restore_optimizer
from transfuse.training.sharding import Shards, is_divided, put_rows


def load_state(
    checkpoint: Checkpoint, model: Model, shards: Shards, optimizer: torch.optim.Optimizer
) -> None:
    """A checkpoint's weights, and the optimiser's moments; of several ranks each reads its own pieces alone."""
    if shards.ranks.size == 1:
        checkpoint.load_weights(model)
        moments = checkpoint.tensors(OPTIMIZER)
    else:
        own = module_tensors(model)
        for name, piece in read_own(checkpoint.part(MODEL), own).items():
            there: Any = own[name]
            (there.to_local() if is_divided(there) else there).copy_(piece)
        moments = read_moments(checkpoint.part(OPTIMIZER), shards.parameters)
    restore_optimizer(shards.trained, optimizer, moments)


def read_own(part: Part, targets: Mapping[str, Any]) -> dict[str, Tensor]:
    """Of each tensor the piece that a target of that name has on this rank, whatever pieces it was written in.

    targets: DTensors, or tensors that are whole on each rank. No more than that is held. Raises TransfuseError as
    `load_weights` does.
    """
    places = {name: _place(target) for name, target in targets.items()}
    found: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    with part.checked():
        for name, begins, piece in part.pieces():
            ends = [a + n for a, n in zip(begins, piece.get_shape(), strict=True)]
            shapes[name] = [max(pair) for pair in zip(shapes.get(name, ends), ends, strict=True)]
            place = places.get(name, ())
            if name not in places or len(place) != len(ends):
                found[name] = _empty_like(piece, [0])
                continue
            if name not in found:
                found[name] = _empty_like(piece, [last - first for first, last in place])
            shared = [
                (max(first, begin), min(last, end))
                for (first, last), begin, end in zip(place, begins, ends, strict=True)
            ]
            if all(low < high for low, high in shared):
                here = tuple(
                    slice(a - first, b - first) for (a, b), (first, _) in zip(shared, place, strict=True)
                )
                there = tuple(
                    slice(a - begin, b - begin) for (a, b), begin in zip(shared, begins, strict=True)
                )
                found[name][here] = piece[there or ...]
    whole = {n: torch.empty(shapes[n], dtype=piece.dtype, device="meta") for n, piece in found.items()}
    check_fit(part, whole, targets)
    check_finite(part, found)
    return found


@torch.no_grad()
def read_into(
    part: Part, places: Mapping[str, Sequence[Tensor]], there: Mapping[str, Tensor], some: bool = False
) -> None:
    """Reads tensors by name into the first rows of their places, each of which may be divided among ranks: then its own
    rows alone are read, and no more than a piece is held.

    there: tensors of the names, shapes and dtypes that the files should hold; ``some``: or a part of them. Raises
    TransfuseError as `load_weights` does.
    """
    shapes: dict[str, list[int]] = {}
    dtypes: dict[str, Tensor] = {}
    with part.checked():
        for name, begins, piece in part.pieces():
            ends = [a + n for a, n in zip(begins, piece.get_shape(), strict=True)]
            shapes[name] = [max(pair) for pair in zip(shapes.get(name, ends), ends, strict=True)]
            dtypes[name] = _empty_like(piece, [0])
            if name not in there or any(begins[1:]) or len(ends) != there[name].dim():
                continue
            for place in places.get(name, ()):
                if ends:
                    put_rows(place, begins[0], ends[0] - begins[0], piece)
                else:
                    place.copy_(piece[...])
    whole = {n: torch.empty(shape, dtype=dtypes[n].dtype, device="meta") for n, shape in shapes.items()}
    check_fit(part, whole, {n: tensor for n, tensor in there.items() if not some or n in whole})
    own = ((name, cast(Any, p)) for name, each in places.items() for p in each if name in whole)
    check_finite(part, {name: p.to_local() if is_divided(p) else p for name, p in own})


def read_moments(part: Part, parameters: Mapping[str, Any]) -> dict[str, Tensor]:
    """An optimiser's state by name, each moment's piece that its parameter has on this rank."""
    targets: dict[str, Any] = {}
    with part.checked():
        for name, _, piece in part.pieces():
            shape = piece.get_shape()
            own = parameters.get(name.rpartition("/")[0])
            if own is None or not shape:
                targets[name] = torch.empty(shape, dtype=_empty_like(piece, [0]).dtype)
            else:
                targets[name] = own
    return read_own(Part(dict.fromkeys(part.files), part.prefix), targets)


def _empty_like(piece: Any, shape: list[int]) -> Tensor:
    none = piece[tuple(slice(0, 0) for _ in piece.get_shape()) or ...]
    return torch.empty(shape, dtype=none.dtype)


def _place(target: Any) -> list[tuple[int, int]]:
    """Along each axis, from where to where a rank's piece of a tensor goes."""
    if not hasattr(target, "__create_chunk_list__"):
        return [(0, size) for size in target.shape]
    (chunk,) = target.__create_chunk_list__()
    return [(first, first + size) for first, size in zip(chunk.offsets, chunk.sizes, strict=True)]
