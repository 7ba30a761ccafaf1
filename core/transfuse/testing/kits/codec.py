"""The kit for codecs: what holds of raw data and payloads, and what a codec says of its payloads beforehand."""

from typing import Any

import numpy as np
import torch

from transfuse.modalities import seam
from transfuse.testing.kits.raw_case import RawDataCase, shown
from transfuse.testing.kits.raw_data import RAW_DATA
from transfuse.testing.kits.runner import Kit, expect

SAID: Kit[RawDataCase] = Kit("codec")
BEYOND = 0.02
"""At most such a share of latents lies beyond the bound."""


@SAID.check("change grid so that it gives the sides of what encode makes of raw data of that shape")
def grids_are_those_of_payloads(at: RawDataCase) -> None:
    """grid(raw.shape) is the sides of the payload: all axes of codes, all but the first of latents."""
    for raw, payload in zip(at.raws, at.payloads, strict=True):
        said, sides = tuple(at.fitted.grid(raw.shape)), payload.shape[0 if at.fitted.codes else 1 :]
        expect(said == sides, f"grid says {said} of {shown(raw)}, and its payload is {list(payload.shape)}")


@SAID.check(
    "change encode so that codes are int64 from 0 to codes - 1, and latents float32 [channels, *grid]"
)
def payloads_are_of_the_kind_it_says(at: RawDataCase) -> None:
    """Where codes is 0 payloads are float32 of so many channels, else codes within it."""
    codes = seam.call(at.fitted, "codes") if at.fitted.codes else 0
    for payload in at.payloads:
        if codes:
            lawful = payload.dtype.kind in "iu" and payload.min() >= 0 and payload.max() < codes
            expect(lawful, f"payloads are {payload.dtype} up to {payload.max()}, and codes is {codes}")
        else:
            lawful = payload.dtype == np.float32 and len(payload) == at.fitted.channels
            expect(lawful, f"a payload is {shown(payload)}, and channels is {at.fitted.channels}")


@SAID.check("change codes so that it is known before fit, and the same after it")
def codes_are_known_before_it_is_fit(at: RawDataCase) -> None:
    """codes, on which the vocabulary rests, is the same before and after fit."""
    before, after = at.unfit().codes, at.fitted.codes
    expect(before == after, f"codes is {before} before fit, and {after} after it")


@SAID.check("change bound so that nearly all latents lie within ±bound, or say does_not = {'bound': reason}",
            ability="bound")  # fmt: skip
def latents_lie_within_the_bound(at: RawDataCase) -> None:
    """A sampler may clip latents to ±bound."""
    if not at.fitted.codes:
        beyond = np.mean([(np.abs(payload) > at.fitted.bound * 1.001).mean() for payload in at.payloads])
        expect(beyond <= BEYOND, f"{beyond:.1%} of all latents lie beyond ±{at.fitted.bound:g}")


@SAID.check("change encode and decode so that they compute without a graph: with torch.no_grad()")
def it_computes_without_a_graph(at: RawDataCase) -> None:
    """encode and decode leave no graph behind, and give arrays."""
    for payload in at.payloads[:2]:
        with torch.enable_grad():
            back: Any = at.fitted.decode(payload)
        expect(not isinstance(back, torch.Tensor), "decode gave a tensor, and raw data are arrays")


CODEC: Kit[RawDataCase] = Kit("codec", RAW_DATA, SAID).declared()
