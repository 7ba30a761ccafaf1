"""Weights averaged over training (EMA), by torch's own averaging: what is sampled from and evaluated."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from transfuse.errors import TransfuseError


def decay_after(updates: int, decay: float) -> float:
    """The decay that follows ``updates`` updates: min(decay, (1 + n) / (10 + n)), as TensorFlow ramps it.

    A plain 0.999 would keep 37 % of the first weights after 1,000 steps. Under the ramp the average
    spans about the last ninth of the steps so far, until that is longer than decay's own 1 / (1 - decay).
    """
    return min(decay, (1 + updates) / (10 + updates))


class EMA:
    """The exponential moving average of trained weights, by name; of those that are divided among ranks a rank gives
    its own parts, and an update needs no communication."""

    def __init__(self, trained: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay, self.trained = decay, dict(trained)
        self.current = nn.ParameterList(self.trained.values())
        self.averaged = AveragedModel(self.current, multi_avg_fn=self._move).requires_grad_(False)

    def _move(self, averaged: PARAM_LIST, current: PARAM_LIST, updates: Tensor | int) -> None:
        get_ema_multi_avg_fn(decay_after(int(updates), self.decay))(averaged, current, updates)

    def update(self) -> None:
        """After an optimiser step; the first copies the weights, so that what they were drawn as is gone."""
        self.averaged.update_parameters(self.current)

    def tensors(self) -> dict[str, Tensor]:
        """The averaged weights by parameter name, to be saved."""
        return dict(zip(self.trained, self.averaged.module.parameters(), strict=True))

    def restore(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """The inverse, after so many updates. Raises TransfuseError where it is another module's."""
        for name in sorted(self.trained.keys() | tensors.keys()):
            there, here = ([*side[name].shape] if name in side else None for side in (tensors, self.trained))
            if there != here:
                raise TransfuseError(
                    f"the saved average of {name!r} is {there or 'missing'}, the model's {here or 'missing'}"
                )
        with torch.no_grad():
            for name, averaged in self.tensors().items():
                averaged.copy_(tensors[name])
        self.averaged.n_averaged.fill_(updates)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The weights are the averaged ones; afterwards they are the trained ones again."""
        kept = [p.detach().clone() for p in self.current]
        try:
            self._put(list(self.averaged.module.parameters()))
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.current, values, strict=True):
            parameter.copy_(value)
