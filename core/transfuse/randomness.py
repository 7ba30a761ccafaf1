"""Keyed randomness: a draw depends on what it is for, never on what was drawn before it."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Key:
    """A seed from which every draw of a run is derived.

    Each draw names its stream (``"noise"``, ``"order"``) and integers (visit, sample id, item), so
    a sample's noise is the same under any packing, number of ranks or workers, and on any device:
    draws are made on the CPU, where the batch is made.
    """

    seed: int

    def number(self, stream: str, *ids: int) -> int:
        """A 63-bit number for the stream and ids; equal keys give equal numbers."""
        words = struct.pack(f"<{1 + len(ids)}q", self.seed, *ids)
        digest = blake2b(words + stream.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

    def uniform(self, stream: str, *ids: int) -> float:
        """One number in [0, 1)."""
        return (self.number(stream, *ids) >> 10) / (1 << 53)  # 53 bits: what a float holds, so never 1

    def generator(self, stream: str, *ids: int) -> torch.Generator:
        """A fresh CPU generator for one draw."""
        return torch.Generator().manual_seed(self.number(stream, *ids))

    def rng(self, stream: str, *ids: int) -> np.random.Generator:
        """The same for numpy."""
        return np.random.default_rng(self.number(stream, *ids))


def draw(weights: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One index a row of ``weights`` [B, n], as likely as its weight is large, from the row's own generator: [B].

    The weights are not negative, in double precision on the CPU, and need not add up to 1.
    """
    uniform = torch.cat([torch.rand(1, generator=g, dtype=weights.dtype) for g in generators])
    rising = weights.cumsum(dim=1)
    last = (rising < rising[:, -1:]).sum(dim=1)  # a product rounded up may reach the whole
    below = rising <= (uniform * rising[:, -1])[:, None]
    return torch.minimum(below.sum(dim=1), last)
