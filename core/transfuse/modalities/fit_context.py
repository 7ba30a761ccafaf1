"""What a fit may be told: where it computes, and where it keeps its state to go on from."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

State = tuple[dict[str, Tensor], dict[str, Any]]  # tensors by name, and JSON


class FitContext:
    """Given to a modality's or codec's ``fit`` that has a parameter ``context``; this one keeps nothing.

    device: where to train; what is drawn at random is drawn on the CPU, so that no device changes it.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def resume(self) -> State | None:
        """The state that was kept last, to go on from bit for bit; None: begin. Asked once, before the first step."""
        return None

    def after_step(self, step: int, steps: int, state: Callable[[], State]) -> None:
        """To be called when ``step`` of ``steps`` are done: keeps ``state()`` now and then and after the last.

        Raises KeyboardInterrupt, the state kept, where the user asked to stop.
        """


CPU = FitContext()
