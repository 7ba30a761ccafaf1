"""Broken plugins written from the documentation of interfaces alone, by somebody who had not seen any check.

Each subclasses a right part and has one fault, which its docstring tells; `liar` adds what a good check would say.
"""

import itertools
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transfuse.datasets import ENDLESS
from transfuse.plugin import (
    AppliesTo,
    Backend,
    Codec,
    Column,
    DataSet,
    Document,
    Evaluation,
    Figure,
    GuidanceSettings,
    Item,
    Loss,
    Metric,
    Span,
    SpanModality,
    Task,
    TimeEmbedding,
    TokenModality,
    TransfuseError,
    broadcast_like,
    checked_index,
    clock,
    content_hash,
    draw,
    in_either_order,
)
from transfuse.testing import (
    ATTENTION,
    CODEC,
    DATASET,
    METRIC,
    MODALITY,
    OBJECTIVE,
    SAMPLER,
    AttentionCase,
    DataSetCase,
    Kit,
    MetricCase,
    ModalityCase,
    ObjectiveCase,
    RawDataCase,
    SamplerCase,
)
from transfuse_diffusion.ddim import DDIM, AncestralSettings, EulerSettings
from transfuse_diffusion.ddpm import DDPM, DDPMSettings
from transfuse_diffusion.flow import Flow, FlowSettings
from transfuse_diffusion.heun import Heun, HeunSettings, tau
from transfuse_diffusion.sampling import X0Estimator, fresh_noise, steps
from transfuse_text.objective import NextToken, NextTokenSettings


@dataclass(frozen=True)
class FreshLiar:
    """A broken part. kind: of part; fault: in a sentence; says: what its author would like to be told.

    check: what refuses it now; none does: why says that no law forbids it. at_first: what the kit did that its authors
    had before they saw it: ``named`` the fault, refused it ``elsewhere``, was ``silent``.
    """

    name: str
    kind: str
    fault: str
    says: str
    make: Callable[[], Any]
    check: str
    at_first: Literal["named", "elsewhere", "silent"]
    why: str

    @property
    def kit(self) -> Kit[Any]:
        return KITS.get(self.kind, OBJECTIVE)

    def case(self) -> tuple[Kit[Any], Any]:
        """Its kit, and itself with what it is tried with."""
        return case_of(self.kind, self.make)


KITS: dict[str, Kit[Any]] = {
    "modality": MODALITY,
    "codec": CODEC,
    "sampler": SAMPLER,
    "attention": ATTENTION,
    "dataset": DATASET,
    "metric": METRIC,
}
FRESH: list[FreshLiar] = []


def liar(
    kind: str,
    says: str,
    check: str = "",
    at_first: Literal["named", "elsewhere", "silent"] = "named",
    why: str = "",
) -> Callable[[type], type]:
    """Adds a class that is built without arguments; its docstring is the fault."""

    def add(cls: type) -> type:
        FRESH.append(FreshLiar(cls.__name__, kind, str(cls.__doc__), says, cls, check, at_first, why))
        return cls

    return add


def case_of(kind: str, make: Callable[[], Any]) -> tuple[Kit[Any], Any]:
    """The kit of a kind, and a part with what it is tried with."""
    kit, part = KITS.get(kind, OBJECTIVE), make()
    if kind == "modality":
        ids = isinstance(part, TokenModality)
        raws = WORDS if isinstance(part, Letters) else GRIDS if ids else SERIES
        return kit, ModalityCase(part, deepcopy(raws), "same(doc) & le(idx)" if ids else BAGEL)
    if kind == "codec":
        return kit, RawDataCase(part, deepcopy(PICTURES))
    if kind == "dataset":
        return kit, DataSetCase(part, make())
    if kind == "metric":
        prompts = [(Item("text", str(i)),) for i in range(len(SERIES))]
        made, truth = deepcopy(SERIES), deepcopy(SERIES)
        return kit, MetricCase(part, Evaluation(Task("series", ("text",)), prompts, truth, made))
    case = {"sampler": SamplerCase, "attention": AttentionCase}.get(kind, ObjectiveCase)
    return kit, case(part)


# -- right parts

PATCH = 4
BAGEL = "same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))"
RNG = np.random.default_rng(7)
SERIES = [(3 + 2 * RNG.standard_normal(n)).astype(np.float32) for n in (16, 24, 16, 24, 32, 16, 24, 32)]
"""Raw data of `Series`: of three lengths, not centred."""
WORDS = ["ACGT", "GATTACA", "TTTT", "CA", "ACGTACGTAC", "GGC"]
"""Raw data of `Letters`."""
GRIDS = [RNG.integers(0, 12, shape) for shape in ((2, 3), (3, 2), (4, 4), (2, 3), (3, 2), (4, 4))]
"""Raw data of `Mosaic`."""
X = np.linspace(0, 3, 96, dtype=np.float32).reshape(8, 12)
PICTURES = [
    np.stack([0.5 + 0.4 * np.sin(X / 2 + i + c / 3) for c in range(3)]).astype(np.float32) for i in range(6)
]
"""Raw data of `Halves` and `Shades`."""


class Series(SpanModality):
    """Series of a few lengths, normalised by a mean and a spread of the training data, four values a position."""

    objective_of = Flow, FlowSettings()

    def __init__(self, name: str = "series") -> None:
        super().__init__(name)
        kind, settings = self.objective_of
        self.guidance = GuidanceSettings(scale=2)
        self.views = self.guidance.views_dropped
        self.diffusion, self.sampler = kind(settings), DDIM(EulerSettings(evaluations=8))
        self.clean_time = self.diffusion.clean_time
        self.lengths: list[int] = []
        self.mean, self.std, self.bound = 0.0, 1.0, 1.0

    def fit(self, raws, seed, report, effort=1.0):
        kept = list(raws)
        self.lengths = sorted({len(raw) for raw in kept})
        whole = np.concatenate(kept).astype(np.float64)
        self.mean, self.std = float(whole.mean()), float(whole.std())
        self.bound = float(np.abs(whole - self.mean).max()) / self.std

    def facts(self):
        return {"lengths": list(self.lengths), "mean": self.mean, "std": self.std, "bound": self.bound}

    def restore(self, facts):
        self.lengths = list(facts["lengths"])
        self.mean, self.std, self.bound = facts["mean"], facts["std"], facts["bound"]

    def connect(self, dim):
        self.into, self.out = nn.Linear(PATCH, dim), nn.Linear(dim, PATCH)
        self.time = TimeEmbedding(dim)

    def encode(self, raw):
        if not isinstance(raw, np.ndarray) or raw.ndim != 1 or len(raw) not in self.lengths:
            raise TransfuseError(f"a series has {self.lengths} values, not {raw!r:.60}")
        return ((raw - self.mean) / self.std).astype(np.float32)

    def decode(self, payload):
        return (payload * self.std + self.mean).astype(np.float32)

    def labels(self):
        return tuple(str(length) for length in self.lengths)

    def blank(self, label):
        return np.zeros(int(label), np.float32)

    def spans(self, item, payload):
        n, label = len(payload) // PATCH, str(len(payload))
        return [Span(payload, n, label, noised=item.noised, loss=item.loss and item.noised)]

    def corrupt(self, clean, generators, is_context):
        return self.diffusion.corrupt(clean, generators, is_context)

    def noise_share(self, t):
        return self.diffusion.share(t)

    def embed(self, x_t, t):
        vectors = self.into(x_t.unflatten(1, (-1, PATCH)))
        return vectors + self.time(clock(self.noise_share(t)))[:, None], None

    def head(self, hidden, state, t):
        return self.out(hidden).flatten(1)

    def objective(self, prediction, target, t):
        return self.diffusion.score(prediction, target, t)

    def pure(self, label, generators):
        noise = torch.stack([torch.randn(int(label), generator=g) for g in generators])
        return noise.to(self.out.weight)

    def sample(self, evaluate, label, generators):
        denoise = self.guidance.denoiser(evaluate, self.noise_share)
        noise = self.pure(label, generators)
        return self.sampler.sample(denoise, self.diffusion, noise, generators, self.bound)


class Copies(Series):
    """Series shown noised, and then clean at the same rotary positions, with a column that numbers the steps."""

    def connect(self, dim):
        super().connect(dim)
        self.seen = nn.Linear(PATCH, dim)

    def spans(self, item, payload):
        n, label = len(payload) // PATCH, str(len(payload))
        columns = {"step": np.arange(n + 2)}
        noised = Span(
            payload, n, label, inside=True, noised=True, loss=item.loss and item.noised, columns=columns
        )
        clean = Span(payload, n, label, inside=True, noised=False, loss=False, columns=columns, copy="clean")
        return [noised, clean] if item.noised else [clean]

    def columns(self):
        return {"step": Column.ID}

    def positions(self, span, cursor):
        own, after = super().positions(span, cursor)
        return own, cursor if span.noised else after

    def embed(self, x_t, t, copy):
        if copy == "clean":
            return self.seen(x_t.unflatten(1, (-1, PATCH))), None
        return super().embed(x_t, t)


class Letters(TokenModality):
    """Bases of DNA, one by one."""

    predicts_markers = True
    alphabet = "ACGT"
    suffixes = (".txt",)

    def __init__(self, name: str = "letters") -> None:
        super().__init__(name)
        self.scorer = NextToken(NextTokenSettings())
        self.temperature = 1.0

    @property
    def codes(self):
        return len(self.alphabet)

    def fit(self, raws, seed, report, effort=1.0):
        report("nothing to learn")

    def facts(self):
        return {}

    def restore(self, facts):
        pass

    def connect(self, dim):
        pass

    def encode(self, raw):
        if not isinstance(raw, str) or set(raw) - set(self.alphabet):
            raise TransfuseError(f"a sequence is letters of {self.alphabet}, not {raw!r:.40}")
        return np.array([self.alphabet.index(base) for base in raw], np.int64)

    def decode(self, payload):
        return "".join(self.alphabet[code] for code in payload)

    def spans(self, item, payload):
        return [Span(payload, len(payload), grouped=False, loss=item.loss)]

    def objective(self, logits, targets):
        return self.scorer.score(logits, targets)

    def choose(self, logits, generator, left):
        return int(draw(torch.softmax(logits[:1].cpu().double() / self.temperature, dim=1), [generator])[0])


class Mosaic(TokenModality):
    """Grids of twelve colours in row-major order, a label for each size, guided in log-probabilities."""

    codes = 12

    def __init__(self, name: str = "mosaic") -> None:
        super().__init__(name)
        self.scorer = NextToken(NextTokenSettings())
        self.guidance = GuidanceSettings(scale=3)
        self.views = self.guidance.views_dropped
        self.sizes: list[tuple[int, int]] = []

    def fit(self, raws, seed, report, effort=1.0):
        self.sizes = sorted({raw.shape for raw in raws})

    def facts(self):
        return {"sizes": [list(size) for size in self.sizes]}

    def restore(self, facts):
        self.sizes = [tuple(size) for size in facts["sizes"]]

    def connect(self, dim):
        pass

    def encode(self, raw):
        if not isinstance(raw, np.ndarray) or raw.shape not in self.sizes or raw.dtype.kind not in "iu":
            raise TransfuseError(f"a mosaic is whole numbers of {self.sizes}, not {raw!r:.60}")
        if raw.min() < 0 or raw.max() >= self.codes:
            raise TransfuseError(f"a mosaic has colours 0 … {self.codes - 1}")
        return raw.astype(np.int64)

    def decode(self, payload):
        return np.asarray(payload, np.int64)

    def labels(self):
        return tuple(f"{h}x{w}" for h, w in self.sizes)

    def blank(self, label):
        return np.zeros(self.sizes[self.labels().index(label)], np.int64)

    def spans(self, item, payload):
        h, w = payload.shape
        return [Span(payload.reshape(-1), payload.size, f"{h}x{w}", loss=item.loss)]

    def objective(self, logits, targets):
        return self.scorer.score(logits, targets)

    def mixed(self, logits, left):
        views = torch.log_softmax(logits.cpu().double(), dim=-1)
        mixed = self.guidance.mix(list(views)) if self.guidance.within(left) else views[0]
        return mixed.masked_fill(views[0] == -torch.inf, -torch.inf)

    def choose(self, logits, generator, left):
        return int(draw(torch.softmax(self.mixed(logits, left)[None], dim=1), [generator])[0])


