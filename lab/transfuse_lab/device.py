"""The device that a command computes on: what ``--device`` says, checked before anything is loaded or made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from transfuse.errors import TransfuseError

from transfuse_lab.progress import say

if TYPE_CHECKING:
    import torch

AUTO = "auto"


def check_device(text: str) -> str:
    """The text, where it is one of ``auto``, ``cpu``, ``cuda`` and ``cuda:N``.

    >>> check_device("cuda:1")
    'cuda:1'
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text, re.ASCII):
        raise TransfuseError(f"--device {text!r:.40}: write auto, cpu, cuda, or cuda:1 for the second GPU")
    return text


def open_device(text: str) -> torch.device:
    """The device: ``auto`` is the first GPU, where torch sees one, and then that is said; else the CPU.

    Raises TransfuseError where it is not there, saying why.
    """
    import torch

    device = torch.device(found[0] if (found := open_devices(text)) else "cpu")
    if device.type == "cuda":
        say(f"device: {title(device)}")
    return device


def title(device: torch.device) -> str:
    """``cpu``, or ``cuda:0 (NVIDIA H100)``."""
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def open_devices(text: str) -> list[str]:
    """The GPUs that may be used, a job each; none where that is the CPU. ``auto`` and ``cuda`` are all there are."""
    import torch

    check_device(text)
    count = torch.cuda.device_count() if text != "cpu" and torch.cuda.is_available() else 0
    every = [f"cuda:{number}" for number in range(count)]
    if text.startswith("cuda") and not every:
        why = (
            f"torch {torch.__version__} is built without CUDA; install one that is built with it (pytorch.org)"
            if torch.version.cuda is None
            else "it finds no GPU or no driver that fits (nvidia-smi, CUDA_VISIBLE_DEVICES)"
        )
        raise TransfuseError(f"--device {text}: torch sees no CUDA device: {why}, or leave --device out")
    if ":" not in text:
        return every
    if text not in every:
        raise TransfuseError(f"--device {text}: torch sees {', '.join(every)} and no other")
    return [text]
