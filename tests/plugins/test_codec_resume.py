"""A codec's training goes on from every step of it, bit for bit, as if it had never stopped."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from transfuse.errors import TransfuseError
from transfuse.modalities.codec import Codec
from transfuse.plugin import FitContext
from transfuse.registry.plugins import Plugins
from transfuse_image.codecs.autoencoder_training import one_cycle

from tests.tiny.models import picture

FEATURES, STEPS = 3, 9
SMALL = {
    "width": 8, "batch": 8, "steps": STEPS,
    "features": {"width": 8, "steps": FEATURES}, "critic": {"width": 8, "start": 0.4},
}  # fmt: skip
ALL = {"l1": 1, "l2": 0.5, "perceptual": 1, "gan": 0.5}
CODECS = {
    "kl": {"name": "kl", "loss": {**ALL, "kl": 1e-3}},
    "kl, plain": {"name": "kl"},
    "kl, bfloat16": {"name": "kl", "loss": ALL, "dtype": "bfloat16"},
    "vq": {"name": "vq", "codes": 64, "loss": ALL},  # more codes than the data use: dead ones are drawn anew
    "fsq": {"name": "fsq", "levels": [4, 4], "loss": ALL},
}


class Stops(FitContext):
    """Keeps the state after a step, as files would, and stops there; or goes on from what another kept."""

    def __init__(self, at: int | None = None, kept: "Stops | None" = None) -> None:
        super().__init__()
        self.at, self.kept, self.seen = at, kept, list[tuple[int, int]]()

    def resume(self):
        if self.kept is None:
            return None
        return load(self.kept.tensors), json.loads(self.kept.facts)

    def after_step(self, step, steps, state) -> None:
        self.seen.append((step, steps))
        torch.manual_seed(step)  # what is done between steps changes nothing
        if step == self.at:
            tensors, facts = state()
            self.tensors = save({name: value.contiguous() for name, value in tensors.items()})
            self.facts = json.dumps(facts)
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def fit(installed: Plugins) -> Callable[..., tuple[Codec, list[str]]]:
    images = [picture(i, side=8) for i in range(20)]

    def fitted(section: dict, context: Stops) -> tuple[Codec, list[str]]:
        codec, lines = installed.choose("codec", {**SMALL, **section}, "codec").build(), list[str]()
        try:
            codec.fit(images, 0, lines.append, context=context)
        except KeyboardInterrupt:
            assert context.at
        return codec, lines

    return fitted


@pytest.mark.parametrize("name", CODECS)
def test_from_every_step_it_goes_on_bit_for_bit(fit: Callable, name: str) -> None:
    section, watch = CODECS[name], Stops()
    whole, told = fit(section, watch)
    steps = STEPS + FEATURES * ("loss" in section)
    assert watch.seen == [(step, steps) for step in range(1, steps + 1)]
    for at in range(1, steps + 1):
        before = Stops(at)
        _, first = fit(section, before)
        after = Stops(kept=before)
        codec, rest = fit(section, after)
        assert [step for step, _ in after.seen] == list(range(at + 1, steps + 1))
        assert first + rest == told
        assert codec.facts() == whole.facts()
        for key, value in whole.state_dict().items():
            assert torch.equal(codec.state_dict()[key], value), (at, key)


def test_a_training_that_diverged_is_not_kept(fit: Callable) -> None:
    class Spoils(Stops):
        def after_step(self, step, steps, state) -> None:
            state.__self__.codec.encoder[0].weight.data[0] = torch.nan
            super().after_step(step, steps, state)

    with pytest.raises(TransfuseError, match=r"diverged before step 2 .*encoder.0.weight.*lower codec\.lr"):
        fit({"name": "kl"}, Spoils(2))


def test_a_cycle_of_rates_by_hand() -> None:
    assert one_cycle(0) == pytest.approx((1 / 25, 0.95))
    assert one_cycle(0.1) == pytest.approx((1, 0.85))
    assert one_cycle(1) == pytest.approx((1 / 250_000, 0.95))
    rates = np.array([one_cycle(share)[0] for share in np.linspace(0, 1, 101)])
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