class Halves(Codec):
    """Every second pixel across and down, normalised a channel by what the training images have."""

    round_trip_error = 0.4
    channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))
        self.bound = 1.0

    def fit(self, raws, seed, report, effort=1.0):
        whole = torch.from_numpy(np.stack([raw.reshape(3, -1) for raw in raws])).double()
        self.mean.copy_(whole.mean((0, 2)))
        self.std.copy_(whole.std((0, 2)))
        self.bound = max(float(np.abs(self.encode(raw)).max()) for raw in raws)

    def facts(self):
        return {"bound": self.bound}

    def restore(self, facts):
        self.bound = facts["bound"]

    def grid(self, shape):
        return shape[1] // 2, shape[2] // 2

    def numbers(self):
        return self.mean[:, None, None].numpy(), self.std[:, None, None].numpy()

    def encode(self, raw):
        if not isinstance(raw, np.ndarray) or raw.ndim != 3 or len(raw) != 3 or raw.dtype.kind != "f":
            raise TransfuseError(f"an image is [3, h, w], not {raw!r:.60}")
        if any(side % 2 for side in raw.shape[1:]) or not np.isfinite(raw).all():
            raise TransfuseError("an image has even sides and finite numbers")
        mean, std = self.numbers()
        return ((raw[:, ::2, ::2] - mean) / std).astype(np.float32)

    def decode(self, payload):
        mean, std = self.numbers()
        return (payload * std + mean).repeat(2, 1).repeat(2, 2).clip(0, 1).astype(np.float32)


