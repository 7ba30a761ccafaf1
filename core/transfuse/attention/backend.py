"""What a kernel must answer to serve attention here: can it, how will it, and do it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.masks import Columns, Mask

Plan = Any
"""What a backend's `plan` returns and its own `attend` reads; made once a batch and shared by all layers."""


@dataclass(frozen=True)
class Request:
    """What attention is asked for, known before any tensor is computed."""

    device: torch.device
    dtype: torch.dtype
    heads: int
    kv_heads: int
    head_dim: int
    queries: int
    keys: int
    requires_grad: bool = True


class Backend(ABC):
    """An attention kernel. Subclasses are final; instances hold no state."""

    name: str

    @abstractmethod
    def supports(self, request: Request) -> list[str]:
        """The reasons why this backend cannot serve the request; none means it can."""

    @abstractmethod
    def plan(self, mask: Mask, queries: Columns, keys: Columns | None, request: Request) -> Plan:
        """What the kernel needs of the mask, once a batch. `keys` None: the queries are the keys.

        Raises TransfuseError when this mask over these columns is beyond the kernel.
        """

    @abstractmethod
    def attend(
        self, q: Float[Tensor, "H Tq d"], k: Float[Tensor, "Hk Tk d"], v: Float[Tensor, "Hk Tk d"], plan: Plan
    ) -> Float[Tensor, "H Tq d"]:
        """softmax(q kᵀ / √d) v over the keys each query may see; 0 where none. H is a multiple of Hk."""
