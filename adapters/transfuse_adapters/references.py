"""What metrics over other people's libraries share: imports that say what to install, and hashes of weights."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from transfuse.plugin import TransfuseError
from transfuse_pictures.files import rgb_levels


def imported(module: str, user: str, extra: str) -> Any:
    """A module of an optional library. Raises TransfuseError that says what ``user`` needs where it does not import."""
    try:
        return import_module(module)
    except ImportError as fault:
        raise TransfuseError(
            f"{user} needs {module} ({one_line(fault)}): pip install 'transfuse[{extra}]'"
        ) from None
    except Exception as fault:  # a torchvision of another build than torch raises RuntimeError
        raise TransfuseError(
            f"{user} needs {module}, which is installed and does not import: {one_line(fault)}"
        ) from None


def one_line(fault: Exception) -> str:
    """What a library says is wrong, as one line of at most 300 characters."""
    return " ".join(str(fault).split())[:300] or type(fault).__name__


def versions(*libraries: str) -> dict[str, str]:
    """Which of these distributions are installed, and in which version, as a record keeps it."""
    found = {}
    for library in libraries:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found


def sha256_of(weights: Path) -> str:
    """SHA-256 of a file, read in pieces; of a folder: of the lines ``hash  name`` of all its files, by name.

    Raises TransfuseError where it is missing or cannot be read.
    """
    try:
        if not weights.is_dir():
            with weights.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        files = sorted(path.relative_to(weights).as_posix() for path in weights.rglob("*") if path.is_file())
        lines = "".join(f"{sha256_of(weights / name)}  {name}\n" for name in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    except OSError as fault:
        raise TransfuseError(f"weights {weights} cannot be read: {fault.strerror or fault}") from None


def picture_batches(raws: Iterable[np.ndarray], most: int) -> Iterator[UInt8[Tensor, "n 3 h w"]]:
    """Pictures as the libraries take them, 8-bit RGB, in order; neighbours of one size together, at most so many.

    Raises TransfuseError where one is no picture.
    """
    waiting: list[np.ndarray] = []
    for raw in raws:
        picture = rgb_levels(raw)
        if waiting and (len(waiting) == most or picture.shape != waiting[0].shape):
            yield torch.from_numpy(np.stack(waiting))
            waiting = []
        waiting.append(picture)
    if waiting:
        yield torch.from_numpy(np.stack(waiting))