class Shades(Codec):
    """The mean of two by two pixels of all channels, as one of 16 codes."""

    codes, channels, bound, round_trip_error = 16, 1, 1.0, 1.0

    def __init__(self) -> None:
        super().__init__()
        self.image_channels = 3

    def fit(self, raws, seed, report, effort=1.0):
        self.image_channels = len(raws[0])

    def facts(self):
        return {"channels": self.image_channels}

    def restore(self, facts):
        self.image_channels = facts["channels"]

    def grid(self, shape):
        return shape[1] // 2, shape[2] // 2

    def encode(self, raw):
        if not isinstance(raw, np.ndarray) or raw.ndim != 3 or len(raw) != self.image_channels:
            raise TransfuseError(f"an image is [{self.image_channels}, h, w], not {raw!r:.60}")
        if any(side % 2 for side in raw.shape[1:]) or not np.isfinite(raw).all():
            raise TransfuseError("an image has even sides and finite numbers")
        _, h, w = raw.shape
        mean = raw.reshape(-1, h // 2, 2, w // 2, 2).mean((0, 2, 4))
        return (mean * 16).clip(0, 15).astype(np.int64)

    def decode(self, payload):
        grey = ((np.asarray(payload) + 0.5) / 16).astype(np.float32).repeat(2, 0).repeat(2, 1)
        return np.repeat(grey[None], self.image_channels, 0)


class Stripes(DataSet):
    """Stripes across and down with their names; one visit in four reads the image first."""

    name = "stripes"
    reversed_share = 0.25

    def size(self, split):
        return {"train": 24, "heldout": 8}[split]

    def number(self, split, index):
        return checked_index(self.name, split, index, self.size(split)) + 24 * (split == "heldout")

    def picture(self, number):
        wave = np.sin(np.arange(8, dtype=np.float32) * (1 + number % 5) + number)
        return np.ascontiguousarray(
            np.broadcast_to(wave[:, None] if number % 2 else wave, (1, 8, 8)), np.float32
        )

    def items(self, number):
        caption = Item("text", f"{'across' if number % 2 else 'down'} {number}", droppable=True)
        return caption, Item("image", self.picture(number))

    def document(self, split, index, rng=None):
        number = self.number(split, index)
        plain = Document(self.items(number), number, f"stripes {split} {index}")
        return in_either_order(plain, self.reversed_share, rng)

    def identity(self):
        return {"name": self.name, "content": content_hash(self), "licence": "CC0"}


class Gap(Metric):
    """How far the mean of what was made is from that of its truth, a mean over prompts."""

    name = "gap"
    figures = (Figure("gap", "Means, off by", better="lower"),)
    applies_to = AppliesTo(want_data="array")

    def compute(self, evaluation):
        pairs = zip(evaluation.made, evaluation.truth, strict=True)
        gaps = [abs(float(np.mean(a, dtype=np.float64) - np.mean(b, dtype=np.float64))) for a, b in pairs]
        return {"gap": float(np.mean(gaps))} if gaps else {}


class Plain(Backend):
    """Softmax, written out."""

    name = "plain"

    def supports(self, request):
        return []

    def plan(self, mask, queries, keys, request):
        return mask.dense(queries, keys).to(request.device)

    def heads(self, k, v, q):
        shared = len(q) // len(k)
        return k.repeat_interleave(shared, 0), v.repeat_interleave(shared, 0)

    def scores(self, q, k):
        return q @ k.mT / q.shape[-1] ** 0.5

    def attend(self, q, k, v, plan):
        k, v = self.heads(k, v, q)
        return torch.nan_to_num(self.scores(q, k).masked_fill(~plan, -torch.inf).softmax(-1)) @ v


# -- span modalities: noise, time and target


@liar("modality", "a span's noise depends on what it is batched with", "spans-are-corrupted-apart")
class OneNoise(Series):
    """corrupt draws one noise, from the first generator, for all spans of a batch."""

    def corrupt(self, clean, generators, is_context):
        t = torch.tensor([self.diffusion.draw_time(g, c) for g, c in zip(generators, is_context)])  # noqa: B905
        eps = torch.randn(clean.shape[1:], generator=generators[0]).expand_as(clean)
        return self.diffusion.noised(clean, eps, t), t, self.diffusion.target(clean, eps, t)


@liar(
    "modality",
    "corrupt draws from elsewhere than the generators it was handed",
    "corruption-leaves-global-randomness-alone",
)
class NumpyNoise(Series):
    """corrupt draws its noise from numpy's global generator."""

    def corrupt(self, clean, generators, is_context):
        t = torch.tensor([self.diffusion.draw_time(g, c) for g, c in zip(generators, is_context)])  # noqa: B905
        eps = torch.from_numpy(np.random.randn(*clean.shape)).float()
        return self.diffusion.noised(clean, eps, t), t, self.diffusion.target(clean, eps, t)


@liar("modality", "a span's noise depends on what it is batched with", "spans-are-corrupted-apart")
class BatchScale(Series):
    """corrupt centres the clean spans by the mean of the batch before it noises them."""

    def corrupt(self, clean, generators, is_context):
        return super().corrupt(clean - clean.mean(), generators, is_context)


@liar("modality", "the times of a batch's spans are mixed up", "spans-are-embedded-apart")
class FirstTime(Series):
    """embed tells all spans of a batch the time of the first."""

    def embed(self, x_t, t):
        return super().embed(x_t, t[:1].expand_as(t))


@liar(
    "modality",
    "is_context is read for the batch, not for the span",
    "context-is-each-spans-own",
    at_first="silent",
)
class FirstContext(Series):
    """corrupt takes the first span's is_context for all of a batch."""

    def corrupt(self, clean, generators, is_context):
        return super().corrupt(clean, generators, [is_context[0]] * len(is_context))


@liar(
    "modality",
    "spans that later items are predicted from are noised as much as others",
    at_first="silent",
    why="an objective may have no limit of noise: noise_limit is null",
)
class ContextIgnored(Series):
    """corrupt ignores is_context, so that pictures before their captions are as noisy as any."""

    def corrupt(self, clean, generators, is_context):
        return super().corrupt(clean, generators, [False] * len(is_context))


@liar(
    "modality",
    "a perfect prediction does not lead sample to the clean payload: the target's sign",
    "a-perfect-model-gives-the-payload",
    at_first="silent",
)
class TargetSign(Series):
    """The target that corrupt returns is the negative of what the sampler takes a prediction for."""

    def corrupt(self, clean, generators, is_context):
        x_t, t, target = super().corrupt(clean, generators, is_context)
        return x_t, t, -target


@liar("modality", "noise_share is not 0 at clean and 1 at noise", "noise-share-is-a-share")
class ShareInverted(Series):
    """noise_share says 1 where a span is clean and 0 where it is noise."""

    def noise_share(self, t):
        return 1 - self.diffusion.share(t)


@liar("modality", "noise_share leaves 0 … 1", "noise-share-is-a-share")
class ShareOfThousand(Series):
    """noise_share counts in a thousand."""

    def noise_share(self, t):
        return 1000 * self.diffusion.share(t)


@liar("modality", "clean_time is not the time at which noise_share is 0", "noise-share-is-a-share")
class CleanTimeOfOthers(Series):
    """clean_time is that of people who count the other way."""

    def __init__(self, name="series"):
        super().__init__(name)
        self.clean_time = 1.0


@liar(
    "modality",
    "x_t is the clean payload's own memory, and that was written to",
    "corruption-leaves-clean-data-as-they-are",
)
class CorruptsInPlace(Series):
    """corrupt adds the noise to the clean payloads where they lie."""

    def corrupt(self, clean, generators, is_context):
        x_t, t, target = super().corrupt(clean, generators, is_context)
        return clean.copy_(x_t), t, target


@liar(
    "modality",
    "x_t has another time than t says",
    at_first="silent",
    why="it errs by less than a sampler that clips to a bound which is a quantile",
)
class TimeOfNextStep(Series):
    """corrupt reports times one step of fifty later than those it noised by."""

    def corrupt(self, clean, generators, is_context):
        x_t, t, target = super().corrupt(clean, generators, is_context)
        return x_t, (t + 0.02).clamp(max=1), target


@liar("modality", "t is not that of the span: another's", "spans-are-corrupted-apart")
class TimesSorted(Series):
    """corrupt returns the batch's times in order of size, whichever span they are of."""

    def corrupt(self, clean, generators, is_context):
        x_t, t, target = super().corrupt(clean, generators, is_context)
        return x_t, t.sort().values, target


@liar(
    "modality",
    "noise_share of a time depends on the others of its batch",
    "a-share-is-of-its-own-time",
    at_first="elsewhere",
)
class ShareOfBatch(Series):
    """noise_share is a time's part of the largest in the batch."""

    def noise_share(self, t):
        share = self.diffusion.share(t)
        return share / share.max().clamp(min=1e-6)


# -- span modalities: embed and head


@liar("modality", "the prediction does not depend on what the transformer returned", "the-head-heeds-hidden")
class HeadIgnoresHidden(Series):
    """head predicts from embed's state and leaves out what the transformer made."""

    def embed(self, x_t, t):
        vectors, _ = super().embed(x_t, t)
        return vectors, vectors

    def head(self, hidden, state, t):
        return self.out(state).flatten(1)


@liar("modality", "spans of a batch meet in head", "spans-are-embedded-apart")
class HeadNormsBatch(Series):
    """head normalises its predictions by mean and spread over the batch."""

    def head(self, hidden, state, t):
        found = super().head(hidden, state, t)
        return (found - found.mean(0)) / (found.std(0, correction=0) + 1)


@liar(
    "modality",
    "spans of a batch meet in embed, and running statistics are kept",
    "spans-are-embedded-apart-in-training",
    at_first="silent",
)
class BatchNormed(Series):
    """embed has a BatchNorm, so that what is batched together is normalised together."""

    def connect(self, dim):
        super().connect(dim)
        self.norm = nn.BatchNorm1d(dim)

    def embed(self, x_t, t):
        vectors, state = super().embed(x_t, t)
        return self.norm(vectors.transpose(1, 2)).transpose(1, 2), state


@liar("modality", "in evaluation embed draws at random", "predicting-twice-is-the-same")
class DropsAlways(Series):
    """embed drops values at random in evaluation too: F.dropout is not told that training is over."""

    def embed(self, x_t, t):
        vectors, state = super().embed(x_t, t)
        return F.dropout(vectors, 0.1), state


@liar("modality", "a span's vectors depend on its place in the batch", "spans-are-embedded-apart")
class PlaceInBatch(Series):
    """embed adds the place in the batch where it meant the place in the span."""

    def connect(self, dim):
        super().connect(dim)
        self.place = nn.Embedding(64, dim)

    def embed(self, x_t, t):
        vectors, state = super().embed(x_t, t)
        return vectors + self.place(torch.arange(len(x_t)) % 64)[:, None], state


@liar(
    "modality",
    "head reads what another call of embed left",
    "the-head-reads-its-own-state",
    at_first="elsewhere",
)
class StateOnSelf(Series):
    """embed keeps its skip on the modality instead of in the state, where the next call overwrites it."""

    def embed(self, x_t, t):
        self._skip = x_t
        return super().embed(x_t, t)

    def head(self, hidden, state, t):
        return super().head(hidden, state, t) + self._skip[: len(t), : hidden.shape[1] * PATCH].mean()


@liar(
    "modality",
    "connect made no such weights: what is made later is not trained",
    "weights-are-where-torch-finds-them",
)
class LazyLayer(Series):
    """The time's layer is made in the first call of embed, after the optimiser has its parameters."""

    def connect(self, dim):
        self.into, self.out, self.dim, self.time = nn.Linear(PATCH, dim), nn.Linear(dim, PATCH), dim, None

    def embed(self, x_t, t):
        self.time = self.time or TimeEmbedding(self.dim)
        return super().embed(x_t, t)


@liar("modality", "weights that no gradient reaches: into", "every-weight-gets-a-gradient")
class NoGradEmbed(Series):
    """embed computes under no_grad, so that its layers never learn."""

    def embed(self, x_t, t):
        with torch.no_grad():
            return super().embed(x_t, t)


@liar("modality", "a tensor stays where it was made when the model moves", "it-trains-on-another-device")
class LooseTensor(Series):
    """A scale is a tensor that is neither buffer nor parameter: it stays on the CPU when the model moves."""

    def connect(self, dim):
        super().connect(dim)
        self.scale = torch.full((dim,), 0.5)

    def embed(self, x_t, t):
        vectors, state = super().embed(x_t, t)
        return vectors * self.scale, state


@liar(
    "modality", "embed makes tensors on the CPU whatever device it computes on", "it-trains-on-another-device"
)
class ArangeOnCPU(Series):
    """embed numbers the positions by a tensor that it makes on the CPU."""

    def embed(self, x_t, t):
        vectors, state = super().embed(x_t, t)
        return vectors + torch.arange(vectors.shape[1], device="cpu")[:, None] / 100, state


@liar("modality", "embed changes x_t", "predicting-leaves-x-t-as-it-is", at_first="elsewhere")
class EmbedInPlace(Series):
    """embed scales x_t in place, which the sampler goes on with."""

    def embed(self, x_t, t):
        return super().embed(x_t.mul_(0.5), t)


@liar(
    "modality",
    "the positions of a prediction are not those of what was embedded",
    at_first="silent",
    why="a head may mix positions, as a U-Net does",
)
class HeadReversed(Series):
    """head lays positions out backwards, so that each position predicts the values of another."""

    def head(self, hidden, state, t):
        return self.out(hidden).flip(1).flatten(1)


@liar("modality", "embed leaves positions out", "embedding-keeps-elements-apart", at_first="silent")
class EmbedsTheMean(Series):
    """embed gives every position the mean of its span: where what stood is lost."""

    def embed(self, x_t, t):
        vectors, state = super().embed(x_t, t)
        return vectors.mean(1, keepdim=True).expand_as(vectors), state


@liar("modality", "embed does not see a part of x_t", "embedding-heeds-all-of-x-t")
class HalfEmbedded(Series):
    """embed reads the first two of a position's four values."""

    def embed(self, x_t, t):
        kept = torch.tensor([1.0, 1, 0, 0]).repeat(x_t.shape[1] // PATCH)
        return super().embed(x_t * kept, t)


# -- span modalities: the loss


@liar("modality", "the loss of two spans is not the sum of theirs", "losses-add-up-over-spans")
class MeanOfSpans(Series):
    """objective returns the mean over spans with a count of B: each span weighs less in a larger batch."""

    def objective(self, prediction, target, t):
        return Loss((prediction - target).square().mean(), float(len(target)))


@liar("modality", "a span's loss grows with its length", "long-spans-weigh-as-short-ones")
class SumOfElements(Series):
    """objective sums over a span's elements, so that long series weigh more."""

    def objective(self, prediction, target, t):
        return Loss((prediction - target).square().sum(), float(len(target)))


@liar("modality", "a span's loss depends on what it is batched with", "losses-add-up-over-spans")
class WeightsOfBatch(Series):
    """objective weighs spans by their time, and makes the weights' mean over the batch 1."""

    def objective(self, prediction, target, t):
        weight = 1 / (t + 0.1)
        each = (prediction - target).square().flatten(1).mean(1) * (weight / weight.mean())
        return Loss(each.sum(), float(len(target)))


@liar("modality", "the mean is over the batch, not over the span", "losses-add-up-over-spans")
class MeanOverBatch(Series):
    """objective takes the mean over spans and sums over elements: the wrong axis."""

    def objective(self, prediction, target, t):
        return Loss((prediction - target).square().flatten(1).mean(0).sum(), float(len(target)))


@liar(
    "modality",
    "the loss has no gradient where it should: its scale is not detached",
    "the-objective-heeds-the-prediction",
)
class SelfNormalised(Series):
    """objective divides each error by itself without a detach, so that every loss is 1 and nothing learns."""

    def objective(self, prediction, target, t):
        each = (prediction - target).square().flatten(1).mean(1)
        return Loss((each / (each + 1e-8)).sum(), float(len(target)))


@liar("modality", "an element whose target is 0 is not scored", "targets-of-0-are-scored", at_first="silent")
class ZeroIsPadding(Series):
    """objective takes targets of 0 for padding and leaves them out; a target of zeros divides by zero."""

    def objective(self, prediction, target, t):
        kept = (target != 0).float()
        each = ((prediction - target).square() * kept).flatten(1).sum(1) / kept.flatten(1).sum(1)
        return Loss(each.sum(), float(len(target)))


@liar("modality", "a perfect prediction does not have the least loss", "the-loss-is-finite-and-counted")
class SignedError(Series):
    """objective forgets the square: predictions below the target have a negative loss."""

    def objective(self, prediction, target, t):
        return Loss((target - prediction).flatten(1).mean(1).sum(), float(len(target)))


# -- span modalities: raw data and facts


@liar("modality", "encode changes the raw data", "encoding-leaves-raw-data-as-they-are")
class EncodesInPlace(Series):
    """encode subtracts the mean from the raw data where they lie."""

    def encode(self, raw):
        payload = super().encode(raw)
        if raw.flags.writeable:
            raw -= np.float32(self.mean)
        return payload


@liar("modality", "decode changes the payload", "decoding-leaves-payloads-as-they-are")
class DecodesInPlace(Series):
    """decode scales the payload where it lies."""

    def decode(self, payload):
        payload *= self.std
        payload += self.mean
        return payload


@liar("modality", "decode(encode(raw)) is not raw: its spread", "decoding-inverts-encoding")
class OneWayScale(Series):
    """encode divides by the spread, and decode does not multiply by it."""

    def decode(self, payload):
        return (payload + self.mean).astype(np.float32)


@liar("modality", "decode(encode(raw)) is not raw: an item's own mean is lost", "decoding-inverts-encoding")
class ItemScale(Series):
    """encode normalises each item by its own mean and spread, which decode cannot know."""

    def encode(self, raw):
        super().encode(raw)
        return ((raw - raw.mean()) / raw.std()).astype(np.float32)


@liar(
    "modality",
    "decode returns float64 of float32 raw data",
    at_first="silent",
    why="raw data may be float64 and come back as float32, so that no type is laid down",
)
class WideDecode(Series):
    """decode returns float64 where raw data were float32."""

    def decode(self, payload):
        return payload.astype(np.float64) * self.std + self.mean


@liar("modality", "encode gives another payload the second time", "encoding-twice-is-the-same")
class RunningMean(Series):
    """encode keeps a running mean of what it has seen and subtracts that."""

    def encode(self, raw):
        payload = super().encode(raw)
        self.mean = 0.9 * self.mean + 0.1 * float(raw.mean())
        return payload


@liar(
    "modality",
    "raw data of another length is taken without a word",
    "other-shapes-are-refused-or-come-back",
    at_first="silent",
)
class CutsTheRest(Series):
    """encode cuts what does not divide into positions instead of refusing it."""

    def encode(self, raw):
        return super().encode(raw[: len(raw) // 8 * 8] if len(raw) not in self.lengths else raw)


@liar(
    "modality",
    "raw data of another shape is taken without a word",
    "other-shapes-are-refused-or-come-back",
    at_first="silent",
)
class Flattens(Series):
    """encode flattens whatever it is given: a series of two channels becomes a longer one."""

    def encode(self, raw):
        return super().encode(np.asarray(raw).reshape(-1))


@liar(
    "modality",
    "what is wrong with raw data is told as ValueError, not as TransfuseError",
    at_first="silent",
    why="what encode raises is told as one line that names part and place, whatever its type",
)
class RaisesValueError(Series):
    """encode raises ValueError for raw data that it does not take."""

    def encode(self, raw):
        if not isinstance(raw, np.ndarray) or raw.ndim != 1 or len(raw) not in self.lengths:
            raise ValueError("bad series")
        return super().encode(raw)


@liar(
    "modality", "what facts say does not restore the modality: decode differs", "facts-and-weights-restore-it"
)
class ForgetsStd(Series):
    """facts leave out the spread, so that a restored modality has another."""

    def facts(self):
        return {key: value for key, value in super().facts().items() if key != "std"}

    def restore(self, facts):
        super().restore({"std": 1.0, **facts})


@liar("modality", "after JSON the modality is another: lengths are texts", "facts-and-weights-restore-it")
class KeysBecomeText(Series):
    """facts are a dict by length, whose keys JSON makes into texts, and restore does not make them back."""

    def facts(self):
        found = super().facts()
        return {**found, "lengths": {str(length): True for length in self.lengths}}

    def restore(self, facts):
        super().restore(facts)


@liar(
    "modality",
    "a second fit remembers the first",
    at_first="silent",
    why="a modality is fit once in its life",
)
class FitsUpon(Series):
    """fit adds its lengths to those of an earlier fit."""

    def fit(self, raws, seed, report, effort=1.0):
        before = self.lengths
        super().fit(raws, seed, report, effort)
        self.lengths = before + self.lengths


@liar("modality", "two fits with one seed differ", "fitting-is-fixed-by-its-seed")
class GlobalFit(Series):
    """fit estimates its spread from a subset that is drawn from numpy's global generator."""

    def fit(self, raws, seed, report, effort=1.0):
        super().fit(raws, seed, report, effort)
        self.std *= 1 + 0.1 * np.random.random()


@liar(
    "modality",
    "fit goes through raws twice, and an iterator is over after once",
    "fitting-goes-through-raw-data-once",
    at_first="silent",
)
class TwicePastRaws(Series):
    """fit goes through the raw data once for the lengths and once more for the mean: an iterator is over by then."""

    def fit(self, raws, seed, report, effort=1.0):
        lengths = sorted({len(raw) for raw in raws})
        rest = list(raws)
        if rest:
            super().fit(rest, seed, report, effort)
        self.lengths = lengths


@liar("modality", "fit changes the raw data", "fitting-leaves-raw-data-as-they-are", at_first="silent")
class FitInPlace(Series):
    """fit sorts every series of the training data where it lies."""

    def fit(self, raws, seed, report, effort=1.0):
        kept = list(raws)
        super().fit(kept, seed, report, effort)
        for raw in kept:
            raw.sort()


@liar(
    "modality",
    "what was learnt before the model would be trained with it",
    "nothing-is-trained-before-it-is-connected",
)
class LearntStd(Series):
    """The codec's spread is a parameter that the model's optimiser goes on training: it is not frozen."""

    def fit(self, raws, seed, report, effort=1.0):
        super().fit(raws, seed, report, effort)
        self.spread = nn.Parameter(torch.tensor(self.std))

    def restore(self, facts):
        super().restore(facts)
        self.spread = nn.Parameter(torch.tensor(1.0))

    def encode(self, raw):
        return super().encode(raw) * np.float32(self.std / float(self.spread.detach()))

    def decode(self, payload):
        return super().decode(payload * np.float32(float(self.spread.detach()) / self.std))


@liar(
    "modality", "neither facts nor saved weights hold all that decode needs", "facts-and-weights-restore-it"
)
class UnsavedBuffer(Series):
    """The mean lies in a buffer that is not persistent, and facts do not have it either."""

    def fit(self, raws, seed, report, effort=1.0):
        super().fit(raws, seed, report, effort)
        self.register_buffer("centre", torch.tensor(self.mean), persistent=False)

    def facts(self):
        return super().facts() | {"mean": 0.0}

    def restore(self, facts):
        super().restore(facts)
        self.register_buffer("centre", torch.tensor(0.0), persistent=False)

    def encode(self, raw):
        self.mean = float(self.centre)
        return super().encode(raw)

    def decode(self, payload):
        self.mean = float(self.centre)
        return super().decode(payload)


@liar(
    "modality", "load does not give back what save wrote", "files-give-back-what-was-saved", at_first="silent"
)
class SavesRounded(Series):
    """save writes half precision, so that load gives back other numbers."""

    def save(self, raw, path):
        super().save(np.asarray(raw).astype(np.float16), path)


@liar("modality", "load cannot read files of its own suffixes", "files-give-back-what-was-saved")
class SuffixUnread(Series):
    """suffixes promise CSV, which load does not read."""

    suffixes = (".csv", ".npy")

    def save(self, raw, path: Path):
        buffer = BytesIO()
        np.savetxt(buffer, raw)
        path.write_bytes(buffer.getvalue())


@liar(
    "modality",
    "a drawing grows with the data",
    at_first="silent",
    why="a picture as a PNG is larger for larger pictures too",
)
class DrawsAll(Series):
    """draw writes an element of SVG for every value, however many there are."""

    def draw(self, raw):
        dots = "".join(f'<circle cx="{i}" cy="{v}" r="1"/>' for i, v in enumerate(raw))
        return f'<svg xmlns="http://www.w3.org/2000/svg">{dots}</svg>'


@liar("modality", "NaN in raw data is taken without a word", "nan-does-not-vanish", at_first="silent")
class HidesNaN(Series):
    """encode makes zeros of NaN, which nobody hears of."""

    def encode(self, raw):
        return np.nan_to_num(super().encode(raw))


@liar("modality", "encode differs while the model trains", "it-stays-frozen-in-training", at_first="silent")
class NoisyWhileTraining(Series):
    """encode adds noise while the module is in training mode, which a codec should not know."""

    def encode(self, raw):
        noise = torch.randn(len(raw)).numpy() if self.training else 0
        return super().encode(raw) + np.float32(0.05) * noise


@liar(
    "modality", "torch's global generator is set", "fitting-leaves-global-randomness-alone", at_first="silent"
)
class SeedsTheWorld(Series):
    """fit seeds torch's and numpy's global generators."""

    def fit(self, raws, seed, report, effort=1.0):
        torch.manual_seed(0)
        np.random.seed(0)
        super().fit(raws, seed, report, effort)


@liar(
    "modality",
    "without effort fit does not make what has the right shapes",
    "fitting-makes-it-take-the-raw-data",
)
class EffortZeroIsNothing(Series):
    """fit returns at once where effort is 0, and no label is known."""

    def fit(self, raws, seed, report, effort=1.0):
        if effort:
            super().fit(raws, seed, report, effort)


@liar("modality", "suffix_for is none of suffixes", "files-give-back-what-was-saved")
class SuffixForeign(Series):
    """suffix_for names a format that save does not write."""

    def suffix_for(self, raw):
        return ".wav"


# -- span modalities: layout


@liar("modality", "two lengths have one label, and blank lays out only one of them", "a-label-says-the-shape")
class LabelsCollide(Series):
    """A label is the length in twenties, so that 24 and 32 share a begin marker; blank takes the first."""

    def labels(self):
        return tuple(sorted({f"{length // 20}" for length in self.lengths}))

    def blank(self, label):
        return np.zeros(next(n for n in self.lengths if f"{n // 20}" == label), np.float32)

    def spans(self, item, payload):
        (span,) = super().spans(item, payload)
        return [Span(payload, span.length, f"{len(payload) // 20}", noised=span.noised, loss=span.loss)]


@liar(
    "modality",
    "labels are in another order in another process",
    at_first="silent",
    why="within a process nothing shows; runs keep the order of their own vocabulary",
)
class LabelsOfASet(Series):
    """labels come out of a set of texts, in an order that each process draws anew."""

    def labels(self):
        return tuple({str(length) for length in self.lengths})


@liar("modality", "rotary positions do not go on from the cursor", "positions-move-with-the-cursor")
class PositionsRestart(Series):
    """positions begin at 0 in every span, whatever stands before it."""

    def positions(self, span, cursor):
        return np.arange(span.positions), cursor + span.positions


@liar("modality", "positions are kept between calls", "positions-move-with-the-cursor")
class PositionsOfSelf(Series):
    """positions go on from a counter on the modality instead of from the cursor."""

    at = 0

    def positions(self, span, cursor):
        start, self.at = self.at, self.at + span.positions
        return np.arange(start, start + span.positions), cursor + span.positions


@liar(
    "modality",
    "what follows stands at positions that the span has taken",
    "items-take-room",
    at_first="silent",
)
class CursorShort(Series):
    """The cursor forgets the two markers, so that what follows shares the rotary positions of the span's end."""

    def positions(self, span, cursor):
        own, _ = super().positions(span, cursor)
        return own, cursor + span.length


@liar("modality", "spans draws at random", "laying-out-twice-is-the-same")
class AugmentsInSpans(Series):
    """spans flips the series at random: every look at an item lays it out differently."""

    def spans(self, item, payload):
        return super().spans(item, payload[::-1].copy() if np.random.random() < 0.5 else payload)


@liar(
    "modality",
    "spans changes the payload that is kept",
    "laying-out-leaves-payloads-as-they-are",
    at_first="silent",
)
class SpansInPlace(Series):
    """spans clips the payload where it lies."""

    def spans(self, item, payload):
        np.clip(payload, -0.5, 0.5, out=payload)
        return super().spans(item, payload)


@liar("modality", "a span's payload is not the item's", "the-first-span-is-the-payload", at_first="silent")
class SpanOfOtherNumbers(Series):
    """spans centres the payload again, which nothing undoes in decoding."""

    def spans(self, item, payload):
        return super().spans(item, payload - payload.mean() + 0.3)


@liar("modality", "a column's values depend on what was laid out before", "laying-out-twice-is-the-same")
class ColumnCounts(Copies):
    """The column's ids go on counting from item to item, so that no item is laid out twice alike."""

    def __init__(self, name="series"):
        super().__init__(name)
        self.count = itertools.count()

    def spans(self, item, payload):
        base = 100 * next(self.count)
        found = super().spans(item, payload)
        return [replace(span, columns={"step": span.columns["step"] + base}) for span in found]


@liar(
    "modality",
    "the two copies of an item hold different data",
    at_first="silent",
    why="a clean copy may show the payload in another way",
)
class CopiesDiffer(Copies):
    """The clean copy is the series backwards."""

    def spans(self, item, payload):
        found = super().spans(item, payload)
        return [*found[:-1], replace(found[-1], payload=payload[::-1].copy())]


@liar("modality", "flops are not those of a longer span", "its-cost-is-a-number", at_first="silent")
class FlatFlops(Series):
    """flops count a span's layers once, whatever its length."""

    def flops(self, span_length):
        return 2.0 * sum(p.numel() for p in self.parameters())


# -- span modalities: sampling


@liar(
    "modality",
    "sample draws from elsewhere than the generators it was handed",
    "sampling-leaves-global-randomness-alone",
)
class GlobalSample(Series):
    """sample begins with noise of torch's global generator."""

    def pure(self, label, generators):
        return torch.randn(len(generators), int(label))


@liar("modality", "a sample depends on what it is drawn with", "samples-are-drawn-apart")
class SharedSample(Series):
    """sample begins all samples with the first generator's noise."""

    def pure(self, label, generators):
        return torch.randn(int(label), generator=generators[0]).expand(len(generators), -1).clone()


@liar("modality", "sample evaluates from clean to noise", "samples-begin-at-noise", at_first="silent")
class SamplesBackwards(Series):
    """sample walks the times from clean to noise."""

    def sample(self, evaluate, label, generators):
        denoise = self.guidance.denoiser(evaluate, self.noise_share)
        x = self.pure(label, generators)
        for t in self.diffusion.times(8).flip(0):
            at = t.expand(len(x)).float()
            x = (x - denoise(x, at) / 8).clamp(-self.bound, self.bound)
        return x


@liar("modality", "sample does not ask the model", "samples-heed-the-model")
class NeverAsks(Series):
    """sample returns noise and never evaluates the model."""

    def sample(self, evaluate, label, generators):
        return self.pure(label, generators).clamp(-self.bound, self.bound)


@liar("modality", "sample gives all documents one sample", "samples-are-drawn-apart")
class FirstForAll(Series):
    """sample returns the first document's sample for all."""

    def sample(self, evaluate, label, generators):
        return super().sample(evaluate, label, generators)[:1].expand(len(generators), -1)


@liar(
    "modality",
    "views are declared, and what the model says of them changes nothing",
    "samples-heed-the-views",
    at_first="silent",
)
class GuidanceIgnored(Series):
    """sample takes the whole document's prediction alone, though it declares a view."""

    def sample(self, evaluate, label, generators):
        denoise = lambda x, t: evaluate(x, t.float())[0]  # noqa: E731
        noise = self.pure(label, generators)
        return self.sampler.sample(denoise, self.diffusion, noise, generators, self.bound)


@liar("modality", "sample follows the view without the prompt", "samples-heed-the-model", at_first="silent")
class GuidedByTheView(Series):
    """sample takes the prediction of the view without its prompt for the document's."""

    def sample(self, evaluate, label, generators):
        denoise = lambda x, t: evaluate(x, t.float())[-1]  # noqa: E731
        noise = self.pure(label, generators)
        return self.sampler.sample(denoise, self.diffusion, noise, generators, self.bound)


@liar(
    "modality",
    "guidance has the wrong sign: alike predictions are not kept, or are pushed towards the view",
    "samples-follow-the-document",
    at_first="silent",
)
class GuidanceTurned(Series):
    """Guidance is mixed the wrong way around: towards the view, away from the prompt."""

    def sample(self, evaluate, label, generators):
        def denoise(x, t):
            whole, view = evaluate(x, t.float())
            return view + 2 * (view - whole)

        noise = self.pure(label, generators)
        return self.sampler.sample(denoise, self.diffusion, noise, generators, self.bound)


@liar(
    "modality",
    "sample cannot give payloads that the data have: it clips to less",
    "a-perfect-model-gives-the-payload",
    at_first="silent",
)
class ClipsTooMuch(Series):
    """sample clips to ±1 where payloads reach beyond 2."""

    def sample(self, evaluate, label, generators):
        return super().sample(evaluate, label, generators).clamp(-1, 1)


@liar(
    "modality",
    "sample does not return payloads: it has decoded them already",
    "a-perfect-model-gives-the-payload",
    at_first="silent",
)
class SamplesDecoded(Series):
    """sample returns raw data and not payloads: decode scales them a second time."""

    def sample(self, evaluate, label, generators):
        return super().sample(evaluate, label, generators) * self.std + self.mean


@liar("modality", "sample stops before the last step", "a-perfect-model-gives-the-payload", at_first="silent")
class LeavesNoise(Series):
    """sample returns x at the last time instead of the x0 that the last prediction implies."""

    def sample(self, evaluate, label, generators):
        denoise = self.guidance.denoiser(evaluate, self.noise_share)
        x = self.pure(label, generators)
        for here, there in steps(self.diffusion, 8, x):
            if there is not None:
                x0 = self.diffusion.estimate(x, denoise(x, here.t), here.t).clamp(-self.bound, self.bound)
                eps = (x - broadcast_like(here.signal, x) * x0) / broadcast_like(here.noise, x)
                x = self.diffusion.noised(x0, eps, there.t)
        return x


@liar("modality", "a second sample depends on the first", "samples-are-fixed-by-their-generators")
class SampleRemembers(Series):
    """sample begins where the last call of the same shape ended: samples depend on what was drawn before."""

    last: torch.Tensor | None = None

    def sample(self, evaluate, label, generators):
        found = super().sample(evaluate, label, generators)
        if self.last is not None and self.last.shape == found.shape:
            found = 0.9 * found + 0.1 * self.last
        self.last = found
        return found


@liar(
    "modality",
    "sample evaluates times that training never has",
    "a-perfect-model-gives-the-payload",
    at_first="silent",
)
class TimesInSteps(Series):
    """sample tells the model the number of the step where training told it a time in 0 … 1."""

    def sample(self, evaluate, label, generators):
        denoise = self.guidance.denoiser(
            lambda x, t, guided=True: evaluate(x, t * 1000, guided), self.noise_share
        )
        noise = self.pure(label, generators)
        return self.sampler.sample(denoise, self.diffusion, noise, generators, self.bound)


# -- token modalities


@liar("modality", "the loss of tokens is their mean, not their sum", "losses-add-up-over-ids")
class TokenMean(Letters):
    """objective returns the mean over tokens with their number as the count."""

    def objective(self, logits, targets):
        return Loss(F.cross_entropy(logits, targets), float(len(targets)))


@liar(
    "modality", "a token's loss is that of another: targets are shifted already", "likelier-targets-cost-less"
)
class ShiftsAgain(Letters):
    """objective shifts the targets by one, which the layout has done already."""

    def objective(self, logits, targets):
        found = F.cross_entropy(logits[:-1], targets[1:], reduction="sum")
        return Loss(found + 0 * logits.sum(), float(len(targets)))


@liar("modality", "tokens of id 0 are not scored", "likelier-targets-cost-less")
class ZeroTokenIgnored(Letters):
    """objective takes id 0 for padding."""

    def objective(self, logits, targets):
        total = F.cross_entropy(logits, targets, reduction="sum", ignore_index=0)
        return Loss(total, float(len(targets)))


@liar("modality", "choose draws from elsewhere than its generator", "choosing-is-fixed-by-its-generator")
class ChoosesGlobally(Letters):
    """choose draws from torch's global generator."""

    def choose(self, logits, generator, left):
        return int(torch.multinomial(torch.softmax(logits[0].double(), 0), 1))


@liar(
    "modality",
    "choose picks an id that may not stand there",
    "what-is-forbidden-is-not-chosen",
    at_first="silent",
)
class ForbiddenMadeRare(Letters):
    """choose lifts logits of -inf to a small number, so that forbidden ids are only unlikely."""

    def choose(self, logits, generator, left):
        return super().choose(logits.clamp(min=float(logits[logits > -torch.inf].min()) - 3), generator, left)


@liar("modality", "choose and choose_each draw different ids", "choosing-at-once-is-choosing-one-by-one")
class OneGeneratorForEach(Letters):
    """choose_each draws all documents' ids from the first generator."""

    def choose_each(self, logits, generators, left):
        return draw(torch.softmax(logits[:, 0].double(), dim=1), [generators[0]] * len(generators))


@liar("modality", "choose depends on what was chosen before", "choosing-is-fixed-by-its-generator")
class AvoidsRepeats(Letters):
    """choose remembers the last id and makes it less likely, in whatever document it was."""

    last = -1

    def choose(self, logits, generator, left):
        logits = logits.clone()
        if self.last >= 0:
            logits[0, self.last] -= 3
        self.last = super().choose(logits, generator, left)
        return self.last


@liar("modality", "choose changes the logits", "choosing-leaves-logits-as-they-are", at_first="elsewhere")
class ChoosesInPlace(Mosaic):
    """choose divides the logits by the temperature where they lie, which other views are read from."""

    def choose(self, logits, generator, left):
        return super().choose(logits.mul_(2), generator, left)


@liar(
    "modality",
    "decode(encode(raw)) is not raw: small letters",
    "other-letters-are-refused-or-come-back",
    at_first="silent",
)
class SmallLetters(Letters):
    """encode makes capital letters of small ones, which decode does not make back."""

    def encode(self, raw):
        return super().encode(raw.upper())


@liar(
    "modality",
    "unknown letters are taken without a word",
    "other-letters-are-refused-or-come-back",
    at_first="silent",
)
class UnknownIsA(Letters):
    """encode reads every letter that it does not know as an A."""

    def encode(self, raw):
        return np.array([max(self.alphabet.find(letter), 0) for letter in raw], np.int64)


@liar("modality", "codes grow after the model was made", "codes-are-fixed", at_first="elsewhere")
class GrowingVocabulary(Letters):
    """encode gives an unknown letter a new id, so that there are more codes than the model has rows."""

    alphabet = "ACG"

    def encode(self, raw):
        for letter in raw:
            if letter not in self.alphabet:
                self.alphabet += letter
        return super().encode(raw)


@liar("modality", "a grid's ids are laid out in another order than they are decoded", "spans-hold-all-ids")
class ColumnMajor(Mosaic):
    """spans lays a grid out by columns, where blank and decode are read by rows."""

    def spans(self, item, payload):
        h, w = payload.shape
        return [Span(payload.T.reshape(-1), payload.size, f"{h}x{w}", loss=item.loss)]


@liar("modality", "two shapes have one label", "blanks-have-the-shape-of-payloads")
class Squares(Mosaic):
    """A label is a grid's number of codes, as if all were squares: 2x3 and 3x2 share one."""

    def labels(self):
        return tuple(dict.fromkeys(str(h * w) for h, w in self.sizes))

    def blank(self, label):
        return np.zeros(next(size for size in self.sizes if str(size[0] * size[1]) == label), np.int64)

    def spans(self, item, payload):
        return [Span(payload.reshape(-1), payload.size, str(payload.size), loss=item.loss)]


@liar(
    "modality",
    "views are declared and choose does not read them",
    "choices-heed-the-views",
    at_first="silent",
)
class UnguidedCodes(Mosaic):
    """choose reads the whole document's logits alone, though it declares a view."""

    def mixed(self, logits, left):
        return torch.log_softmax(logits[0].cpu().double(), dim=-1)


@liar("modality", "choose fails where a view's logit is -inf too", "what-is-forbidden-is-not-chosen")
class InfinityMinusInfinity(Mosaic):
    """Guidance takes -inf from -inf and draws from NaN."""

    def mixed(self, logits, left):
        return self.guidance.mix(list(torch.log_softmax(logits.cpu().double(), dim=-1)))


# -- objectives


@liar("objective", "score of two spans is not the sum of theirs", "losses-add-up-over-spans")
class ScoreMean(Flow):
    """score returns the mean over spans where it has to be their sum."""

    def __init__(self):
        super().__init__(FlowSettings())

    def score(self, prediction, target, t):
        found = super().score(prediction, target, t)
        return Loss(found.sum / found.count, found.count)


class RightFlow(Flow):
    """Rectified flow with its defaults."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(FlowSettings(**settings))


class RightDDPM(DDPM):
    """DDPM with its defaults."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(DDPMSettings(**settings))


@liar("objective", "estimate of the target is not x0: the sign", "estimates-invert-targets")
class EstimateSign(RightFlow):
    """estimate goes along the velocity instead of against it."""

    def estimate(self, x_t, prediction, t):
        return super().estimate(x_t, -prediction, t)


@liar("objective", "estimate of the target is not x0: another time", "estimates-invert-targets")
class EstimateStepBefore(RightDDPM):
    """estimate reads signal and noise one step before x_t's own."""

    def estimate(self, x_t, prediction, t):
        return super().estimate(x_t, prediction, (t - 1).clamp(min=0))


@liar("objective", "times do not go from noise to clean", "noise-grows-with-its-share")
class TimesAscend(RightFlow):
    """times rise from clean to noise."""

    def times(self, evaluations):
        return super().times(evaluations).flip(0)


@liar(
    "objective",
    "times ends at clean, where nothing is left to predict",
    "the-last-time-has-noise-left",
    at_first="silent",
)
class TimesReachClean(RightFlow):
    """times end at 0 itself: the last evaluation is wasted on clean data, and ε is a division by 0."""

    def times(self, evaluations):
        return torch.linspace(1, 0, evaluations, dtype=torch.float64)


@liar("objective", "times has another number of entries than evaluations", "as-many-times-as-evaluations")
class TimesOneMore(RightFlow):
    """times returns one time more than it was asked for."""

    def times(self, evaluations):
        return super().times(evaluations + 1)


@liar("objective", "share is not 0 at clean_time, and falls as noise grows", "shares-of-noise-are-shares")
class ShareIsSignal(RightFlow):
    """share says how much signal there is."""

    def share(self, t):
        return 1 - super().share(t)


@liar("objective", "share leaves 0 … 1", "shares-of-noise-are-shares")
class ShareIsTime(RightDDPM):
    """share returns the whole time and not its part of T."""

    def share(self, t):
        return t.double()


@liar("objective", "noise does not come from the generators", "corruption-is-fixed-by-its-generators")
class CorruptGlobal(RightFlow):
    """corrupt draws ε from torch's global generator: the argument was forgotten."""

    def corrupt(self, x0, generators, is_context):
        t = torch.tensor([self.draw_time(*each) for each in zip(generators, is_context, strict=True)])
        eps = torch.randn_like(x0)
        return self.noised(x0, eps, t), t, self.target(x0, eps, t)


@liar(
    "objective",
    "a span's time depends on what it is batched with",
    "corruption-is-fixed-by-its-generators",
    at_first="silent",
)
class OneTime(RightFlow):
    """corrupt draws one time for all spans of a batch."""

    def corrupt(self, x0, generators, is_context):
        t = torch.full((len(x0),), self.draw_time(generators[0], is_context[0]))
        eps = torch.stack([torch.randn(x0.shape[1:], generator=g) for g in generators])
        return self.noised(x0, eps, t), t, self.target(x0, eps, t)


@liar("objective", "draw_time depends on earlier calls", "corruption-is-fixed-by-its-generators")
class GoldenTimes(RightFlow):
    """draw_time spreads times evenly by a counter kept between calls."""

    calls = 0

    def draw_time(self, generator, is_context):
        self.calls += 1
        return (super().draw_time(generator, is_context) + 0.618 * self.calls) % 1


@liar("objective", "context is noised more than what is predicted", "context-has-no-more-noise")
class LimitTurned(RightFlow):
    """The noise limit holds for what is predicted and not for context: the flag is read the wrong way."""

    def draw_time(self, generator, is_context):
        return super().draw_time(generator, not is_context)


@liar("objective", "a span's score depends on what it is batched with", "losses-add-up-over-spans")
class WeightOverBatch(RightFlow):
    """score divides its weights by their largest in the batch."""

    def score(self, prediction, target, t):
        weight = (1 + t.float()) / (1 + t.float()).max()
        means = (prediction - target).square().flatten(1).mean(1)
        return Loss((means * weight).sum(), float(len(means)))


@liar("objective", "a perfect prediction has a score", "a-perfect-prediction-scores-0")
class ScoreOffset(RightFlow):
    """score adds the size of the target, so that a perfect prediction is not at 0."""

    def score(self, prediction, target, t):
        found = super().score(prediction, target, t)
        return Loss(found.sum + 0.1 * target.square().flatten(1).mean(1).sum(), found.count)


@liar("objective", "a wrong prediction scores 0", "worse-predictions-cost-more", at_first="silent")
class OneSided(RightFlow):
    """score counts only what is predicted too high."""

    def score(self, prediction, target, t):
        return Loss((prediction - target).relu().flatten(1).mean(1).sum(), float(len(target)))


@liar("objective", "a span's score grows with its length", "losses-add-up-over-spans")
class ScoreSums(RightFlow):
    """score sums over a span's elements."""

    def score(self, prediction, target, t):
        return Loss((prediction - target).square().sum(), float(len(target)))


@liar(
    "objective",
    "estimate is not finite at the first of times",
    "estimates-are-finite-where-samplers-ask",
    at_first="silent",
)
class EpsAtOne(RightFlow):
    """It predicts ε and begins sampling at t = 1, where ε says nothing of x0."""

    def __init__(self):
        super().__init__(target="eps")

    def times(self, evaluations):
        return torch.linspace(1, 0, evaluations + 1, dtype=torch.float64)[:-1]


@liar("objective", "noised and coefficients disagree", "corruption-is-signal-and-noise")
class NoisedOtherwise(RightFlow):
    """noised takes the square root of the noise, which coefficients do not say."""

    def noised(self, x0, eps, t):
        signal, noise = (broadcast_like(c, x0) for c in self.coefficients(t))
        return signal * x0 + noise.sqrt() * eps


@liar(
    "objective",
    "score is of another weight in bfloat16, or fails",
    at_first="silent",
    why="nothing says in which precision a score adds up",
)
class ScoresNarrow(RightFlow):
    """score computes in the prediction's own precision: sums of bfloat16 lose most of their digits."""

    def score(self, prediction, target, t):
        means = (prediction - target.to(prediction.dtype)).square().flatten(1).mean(1)
        return Loss(means.sum(), float(len(means)))


@liar(
    "objective",
    "corrupt writes to the clean spans",
    "corruption-leaves-clean-data-as-they-are",
    at_first="elsewhere",
)
class NoisedInPlace(RightFlow):
    """noised adds the noise to x0 where it lies."""

    def noised(self, x0, eps, t):
        signal, noise = (broadcast_like(c, x0) for c in self.coefficients(t))
        return x0.mul_(signal).add_(noise * eps)


@liar(
    "objective",
    "coefficients fail at times that draw_time draws",
    "shares-of-noise-are-shares",
    at_first="elsewhere",
)
class DrawsT(RightDDPM):
    """draw_time may draw T itself, one past the last of the schedule."""

    def __init__(self):
        super().__init__(steps=50)

    def draw_time(self, generator, is_context):
        return float(torch.randint(self.settings.steps + 1, (), generator=generator))


@liar(
    "objective",
    "no training time is near those at which sampling begins",
    "training-reaches-where-sampling-begins",
    at_first="silent",
)
class NeverPureNoise(RightFlow):
    """Training times stay below 0.6, and sampling begins at 1."""

    def draw_time(self, generator, is_context):
        return 0.6 * super().draw_time(generator, is_context)


@liar("objective", "share does not grow with noise", "noise-grows-with-its-share")
class ShareTurnsBack(RightFlow):
    """share rises to 1 in the middle and falls again."""

    def share(self, t):
        return (4 * t * (1 - t)).double()


@liar("token objective", "the score of tokens is not a sum over them", "scores-add-up-over-tokens")
class TokenScoreMean(NextToken):
    """score is a mean over tokens."""

    def __init__(self):
        super().__init__(NextTokenSettings())

    def score(self, logits, targets):
        return Loss(F.cross_entropy(logits, targets), float(len(targets)))


@liar(
    "token objective",
    "a token's score depends on the others of its batch",
    "scores-add-up-over-tokens",
    at_first="silent",
)
class ClassBalanced(TokenScoreMean):
    """score weighs each id by how rare it is in the batch."""

    def score(self, logits, targets):
        weight = 1 / torch.bincount(targets, minlength=logits.shape[1]).clamp(min=1).to(logits)
        return Loss(F.cross_entropy(logits, targets, weight, reduction="sum"), float(len(targets)))


@liar("token objective", "ids of 0 are not scored", "likelier-targets-score-less", at_first="silent")
class TokenZeroIsPadding(TokenScoreMean):
    """score leaves out id 0."""

    def score(self, logits, targets):
        return Loss(F.cross_entropy(logits, targets, reduction="sum", ignore_index=0), float(len(targets)))


@liar("token objective", "logits of -inf make the score NaN", "likelier-targets-score-less")
class SmoothsForbidden(TokenScoreMean):
    """score smooths labels over ids whose logit is -inf, which makes it infinite."""

    def score(self, logits, targets):
        total = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.1)
        return Loss(total, float(len(targets)))


# -- samplers


class RightEuler(DDIM):
    """Euler's steps, fifty evaluations."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(EulerSettings(**{"evaluations": 50, **settings}))


class RightAncestral(DDIM):
    """Ancestral steps, a hundred evaluations."""

    def __init__(self) -> None:
        super().__init__(AncestralSettings(evaluations=100))


@liar("sampler", "the sample is not clean: the last step is missing", "a-perfect-predictor-gives-the-data")
class StopsShort(RightEuler):
    """sample returns x at the last time, with its noise, and not the last estimate of x0."""

    def sample(self, denoise, objective, noise, generators, bound):
        estimate, x = X0Estimator(denoise, objective, bound), noise
        for here, there in steps(objective, self.settings.evaluations, noise):
            x0, eps = estimate(x, here)
            if there is None:
                return x
            x = objective.noised(x0, eps, there.t)
        return x


@liar(
    "sampler",
    "the model is called oftener than evaluations says",
    "the-model-is-called-as-often-as-is-said",
    at_first="silent",
)
class OneCallMore(RightEuler):
    """sample evaluates once more than it was told."""

    def sample(self, denoise, objective, noise, generators, bound):
        return RightEuler(evaluations=self.settings.evaluations + 1).sample(
            denoise, objective, noise, generators, bound
        )


@liar("sampler", "noise does not come from the generators", "samples-are-fixed-by-their-generators")
class GlobalSteps(RightAncestral):
    """The noise of a step is drawn from torch's global generator."""

    def sample(self, denoise, objective, noise, generators, bound):
        return super().sample(
            denoise,
            objective,
            noise,
            [torch.Generator().manual_seed(torch.seed()) for _ in generators],
            bound,
        )


@liar("sampler", "x0 is not clipped to the bound", "samples-lie-within-the-bound", at_first="silent")
class NeverClips(RightEuler):
    """sample is set to clip and does not."""

    def sample(self, denoise, objective, noise, generators, bound):
        return super().sample(denoise, objective, noise, generators, float("inf"))


@liar(
    "sampler",
    "the first evaluation is not at the first of times",
    "times-are-the-objectives",
    at_first="silent",
)
class SkipsTheFirst(RightEuler):
    """sample takes pure noise for x at the second time."""

    def sample(self, denoise, objective, noise, generators, bound):
        estimate, x, x0 = X0Estimator(denoise, objective, bound), noise, noise
        for here, there in list(steps(objective, self.settings.evaluations + 1, noise))[1:]:
            x0, eps = estimate(x, here)
            if there is not None:
                x = objective.noised(x0, eps, there.t)
        return x0


@liar("sampler", "sample changes the noise that it was given", "noise-is-left-as-it-is")
class NoiseInPlace(RightEuler):
    """sample begins by scaling the noise where it lies."""

    def sample(self, denoise, objective, noise, generators, bound):
        return super().sample(denoise, objective, noise.mul_(1.1), generators, bound)


@liar(
    "sampler",
    "it does not use the objective's times and coefficients: another objective's samples are wrong",
    "a-perfect-predictor-gives-the-data",
)
class OwnSchedule(RightEuler):
    """sample walks a flow's straight path whatever the objective is."""

    def sample(self, denoise, objective, noise, generators, bound):
        flow = RightFlow()
        return super().sample(lambda x, t: flow.target(objective.estimate(x, denoise(x, t), t), x, t), flow, noise,
                              generators, bound)  # fmt: skip


@liar("sampler", "a sample depends on what it is drawn with", "samples-are-drawn-apart", at_first="silent")
class SpreadOfBatch(RightEuler):
    """sample brings each step's estimate to a spread measured over the batch."""

    def sample(self, denoise, objective, noise, generators, bound):
        found = super().sample(denoise, objective, noise, generators, bound)
        return found / found.std().clamp(min=1)


@liar("sampler", "a second call depends on the first", "samples-are-fixed-by-their-generators")
class HistoryKept(RightEuler):
    """A multistep method keeps its last prediction on itself, from one call of sample to the next."""

    def sample(self, denoise, objective, noise, generators, bound):
        history = self.__dict__.setdefault("history", [])

        def extrapolated(x, t):
            now = denoise(x, t)
            before = history[-1] if history and history[-1].shape == now.shape else now
            history.append(now)
            return 1.5 * now - 0.5 * before

        return super().sample(extrapolated, objective, noise, generators, bound)


@liar(
    "sampler", "more evaluations do not bring it nearer: the correction's sign", "a-gaussian-has-its-moments"
)
class HeunMinus(Heun):
    """Heun's correction is subtracted instead of added."""

    def __init__(self):
        super().__init__(HeunSettings(evaluations=49))

    def sample(self, denoise, objective, noise, generators, bound):
        estimate = X0Estimator(denoise, objective, bound)
        x = x0 = noise
        for here, there in steps(objective, 25, noise):
            x0, eps = estimate(x, here)
            if there is None:
                break
            x = objective.noised(x0, eps, there.t)
            x0_there, eps_there = estimate(x, there)
            half = (there.signal + there.noise) * (tau(there) - tau(here)) / 2
            x = x - broadcast_like(half, x) * ((eps_there - x0_there) - (eps - x0))
        return x0


@liar("sampler", "the sample has another dtype than the noise", "samples-are-as-the-noise-is")
class WideSample(RightEuler):
    """sample returns float64."""

    def sample(self, denoise, objective, noise, generators, bound):
        return super().sample(denoise, objective, noise.double(), generators, bound)


@liar("sampler", "spans share the noise of their steps", "samples-are-drawn-apart")
class OneNoiseAStep(RightAncestral):
    """All spans are given the first generator's noise in each step."""

    def sample(self, denoise, objective, noise, generators, bound):
        return super().sample(denoise, objective, noise, [generators[0]] * len(generators), bound)


@liar(
    "sampler",
    "noise is added after the last step: a perfect model's sample is not x0",
    "a-perfect-predictor-gives-the-data",
)
class NoiseAtTheEnd(RightAncestral):
    """A last bit of noise is added when all is done."""

    def sample(self, denoise, objective, noise, generators, bound):
        found = super().sample(denoise, objective, noise, generators, bound)
        return found + 0.05 * fresh_noise(found, generators)


@liar(
    "sampler",
    "the times told to the model are not the spans' own: shape [1], not [B]",
    "times-are-the-objectives",
)
class TimeOfOne(RightEuler):
    """The model is told one time for B spans."""

    def sample(self, denoise, objective, noise, generators, bound):
        return super().sample(lambda x, t: denoise(x, t[:1]), objective, noise, generators, bound)


@liar(
    "sampler",
    "one evaluation alone does not work",
    at_first="silent",
    why="a sampler is tried with the evaluations that it was built with",
)
class NeedsTwo(RightEuler):
    """The step's size is taken from the first two times, and there may be one."""

    def sample(self, denoise, objective, noise, generators, bound):
        times = objective.times(self.settings.evaluations)
        assert float(times[0] - times[1]) > 0
        return super().sample(denoise, objective, noise, generators, bound)


@liar(
    "sampler",
    "a step of half precision: a perfect model's sample is not x0",
    "a-perfect-predictor-gives-the-data",
    at_first="silent",
)
class HalfSteps(RightEuler):
    """x is kept in bfloat16 between steps and in the end."""

    def sample(self, denoise, objective, noise, generators, bound):
        found = super().sample(denoise, objective, noise.bfloat16().to(noise), generators, bound)
        return found.bfloat16().to(noise)


# -- codecs


@liar("codec", "decode(encode(raw)) is not raw: its spread", "decoding-inverts-encoding")
class CodecOneWay(Halves):
    """encode subtracts the mean and divides by the spread, decode only adds the mean."""

    def decode(self, payload):
        return (payload + self.numbers()[0]).repeat(2, 1).repeat(2, 2).clip(0, 1).astype(np.float32)


@liar("codec", "latents are beyond the bound", "latents-lie-within-the-bound")
class BoundOfOne(Halves):
    """bound is 1, as if latents were pixels, and they reach 1.7."""

    def fit(self, raws, seed, report, effort=1.0):
        super().fit(raws, seed, report, effort)
        self.bound = 1.0


@liar("codec", "grid is not the shape that encode returns", "grids-are-those-of-payloads")
class GridTurned(Halves):
    """grid returns width before height."""

    def grid(self, shape):
        return shape[2] // 2, shape[1] // 2


@liar("codec", "a restored codec decodes otherwise", "facts-and-weights-restore-it")
class StatisticsLost(Halves):
    """The mean and the spread are plain arrays that neither facts nor weights keep."""

    own = (np.float32(0), np.float32(1))

    def fit(self, raws, seed, report, effort=1.0):
        super().fit(raws, seed, report, effort)
        self.own = tuple(x.copy() for x in super().numbers())
        self.mean.zero_()
        self.std.fill_(1)

    def numbers(self):
        return self.own


@liar(
    "codec",
    "a code is outside 0 … codes-1",
    at_first="silent",
    why="no raw data here reach the last code; core refuses those that do",
)
class OneCodeFew(Shades):
    """codes says 15 where there are 16."""

    codes = 15


@liar("codec", "encode draws at random", "the-codec-leaves-global-randomness-alone")
class SamplesPosterior(Halves):
    """encode draws a latent around the mean, as in training, from torch's global generator."""

    def encode(self, raw):
        payload = super().encode(raw)
        return payload + 0.1 * torch.randn(payload.shape).numpy()


@liar("codec", "its weights are not frozen after fit", "nothing-is-trained-before-it-is-connected")
class NotFrozen(Halves):
    """fit trains a layer and leaves its weights to be trained with the model."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.ones(3))


@liar("codec", "two fits with one seed differ", "fitting-is-fixed-by-its-seed")
class FitDraws(Halves):
    """fit draws from numpy's global generator which images it measures."""

    def fit(self, raws, seed, report, effort=1.0):
        super().fit(raws, seed, report, effort)
        self.mean.add_(float(np.random.random()) / 10)


@liar("codec", "a payload is not [channels, *grid]", "grids-are-those-of-payloads")
class ChannelsLast(Halves):
    """Latents are [h, w, channels]."""

    def encode(self, raw):
        return np.ascontiguousarray(super().encode(raw).transpose(1, 2, 0))

    def decode(self, payload):
        return super().decode(payload.transpose(2, 0, 1))


@liar("codec", "a payload has other channels than channels says", "payloads-are-of-the-kind-it-says")
class ChannelsWrong(Halves):
    """channels says 1, and latents have 3."""

    channels = 1


@liar("codec", "encode changes the raw data", "encoding-leaves-raw-data-as-they-are")
class CodecInPlace(Halves):
    """encode subtracts the mean from the image where it lies."""

    def encode(self, raw):
        payload = super().encode(raw)
        if raw.flags.writeable:
            raw -= self.numbers()[0]
        return payload


@liar("codec", "decode(encode(raw)) is not raw: an image's own mean is lost", "decoding-inverts-encoding")
class OwnContrast(Halves):
    """encode stretches each image to its own range."""

    def encode(self, raw):
        payload = super().encode(raw)
        return (payload - payload.min()) / (payload.max() - payload.min())


@liar("codec", "encode gives another payload the second time", "encoding-twice-is-the-same")
class CodecRemembers(Halves):
    """encode updates the statistics with every image it sees."""

    def encode(self, raw):
        payload = super().encode(raw)
        self.mean.lerp_(torch.from_numpy(raw.mean((1, 2))), 0.05)
        return payload


@liar(
    "codec",
    "all images decode to one: nothing of them is kept",
    "decoding-heeds-the-payload",
    at_first="silent",
)
class MeanImage(Halves):
    """decode returns the mean of the training images, whatever it is given, within its generous error."""

    round_trip_error = 2.0

    def decode(self, payload):
        return super().decode(np.zeros_like(payload))


@liar("codec", "codes are floats", "payloads-are-of-the-kind-it-says")
class FloatCodes(Shades):
    """encode returns codes as float32."""

    def encode(self, raw):
        return super().encode(raw).astype(np.float32)


@liar("codec", "decode changes codes that it was given", "decoding-leaves-payloads-as-they-are")
class DecodesCodesInPlace(Shades):
    """decode adds a half to the payload where it lies, and codes become floats that are rounded down."""

    def decode(self, payload):
        payload += 1
        return super().decode(payload - 1)


@liar(
    "codec",
    "images with NaN or of another shape are taken without a word",
    "other-shapes-are-refused-or-come-back",
    at_first="silent",
)
class TakesAnything(Halves):
    """encode takes any number of channels and NaN as well."""

    def encode(self, raw):
        raw = np.nan_to_num(np.resize(np.asarray(raw, np.float32), (3, *np.shape(raw)[-2:])))
        return super().encode(raw)


@liar(
    "codec",
    "grid is not the shape that encode returns, of odd sides",
    "other-shapes-are-refused-or-come-back",
    at_first="silent",
)
class OddSides(Halves):
    """Odd sides are taken: encode rounds them up, and grid rounds down."""

    def encode(self, raw):
        if not isinstance(raw, np.ndarray) or raw.ndim != 3 or len(raw) != 3 or not np.isfinite(raw).all():
            raise TransfuseError("an image is [3, h, w] of finite numbers")
        mean, std = self.numbers()
        return ((raw[:, ::2, ::2] - mean) / std).astype(np.float32)


# -- data sets


@liar("dataset", "two documents have one id", "ids-are-their-own")
class IdsAgain(Stripes):
    """Ids begin at 0 in each split."""

    def document(self, split, index, rng=None):
        found = super().document(split, index, rng)
        return Document(found.items, index, found.source)


@liar("dataset", "held-out documents are trained on", "heldout-documents-are-no-training-documents")
class SplitOverlap(Stripes):
    """The held-out documents are the last training documents under other ids."""

    def items(self, number):
        return super().items(number - 8 if number >= 24 else number)


@liar("dataset", "a document differs from one reading to the next", "a-document-is-the-same-each-time")
class NoisyPictures(Stripes):
    """A picture has fresh noise whenever it is read."""

    def picture(self, number):
        return super().picture(number) + np.random.normal(0, 0.01, (1, 8, 8)).astype(np.float32)


@liar(
    "dataset",
    "without rng a document is not in its plain form",
    "as-many-visits-are-reversed-as-is-said",
    at_first="silent",
)
class NeverPlain(Stripes):
    """Without a generator it makes one of its own and reverses some documents."""

    def document(self, split, index, rng=None):
        return super().document(split, index, np.random.default_rng(index) if rng is None else rng)


@liar("dataset", "the last document of a split cannot be read", "documents-hold-items")
class OneTooMany(Stripes):
    """size counts one document more than there are."""

    def size(self, split):
        return super().size(split) + 1

    def number(self, split, index):
        return checked_index(self.name, split, index, super().size(split)) + 24 * (split == "heldout")


@liar("dataset", "identity differs from call to call", "its-identity-is-json")
class IdentityOfTheMoment(Stripes):
    """identity holds the object's address."""

    def identity(self):
        return super().identity() | {"object": id(object()) + np.random.randint(1 << 30)}


@liar(
    "dataset",
    "identity says nothing of the content",
    at_first="silent",
    why="a data set that is a function of its settings needs no hash",
)
class IdentityEmpty(Stripes):
    """identity is the name alone: other content is the same data set to a run that goes on."""

    def identity(self):
        return {"name": self.name}


@liar(
    "dataset",
    "two data sets of the same settings have their documents in another order",
    "opened-anew-it-is-the-same",
    at_first="silent",
)
class OrderOfTheDisk(Stripes):
    """Documents come in an order that is drawn when the data set is opened, as unsorted listings are."""

    def __init__(self):
        self.order = np.random.permutation(24)

    def number(self, split, index):
        number = super().number(split, index)
        return int(self.order[number]) if split == "train" else number


@liar(
    "dataset",
    "a document changes when another is read",
    "reading-on-leaves-documents-as-they-are",
    at_first="silent",
)
class OneBuffer(Stripes):
    """All pictures are drawn into one array, which is handed out each time."""

    def __init__(self):
        self.buffer = np.zeros((1, 8, 8), np.float32)

    def picture(self, number):
        self.buffer[:] = super().picture(number)
        return self.buffer


@liar(
    "dataset",
    "a reversed document has droppable items: its prompt follows what it prompted",
    "the-last-item-is-no-prompt",
    at_first="silent",
)
class ReversedPrompt(Stripes):
    """The reversed form keeps its caption droppable."""

    def document(self, split, index, rng=None):
        plain = super().document(split, index)
        if rng is None or rng.random() >= self.reversed_share:
            return plain
        return Document(plain.items[::-1], plain.id, plain.source)


@liar("dataset", "document_roles are not the document's", "roles-are-those-of-the-items")
class RolesGuessed(Stripes):
    """document_roles names the image before the text."""

    def document_roles(self, split, index):
        return ["image", "text"]


@liar(
    "dataset",
    "outline has another shape than the document",
    "outlines-are-those-of-documents",
    at_first="silent",
)
class OutlineOfAnother(Stripes):
    """outline says that pictures are 16 by 16."""

    def outline(self, split, index, roles):
        found = self.document(split, index)
        items = (found.items[0], Item("image", np.zeros((1, 16, 16), np.float32)))
        return Document(items, found.id, found.source)


@liar("dataset", "an item's data is a list", "raw-data-are-text-or-arrays", at_first="elsewhere")
class ListsForArrays(Stripes):
    """Pictures are nested lists."""

    def picture(self, number):
        return super().picture(number).tolist()


@liar("dataset", "an index that the split has not is taken without a word", "an-index-outside-is-refused")
class WrapsAround(Stripes):
    """Indices beyond the split begin again at its first document."""

    def number(self, split, index):
        return super().number(split, index % self.size(split))


@liar("dataset", "a document depends on which were read before", "a-document-is-the-same-each-time")
class OneStream(Stripes):
    """Pictures are drawn from one generator in the order in which they are asked for."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def picture(self, number):
        return super().picture(number) + self.rng.normal(0, 0.1, (1, 8, 8)).astype(np.float32)


@liar(
    "dataset",
    "another share of visits is reversed than reversed_share says",
    "as-many-visits-are-reversed-as-is-said",
    at_first="silent",
)
class ShareUntold(Stripes):
    """Half of the visits are reversed, and reversed_share says a quarter."""

    def document(self, split, index, rng=None):
        return in_either_order(super().document(split, index), 0.5, rng)


@liar("dataset", "tasks ask for roles that no document has", "shares-and-tasks-are-lawful")
class TasksOfOthers(Stripes):
    """tasks name a role that no document has."""

    tasks = ("caption->picture",)


@liar(
    "dataset",
    "an unknown split is taken for one of the two",
    at_first="silent",
    why="no split but train and heldout is ever asked for",
)
class AnySplit(Stripes):
    """Any split but train is the held-out one."""

    def size(self, split):
        return 24 if split == "train" else 8


@liar("dataset", "raw is not the data of the documents", "raw-data-are-those-of-the-items")
class RawAugmented(Stripes):
    """raw yields pictures mirrored, other than those that documents hold."""

    def raw(self, split, modality):
        for raw in super().raw(split, modality):
            yield raw[..., ::-1] if modality == "image" else raw


@liar("dataset", "a document has no items", "documents-hold-items")
class SomeEmpty(Stripes):
    """One document in seven has nothing in it."""

    def items(self, number):
        return () if number % 7 == 3 else super().items(number)


@liar(
    "dataset",
    "what varies is not fixed by the rng: two visits with one seed differ",
    "visits-are-fixed-by-their-generator",
)
class VisitsAtWill(Stripes):
    """A visit's order is drawn from numpy's global generator, not from rng."""

    def document(self, split, index, rng=None):
        own = None if rng is None else np.random.default_rng(np.random.randint(1 << 30))
        return super().document(split, index, own)


@liar("dataset", "a document holds NaN", "documents-hold-items", at_first="elsewhere")
class HoldsNaN(Stripes):
    """One picture is divided by its own spread, which is none."""

    def picture(self, number):
        found = super().picture(number) * (number != 5)
        with np.errstate(all="ignore"):
            return (found / found.std()).astype(np.float32)


@liar("dataset", "numpy's global generator is set", "a-document-is-the-same-each-time", at_first="silent")
class SeedsNumpy(Stripes):
    """A document seeds numpy's global generator by its number."""

    def picture(self, number):
        np.random.seed(number)
        return super().picture(number) + np.random.normal(0, 0.1, (1, 8, 8)).astype(np.float32)


@liar("dataset", "identity is no JSON", "its-identity-is-json")
class IdentityOfNumpy(Stripes):
    """identity holds a number of numpy's, which JSON has not."""

    def identity(self):
        return super().identity() | {"documents": np.int64(24)}


@liar("dataset", "period is not that of the roles", "roles-come-again-after-a-period", at_first="silent")
class PeriodUntold(Stripes):
    """Training has no end, every third document is a caption alone, and period says 1."""

    def size(self, split):
        return {"train": ENDLESS, "heldout": 8}[split]

    def excerpt(self, split):
        return min(self.size(split), 24)

    def number(self, split, index):
        checked_index(self.name, split, index, self.size(split))
        return index if split == "train" else index + ENDLESS

    def picture(self, number):
        return super().picture(number % 1000)

    def items(self, number):
        found = super().items(number)
        return found[:1] if number % 3 == 2 else found


# -- metrics


@liar("metric", "NaN where the truth is 0", at_first="silent", why="NaN is allowed, and costs its own figure")
class RelativeGap(Gap):
    """The gap is a share of the truth's mean, which may be 0."""

    def compute(self, evaluation):
        with np.errstate(all="ignore"):
            pairs = zip(evaluation.made, evaluation.truth, strict=True)
            return {"gap": float(np.mean([abs(np.mean(a) - np.mean(b)) / np.mean(b) for a, b in pairs]))}


@liar(
    "metric",
    "it fails where there is nothing to measure",
    at_first="silent",
    why="what it raises is allowed, and costs its own figure",
)
class FirstIsThere(Gap):
    """It looks at the first thing made, and there may be none."""

    def compute(self, evaluation):
        assert evaluation.made[0] is not None
        return super().compute(evaluation)


@liar("metric", "it reports a figure that it does not declare", "only-declared-figures-are-reported")
class Undeclared(Gap):
    """It reports a second figure that figures do not have."""

    def compute(self, evaluation):
        return {**super().compute(evaluation), "gap_of_squares": 0.0}


@liar("metric", "a second evaluation depends on the first", "measuring-twice-is-the-same", at_first="silent")
class Accumulates(Gap):
    """It accumulates over evaluations, as a torchmetric that is not reset."""

    def __init__(self):
        self.all: list[float] = []

    def compute(self, evaluation):
        self.all += super().compute(evaluation).values()
        return {"gap": float(np.mean(self.all))} if self.all else {}


@liar("metric", "what was made is compared with another prompt's truth", "mixed-up-answers-are-no-better")
class OffByOnePair(Gap):
    """Each thing made is compared with the truth of the next prompt."""

    def compute(self, evaluation):
        truth = [*evaluation.truth[1:], *evaluation.truth[:1]]
        gaps = [abs(float(np.mean(a) - np.mean(b))) for a, b in zip(evaluation.made, truth, strict=True)]
        return {"gap": float(np.mean(gaps))} if gaps else {}


@liar(
    "metric",
    "perfect samples are not better than others: the way that is better",
    "mixed-up-answers-are-no-better",
)
class BetterTurned(Gap):
    """figures say that a larger gap is better."""

    figures = (Figure("gap", "Means, off by", better="higher"),)


@liar("metric", "it differs from call to call", "measuring-twice-is-the-same")
class RandomSubset(Gap):
    """It measures half of the prompts, drawn anew each time from numpy's global generator."""

    def compute(self, evaluation):
        pairs = list(zip(evaluation.made, evaluation.truth, strict=True))
        kept = [pairs[i] for i in np.random.permutation(len(pairs))[: (len(pairs) + 1) // 2]]
        gaps = [abs(float(np.mean(a) - np.mean(b))) for a, b in kept]
        return {"gap": float(np.mean(gaps))} if gaps else {}


@liar("metric", "a share is beyond 1", "figures-are-finite")
class HundredPercent(Gap):
    """It says percent, and returns 0 … 100 where a share from 0 to 1 is wanted."""

    figures = (Figure("gap", "Means right", better="higher", form="percent"),)

    def compute(self, evaluation):
        return {key: 100 * (1 - min(value, 1)) for key, value in super().compute(evaluation).items()}


@liar("metric", "it changes what it measures", "what-is-measured-is-left-as-it-is")
class MeasuresInPlace(Gap):
    """It centres what was made where it lies, and other metrics read that."""

    def compute(self, evaluation):
        found = super().compute(evaluation)
        for made in evaluation.made:
            if made.flags.writeable:
                made -= made.dtype.type(np.mean(made))
        return found


@liar("metric", "notes are not one a thing made", "notes-go-with-what-was-made")
class TooFewNotes(Gap):
    """notes has a word on all but the last."""

    def notes(self, evaluation):
        return [f"{np.mean(made):.2f}" for made in evaluation.made][:-1]


@liar("metric", "a figure is no plain number", "figures-are-finite", at_first="silent")
class TensorFigure(Gap):
    """It returns a tensor with a graph."""

    def compute(self, evaluation):
        return {
            key: torch.tensor(value, requires_grad=True) for key, value in super().compute(evaluation).items()
        }


@liar("metric", "facts are not JSON", "facts-are-json")
class FactsOfNumpy(Gap):
    """facts hold numpy's numbers."""

    def facts(self):
        return {"version": np.float32(1.5), "files": {1, 2}}


@liar(
    "metric",
    "it says it applies to tasks on which it fails",
    at_first="silent",
    why="what it raises is allowed, and costs its own figure",
)
class AppliesToAll(Gap):
    """It says that it applies to any task, and takes the mean of texts."""

    applies_to = AppliesTo()


@liar(
    "metric",
    "differences of whole numbers wrap around",
    "mixed-up-answers-are-no-better",
    at_first="elsewhere",
)
class Wraps(Gap):
    """It subtracts bytes from bytes, which wrap around."""

    def compute(self, evaluation):
        pairs = zip(evaluation.made, evaluation.truth, strict=True)
        gaps = [float(np.mean(a.astype(np.uint8) - b.astype(np.uint8))) for a, b in pairs]
        return {"gap": float(np.mean(gaps))} if gaps else {}


@liar(
    "metric",
    "arrays of several shapes, which it says it takes, it does not",
    "only-declared-figures-are-reported",
    at_first="elsewhere",
)
class Stacks(Gap):
    """It stacks what was made, though applies_to does not ask for one shape."""

    def compute(self, evaluation):
        made, truth = np.stack(list(evaluation.made)), np.stack(list(evaluation.truth))
        return {"gap": float(np.abs(made.mean(tuple(range(1, made.ndim))) - truth.mean(tuple(range(1, truth.ndim)))).mean())}  # noqa: E501  # fmt: skip


# -- attention


@liar("attention", "scores are not divided by √d", "outputs-are-those-written-out")
class NoScale(Plain):
    """The scores are not divided by the root of the width."""

    def scores(self, q, k):
        return q @ k.mT


@liar("attention", "a query that sees nothing gives NaN", "queries-that-see-nothing-give-0")
class SeesNothing(Plain):
    """A query that sees no key gives NaN."""

    def attend(self, q, k, v, plan):
        k, v = self.heads(k, v, q)
        return self.scores(q, k).masked_fill(~plan, -torch.inf).softmax(-1) @ v


@liar("attention", "a query that sees nothing gives a mean, not 0", "queries-that-see-nothing-give-0")
class LargeMinus(Plain):
    """A hidden key's score is -10,000 and not -inf: a query that sees nothing sees all."""

    def attend(self, q, k, v, plan):
        k, v = self.heads(k, v, q)
        return self.scores(q, k).masked_fill(~plan, -1e4).softmax(-1) @ v


@liar("attention", "columns of the keys are not read", "keys-may-be-others-than-queries", at_first="silent")
class KeysAreQueries(Plain):
    """plan takes the queries' columns for the keys' where both are of one number."""

    def plan(self, mask, queries, keys, request):
        same = keys is not None and request.queries == request.keys
        return super().plan(mask, queries, None if same else keys, request)


@liar("attention", "a query head reads the wrong key-value head", "heads-may-share-keys")
class HeadsInTurn(Plain):
    """Grouped heads take key-value heads in turn, where consecutive ones share one."""

    def heads(self, k, v, q):
        shared = len(q) // len(k)
        return k.repeat(shared, 1, 1), v.repeat(shared, 1, 1)


@liar("attention", "the result has another dtype than q", "half-precision-errs-little")
class AlwaysFloat(Plain):
    """It computes and returns float32 whatever it is given."""

    def attend(self, q, k, v, plan):
        return super().attend(q.float(), k.float(), v.float(), plan)


@liar("attention", "a plan is that of another mask", "outputs-are-those-written-out", at_first="elsewhere")
class PlansByShape(Plain):
    """plan keeps its result by the number of queries and keys: another mask of that size is served the first."""

    def __init__(self):
        self.kept: dict = {}

    def plan(self, mask, queries, keys, request):
        return self.kept.setdefault(
            (request.queries, request.keys), super().plan(mask, queries, keys, request)
        )


@liar("attention", "the mask is transposed", "outputs-are-those-written-out")
class MaskTurned(Plain):
    """The mask is read with keys as rows where it is square."""

    def attend(self, q, k, v, plan):
        return super().attend(q, k, v, plan.T if plan.shape[0] == plan.shape[1] else plan)


@liar("attention", "weights of what a query sees do not add up to 1", "outputs-are-those-written-out")
class MaskAfterSoftmax(Plain):
    """Hidden keys are taken out after the softmax, so that what is left does not add up to 1."""

    def attend(self, q, k, v, plan):
        k, v = self.heads(k, v, q)
        return (self.scores(q, k).softmax(-1) * plan) @ v


@liar("attention", "q is changed", "attending-leaves-q-k-and-v-as-they-are", at_first="elsewhere")
class ScalesInPlace(Plain):
    """q is scaled where it lies, when it needs no gradient."""

    def attend(self, q, k, v, plan):
        if not q.requires_grad:
            q *= 0.5
            return super().attend(q * 2, k, v, plan)
        return super().attend(q, k, v, plan)


@liar("attention", "no gradient reaches k and v", "gradients-are-those-written-out")
class KeysDetached(Plain):
    """Keys and values are detached, as a cache's are."""

    def attend(self, q, k, v, plan):
        return super().attend(q, k.detach(), v.detach(), plan)


@liar("attention", "padding takes a share of the softmax", "rows-may-have-any-length")
class PaddedKeys(Plain):
    """Keys are padded to a multiple of 16 with zeros that the softmax counts."""

    def attend(self, q, k, v, plan):
        more = -k.shape[1] % 16
        k, v = (F.pad(x, (0, 0, 0, more)) for x in (k, v))
        return super().attend(q, k, v, F.pad(plan, (0, more), value=True))


@liar("attention", "keys that the mask allows are hidden", "outputs-are-those-written-out")
class CausalToo(Plain):
    """It hides later keys whatever the mask says, as many kernels do by default."""

    def plan(self, mask, queries, keys, request):
        return super().plan(mask, queries, keys, request).tril()


@liar("attention", "large scores overflow", "large-scores-do-not-overflow", at_first="silent")
class NoMax(Plain):
    """The softmax is exponentials over their sum: large scores overflow."""

    def attend(self, q, k, v, plan):
        k, v = self.heads(k, v, q)
        weights = self.scores(q, k).exp() * plan
        return weights / weights.sum(-1, keepdim=True).clamp(min=1e-20) @ v


@liar("attention", "no keys at all are not served", "no-keys-give-0", at_first="silent")
class MaxOfNothing(Plain):
    """It takes the largest score of each query, of which there is none where there are no keys."""

    def attend(self, q, k, v, plan):
        k, v = self.heads(k, v, q)
        scores = self.scores(q, k).masked_fill(~plan, -torch.inf)
        return torch.nan_to_num((scores - scores.amax(-1, keepdim=True)).softmax(-1)) @ v


@liar("attention", "supports does not say that grouped heads are not served", "heads-may-share-keys")
class GroupedRefusedLate(Plain):
    """supports has no objection to grouped heads, and attend cannot do them."""

    def heads(self, k, v, q):
        if len(k) != len(q):
            raise RuntimeError("grouped heads")
        return k, v


@liar("attention", "attend draws at random", "one-plan-serves-all-layers")
class DropsWeights(Plain):
    """Weights are dropped at random, in evaluation too."""

    def attend(self, q, k, v, plan):
        return F.dropout(super().attend(q, k, v, plan), 0.1)


RIGHT: list[tuple[str, type]] = [
    *(("modality", each) for each in (Series, Copies, Letters, Mosaic)),
    *(("codec", each) for each in (Halves, Shades)),
    *(("objective", each) for each in (RightFlow, RightDDPM)),
    *(("sampler", each) for each in (RightEuler, RightAncestral)),
    ("attention", Plain),
    ("dataset", Stripes),
    ("metric", Gap),
]
"""The right parts that they are made from."""
