"""The kit for samplers: a perfect predictor gives the data, an exact score a Gaussian's moments, and good manners."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from transfuse.modalities.objective import Denoise, SpanObjective, broadcast_like
from transfuse.testing.kits.objective import generators, near
from transfuse.testing.kits.runner import Kit, LeftOut, expect, global_randomness_untouched
from transfuse.testing.modalities import StraightPath

SAMPLER: Kit["SamplerCase"] = Kit("sampler")
MEAN, VARIANCE = 0.3, 0.25
MANY = 1500


@dataclass(frozen=True)
class SamplerCase:
    """A sampler, and the objective by which it is tried."""

    part: Any
    objective: SpanObjective = field(default_factory=StraightPath)

    def noise(self, n: int, seed: int = 0) -> Tensor:
        draw = torch.Generator().manual_seed(seed)
        return torch.stack([torch.randn(2, 3, generator=draw) for _ in range(n)])

    def draw(self, denoise: Denoise, n: int = 3, first: int = 0, bound: float = 1.0) -> Tensor:
        noise = self.noise(n + first)[first:]
        found = self.part.sample(denoise, self.objective, noise, generators(n, first), bound)
        expect(found.shape == noise.shape, f"sample gave {list(found.shape)} of noise {list(noise.shape)}")
        return found

    def knowing(self, x0: Tensor) -> Denoise:
        """A perfect predictor of set data."""

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            signal, noise = (broadcast_like(c, x) for c in self.objective.coefficients(t))
            return self.objective.target(x0, (x - signal * x0) / noise, t).to(x.dtype)

        return denoise

    def gaussian(self, x: Tensor, t: Tensor) -> Tensor:
        """The best prediction for data of mean `MEAN` and variance `VARIANCE`: E[x0 | x_t] is known."""
        signal, noise = (broadcast_like(c, x) for c in self.objective.coefficients(t))
        gain = signal * VARIANCE / (signal**2 * VARIANCE + noise**2)
        x0 = MEAN + gain * (x - signal * MEAN)
        return self.objective.target(x0, (x - signal * x0) / noise, t).to(x.dtype)

    @staticmethod
    def plain(x: Tensor, t: Tensor) -> Tensor:
        """A prediction that rests on each span alone."""
        return x.tanh() * 0.5


@SAMPLER.check("change sample so that its last step leads to the clean data that the last prediction implies")
def a_perfect_predictor_gives_the_data(at: SamplerCase) -> None:
    """Where the prediction is perfect, what is drawn is the data."""
    x0 = at.noise(4, seed=9).tanh()
    far = float((at.draw(at.knowing(x0), 4) - x0).abs().max())
    expect(far < 1e-3, f"the data are missed by {far:.3g}")


@SAMPLER.check(
    "change sample so that each step keeps the noise that its time says: mean and spread must come out"
)
def a_gaussian_has_its_moments(at: SamplerCase) -> None:
    """With the exact score of a Gaussian, what is drawn has its mean and variance."""
    drawn = at.draw(at.gaussian, MANY, bound=10.0)
    mean, variance = float(drawn.mean()), float(drawn.var())
    seen = f"mean {mean:.3f} and variance {variance:.3f}, of data with {MEAN} and {VARIANCE}"
    expect(abs(mean - MEAN) < 0.05 and abs(variance - VARIANCE) < 0.2 * VARIANCE, seen)


@SAMPLER.check("change sample so that it returns finite numbers of the noise's shape and dtype")
def samples_are_as_the_noise_is(at: SamplerCase) -> None:
    """Shape and dtype of what is drawn are the noise's, and it is finite."""
    found = at.draw(at.plain)
    expect(
        found.dtype == torch.float32 and found.isfinite().all(),
        f"{found.dtype}, finite: {found.isfinite().all()}",
    )


@SAMPLER.check("change sample so that all it draws comes from the generators")
def samples_are_fixed_by_their_generators(at: SamplerCase) -> None:
    """Equal noise and generators, equal samples; nothing is drawn from a global random state."""
    with global_randomness_untouched():
        one, two = at.draw(at.plain), at.draw(at.plain)
    expect(one.equal(two), "equal noise and generators gave other samples")


@SAMPLER.check("change sample so that sample i rests on noise[i] and generators[i] alone")
def samples_are_drawn_apart(at: SamplerCase) -> None:
    """A sample does not rest on which others are drawn with it."""
    for denoise, bound in ((at.plain, 1.0), (lambda x, t: -8 * at.plain(x, t), 9.0)):
        whole = at.draw(denoise, bound=bound)
        for i in range(3):
            alone = at.draw(denoise, 1, first=i, bound=bound)[0]
            expect(near(alone, whole[i]), f"sample {i} is another alone than in a batch")


@SAMPLER.check("change sample so that it works on a copy of the noise")
def noise_is_left_as_it_is(at: SamplerCase) -> None:
    """sample writes nothing into the noise."""
    noise = at.noise(3)
    kept = noise.clone()
    at.part.sample(at.plain, at.objective, noise, generators(3), 1.0)
    expect(noise.equal(kept), "sample changed the noise in place")


@SAMPLER.check("change sample so that it begins from the noise that it is given")
def samples_heed_the_noise(at: SamplerCase) -> None:
    """Other noise, other samples."""
    one, two = (at.draw(at.plain, first=first) for first in (0, 5))
    expect(not near(one, two), "other noise gave the same samples")


@SAMPLER.check(
    "change sample so that it clips x0 to ±bound, or say does_not = {'bound': reason}", ability="bound"
)
def samples_lie_within_the_bound(at: SamplerCase) -> None:
    """Where predictions lead further, what is drawn lies within ±bound."""
    if getattr(getattr(at.part, "settings", None), "clip", True) is False:
        raise LeftOut("its setting clip is false")
    x0 = 5 * at.noise(3, seed=9)
    far = float(at.draw(at.knowing(x0), bound=1.0).abs().max())
    expect(far <= 1.001, f"samples reach {far:.3g}, and bound is 1")


@SAMPLER.check("change sample so that it calls the model as often as its setting evaluations says")
def the_model_is_called_as_often_as_is_said(at: SamplerCase) -> None:
    """A sampler that has a setting ``evaluations`` asks so many times."""
    said = getattr(getattr(at.part, "settings", None), "evaluations", None)
    if said is None:
        raise LeftOut("it has no setting evaluations")
    asked: list[int] = []
    at.draw(lambda x, t: at.plain(x, t * (asked.append(len(x)) or 1)))  # type: ignore[func-returns-value]
    expect(len(asked) == said, f"the model was called {len(asked)} times, and evaluations is {said}")


@SAMPLER.check("change sample so that it asks for times of the objective, one a span, from noise to clean")
def times_are_the_objectives(at: SamplerCase) -> None:
    """It asks for B times at once, whose shares of noise lie within 0 and 1 and never grow."""
    shares: list[float] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        expect(t.shape == (len(x),), f"it asked at times {list(t.shape)} for {len(x)} spans")
        shares.append(float(at.objective.share(t).max()))
        return at.plain(x, t)

    at.draw(denoise)
    first = float(at.objective.share(at.objective.times(2)[:1]))
    begins = bool(shares) and first - 1e-3 < shares[0] <= 1
    expect(begins, f"it asked at shares of noise {shares[:6]}, and pure noise has {first:g}")
    expect(all(a >= b - 1e-6 for a, b in pairwise([*shares, 0.0])), "it asked at times that go back")
