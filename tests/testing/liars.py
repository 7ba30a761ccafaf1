"""Parts that break one law each, with the check that names it; and the honest parts that they are made from."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transfuse.attention import Dense
from transfuse.datasets import DataSet, checked_index
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.metrics import Evaluation, Figure, Metric, Task
from transfuse.modalities.codec import Codec
from transfuse.modalities.loss import Loss
from transfuse.modalities.modality import Column, Span
from transfuse.modalities.objective import Sampler
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
from transfuse.testing.kits.attention import written_out
from transfuse.testing.modalities import Blob, Letters, StraightPath

Liar = tuple[Kit, Any, str]
BLOBS = [np.random.default_rng(i).normal(size=n).astype(np.float32) for i, n in enumerate((2, 4, 4, 2, 4))]
TEXTS = ["abc", "de", "abca"]
WORDS = ["abc", "bcd", "de", "ab", "abca"]


def lie(base: type, **methods: Any) -> Any:
    """A subclass that differs in these methods."""
    return type(f"Lying{base.__name__}", (base,), methods)


# -- modalities of spans


class Honest(Blob):
    """Blobs of the sizes that fit found."""

    def __init__(self) -> None:
        super().__init__("blob", ())

    def fit(self, raws, seed, report, effort=1.0):
        self.sizes = tuple(sorted({len(raw) for raw in raws}))

    def facts(self):
        return {"sizes": list(self.sizes)}

    def restore(self, facts):
        self.sizes = tuple(facts["sizes"])

    def encode(self, raw):
        return np.array(raw, np.float32)

    def decode(self, payload):
        return payload.copy()


def connect_more(make: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
    def connect(self: Any, dim: int) -> None:
        Honest.connect(self, dim)
        make(self, dim)

    return connect


def twisted(method: str, how: Callable[..., Any]) -> Callable[..., Any]:
    """The honest method, whose result ``how(self, found, *args)`` changes."""

    def changed(self: Any, *args: Any) -> Any:
        return how(self, getattr(Honest, method)(self, *args), *args)

    return changed


def _in_place(self: Any, raw: Any) -> np.ndarray:
    raw += 1
    return raw


def _spoils(self: Any, payload: np.ndarray) -> np.ndarray:
    payload *= 2
    return payload


def _from_the_first(self: Any, clean: Tensor, generators: list, is_context: list) -> Any:
    return Honest.corrupt(self, clean, [generators[0]] * len(generators), is_context)


def _global_noise(self: Any, clean: Tensor, generators: list, is_context: list) -> Any:
    t = torch.rand(len(clean))
    return clean + t[:, None] * torch.randn(clean.shape), t, clean


def _noises_in_place(self: Any, clean: Tensor, generators: list, is_context: list) -> Any:
    x_t, t, target = Honest.corrupt(self, clean, generators, is_context)
    clean.copy_(x_t)
    return clean, t, target


def _noise(label: str, generators: list) -> Tensor:
    return torch.stack([torch.randn(int(label), generator=g) for g in generators])


def _span(**changes: Any) -> Callable[..., list[Span]]:
    """Spans whose flags are what is said, whatever the item is."""

    def spans(self: Any, item: Item, payload: np.ndarray) -> list[Span]:
        flags = {"noised": item.noised, "loss": item.loss and item.noised, **changes}
        return [Span(payload, len(payload), str(len(payload)), **flags)]

    return spans


SPANS: Mapping[str, tuple[dict[str, Any], str]] = {
    "float64": ({"encode": lambda self, raw: np.asarray(raw, np.float64)}, "payloads-are-finite-numbers"),
    "encodes NaN": (
        {"encode": lambda self, raw: np.full(len(raw), np.nan, np.float32)},
        "payloads-are-finite-numbers",
    ),
    "encodes with noise": (
        {
            "encode": lambda self, raw: (raw + np.random.default_rng().normal(size=len(raw))).astype(
                np.float32
            )
        },
        "encoding-twice-is-the-same",
    ),
    "encodes with numpy's state": (
        {"encode": lambda self, raw: np.array(raw, np.float32) + 0 * np.float32(np.random.rand())},
        "the-codec-leaves-global-randomness-alone",
    ),
    "encodes in place": ({"encode": _in_place}, "encoding-leaves-raw-data-as-they-are"),
    "encodes anything": (
        {"encode": lambda self, raw: np.array(raw if isinstance(raw, np.ndarray) else [0, 0], np.float32)},
        "what-is-no-raw-data-is-refused",
    ),
    "decodes too much": ({"decode": lambda self, payload: payload * 1.1}, "decoding-inverts-encoding"),
    "decodes in place": ({"decode": _spoils}, "decoding-leaves-payloads-as-they-are"),
    "decodes another shape": (
        {"decode": lambda self, payload: payload[:1]},
        "what-is-decoded-can-be-encoded",
    ),
    "rounds in files": (
        {"save": lambda self, raw, path: Blob.save(self, np.round(raw), path)},
        "files-give-back-what-was-saved",
    ),
    "a bare error of a damaged file": (
        {"load": lambda self, path: {}[path]},
        "damaged-files-are-refused-in-a-line",
    ),
    "draws words": ({"draw": lambda self, raw: "a picture"}, "raw-data-are-drawn"),
    "facts of numpy": ({"facts": lambda self: {"sizes": np.array(self.sizes)}}, "facts-are-json"),
    "forgets its labels": ({"facts": lambda self: {"sizes": []}}, "labels-are-restored"),
    "fits by a clock": (
        {"facts": lambda self: {"sizes": list(self.sizes), "drawn": float(np.random.default_rng().random())}},
        "fitting-is-fixed-by-its-seed",
    ),
    "fits with torch's state": (
        {"fit": lambda self, raws, *rest: (torch.rand(()), Honest.fit(self, raws, *rest))[1]},
        "fitting-leaves-global-randomness-alone",
    ),
    "trains its codec": (
        {
            "fit": lambda self, raws, *rest: (
                setattr(self, "own", nn.Linear(1, 1)),
                Honest.fit(self, raws, *rest),
            )[1]
        },
        "nothing-is-trained-before-it-is-connected",
    ),
    "says what is nothing": ({"does_not": {"fly": "it is heavy"}}, "what-it-does-not-is-said-with-a-reason"),
    "says it without a reason": ({"does_not": {"bf16": " "}}, "what-it-does-not-is-said-with-a-reason"),
    "knows one label": ({"labels": lambda self: ("4",)}, "labels-name-every-shape"),
    "one label for all": (
        {
            "labels": lambda self: ("any",),
            "blank": lambda self, label: np.zeros(4, np.float32),
            "spans": lambda self, item, payload: [
                Span(payload, len(payload), "any", noised=item.noised, loss=item.loss and item.noised)
            ],
        },
        "a-label-says-the-shape",
    ),
    "blanks of ids": (
        {"blank": lambda self, label: np.zeros(int(label), np.int64)},
        "blanks-have-the-shape-of-payloads",
    ),
    "blanks of one size": ({"blank": lambda self, label: np.zeros(2, np.float32)}, "every-label-has-a-blank"),
    "always a loss": ({"spans": _span(loss=True)}, "items-without-a-loss-have-none"),
    "never a loss": ({"spans": _span(loss=False)}, "items-to-be-predicted-have-a-loss"),
    "always noised": ({"spans": _span(noised=True)}, "clean-items-are-clean"),
    "spans of zeros": (
        {"spans": twisted("spans", lambda self, found, item, payload: _span()(self, item, 0 * payload))},
        "spans-hold-the-payload",
    ),
    "ends otherwise clean": (
        {"spans": lambda self, item, payload: _span(inside=item.noised)(self, item, payload)},
        "items-end-alike-noised-and-clean",
    ),
    "positions from 0": (
        {"positions": lambda self, span, cursor: (np.arange(span.positions), max(cursor, span.positions))},
        "positions-move-with-the-cursor",
    ),
    "positions that go back": (
        {"positions": lambda self, span, cursor: (np.arange(span.positions) + cursor, cursor - 1)},
        "positions-are-whole-and-go-forward",
    ),
    "takes no room": (
        {"positions": lambda self, span, cursor: (np.full(span.positions, cursor), cursor)},
        "items-take-room",
    ),
    "an undeclared column": (
        {
            "spans": lambda self, item, payload: _span(columns={"step": np.arange(len(payload) + 2)})(
                self, item, payload
            )
        },
        "columns-are-declared",
    ),
    "a column of nothing": ({"columns": lambda self: {"step": Column.ID}}, "columns-are-written"),
    "noise of nobody": ({"corrupt": _global_noise}, "corruption-leaves-global-randomness-alone"),
    "noise of the first": ({"corrupt": _from_the_first}, "spans-are-corrupted-apart"),
    "noise in place": ({"corrupt": _noises_in_place}, "corruption-leaves-clean-data-as-they-are"),
    "no noise": (
        {"corrupt": twisted("corrupt", lambda self, found, clean, *_: (clean, found[1], clean))},
        "corruption-noises",
    ),
    "time backwards": ({"noise_share": lambda self, t: 1 - t}, "noise-share-is-a-share"),
    "time of nothing": (
        {
            "corrupt": twisted("corrupt", lambda self, found, *_: (found[0], 1 - found[1], found[2])),
            "noise_share": lambda self, t: t.abs(),
        },
        "more-noise-is-further-from-clean",
    ),
    "blind to half": (
        {"embed": lambda self, x_t, t: Honest.embed(self, x_t * (torch.arange(x_t.shape[1]) % 2), t)},
        "embedding-heeds-all-of-x-t",
    ),
    "spans that meet": (
        {"embed": lambda self, x_t, t: Honest.embed(self, x_t - x_t.mean(0), t)},
        "spans-are-embedded-apart",
    ),
    "no clock": ({"embed": lambda self, x_t, t: Honest.embed(self, x_t, 0 * t)}, "predictions-heed-the-time"),
    "dropout": (
        {"head": lambda self, hidden, state, t: F.dropout(Honest.head(self, hidden, state, t), 0.5)},
        "predicting-twice-is-the-same",
    ),
    "a deaf head": (
        {"head": lambda self, hidden, state, t: Honest.head(self, hidden[:, :1].expand_as(hidden), state, t)},
        "the-head-heeds-hidden",
    ),
    "no gradient": (
        {"objective": lambda self, p, target, t: Honest.objective(self, p.detach(), target, t)},
        "the-objective-heeds-the-prediction",
    ),
    "a loss of sums": (
        {"objective": lambda self, p, target, t: Loss((p - target).square().sum(), float(len(target)))},
        "long-spans-weigh-as-short-ones",
    ),
    "a loss of means": (
        {"objective": lambda self, p, target, t: Loss((p - target).square().mean(), float(len(target)))},
        "losses-add-up-over-spans",
    ),
    "never perfect": (
        {
            "objective": lambda self, p, target, t: Loss(
                (p - target - 1).square().mean(1).sum(), float(len(target))
            )
        },
        "a-perfect-prediction-costs-nothing",
    ),
    "better when worse": (
        {
            "objective": lambda self, p, target, t: Loss(
                (-(p - target).square()).exp().mean(1).sum(), float(len(target))
            )
        },
        "worse-predictions-cost-more",
    ),
    "an idle layer": (
        {"connect": connect_more(lambda self, dim: setattr(self, "idle", nn.Linear(dim, 1)))},
        "every-weight-gets-a-gradient",
    ),
    "weights in a list": (
        {
            "connect": connect_more(lambda self, dim: setattr(self, "hidden_away", [nn.Linear(1, 1)])),
            "head": lambda self, hidden, state, t: self.hidden_away[0](
                Honest.head(self, hidden, state, t)[..., None]
            )[..., 0],
        },
        "weights-are-where-torch-finds-them",
    ),
    "first weights by chance": (
        {
            "connect": connect_more(
                lambda self, dim: nn.init.normal_(self.into.weight, generator=_by_chance())
            )
        },
        "connecting-is-fixed-by-the-seed",
    ),
    "weights that are not saved": (
        {
            "connect": connect_more(lambda self, dim: setattr(self, "shift", torch.randn(()))),
            "head": lambda self, hidden, state, t: Honest.head(self, hidden, state, t) + 3 * self.shift,
        },
        "saved-weights-bring-it-back",
    ),
    "costs less than nothing": ({"flops": lambda self, n: -1.0}, "its-cost-is-a-number"),
    "float32 alone": (
        {
            "head": lambda self, hidden, state, t: (
                F.linear(hidden, self.out.weight.double())[..., 0].float()
                if hidden.dtype == torch.float64
                else Honest.head(self, _float32(hidden), state, t)
            )
        },
        "it-trains-in-bfloat16",
    ),
    "stays on the CPU": (
        {"embed": lambda self, x_t, t: Honest.embed(self, x_t + torch.zeros(x_t.shape[1]), t)},
        "it-trains-on-another-device",
    ),
    "reads a value": (
        {"embed": lambda self, x_t, t: Honest.embed(self, x_t * 1.0 if float(t.max()) > 2 else x_t, t)},
        "it-trains-on-another-device",
    ),
    "samples another shape": (
        {"sample": lambda self, evaluate, label, generators: _noise("3", generators)},
        "samples-have-the-shape-asked-for",
    ),
    "samples that are not decoded": (
        {
            "decode": lambda self, payload: (
                payload if abs(payload).sum() in [abs(b).sum() for b in BLOBS] else payload[:1]
            )
        },
        "samples-are-decoded",
    ),
    "always one sample": (
        {
            "sample": lambda self, evaluate, label, generators: (
                evaluate(torch.zeros(len(generators), int(label)), torch.ones(len(generators)))[0] + 1
            )
        },
        "samples-are-drawn",
    ),
    "samples of nobody": (
        {"sample": lambda self, evaluate, label, generators: torch.randn(len(generators), int(label))},
        "sampling-leaves-global-randomness-alone",
    ),
    "samples of the first": (
        {
            "sample": lambda self, evaluate, label, generators: Honest.sample(
                self, evaluate, label, [generators[0]] * len(generators)
            )
        },
        "samples-are-drawn-apart",
    ),
    "samples of noise": (
        {"sample": lambda self, evaluate, label, generators: _noise(label, generators)},
        "samples-heed-the-model",
    ),
    "asks at one time": (
        {
            "sample": lambda self, evaluate, label, generators: evaluate(
                _noise(label, generators), torch.ones(1)
            )[0]
        },
        "samples-have-the-shape-asked-for",
    ),
}


def _by_chance() -> torch.Generator:
    generator = torch.Generator()
    generator.seed()
    return generator


def _float32(hidden: Tensor) -> Tensor:
    if hidden.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        raise TypeError("float32 alone")
    return hidden


# -- modalities of ids

IDS: Mapping[str, tuple[dict[str, Any], str]] = {
    "ids from 1": (
        {"encode": lambda self, raw: np.array([ord(c) - ord("a") + 6 for c in raw], np.int64)},
        "ids-are-within-the-vocabulary",
    ),
    "an id less": (
        {
            "spans": lambda self, item, payload: [
                Span(payload[:-1], len(payload) - 1, grouped=False, loss=item.loss)
            ]
        },
        "spans-hold-all-ids",
    ),
    "a mean over ids": (
        {
            "objective": lambda self, logits, targets: Loss(
                F.cross_entropy(logits, targets), float(len(targets))
            )
        },
        "losses-add-up-over-ids",
    ),
    "targets of others": (
        {"objective": lambda self, logits, targets: Letters.objective(self, logits, targets.flip(0))},
        "likelier-targets-cost-less",
    ),
    "a loss of NaN": (
        {
            "objective": lambda self, logits, targets: Loss(
                (logits.softmax(-1) * logits).sum(), float(len(targets))
            )
        },
        "forbidden-ids-cost-no-nan",
    ),
    "one for all at once": (
        {"choose_each": lambda self, logits, generators, left: logits[:1, 0].argmax(-1).expand(len(logits))},
        "choosing-at-once-is-choosing-one-by-one",
    ),
    "the unlikeliest": (
        {"choose": lambda self, logits, generator, left: int(logits[0].nan_to_num(neginf=99).argmin())},
        "likely-ids-are-chosen",
    ),
    "what is forbidden": (
        {"choose": lambda self, logits, generator, left: 0},
        "what-is-forbidden-is-not-chosen",
    ),
    "ids of nobody": (
        {"choose": lambda self, logits, generator, left: int(torch.multinomial(logits[0].softmax(0), 1))},
        "choosing-is-fixed-by-its-generator",
    ),
}


class ByLength(Letters):
    """Texts of the lengths that fit found, a label each: what is sampled is laid out as the blank of one."""

    predicts_markers = False

    def __init__(self) -> None:
        super().__init__("words", predicts_markers=False)

    def fit(self, raws, seed, report, effort=1.0):
        self.lengths = sorted({len(raw) for raw in raws})

    def facts(self):
        return {"lengths": self.lengths}

    def restore(self, facts):
        self.lengths = facts["lengths"]

    def encode(self, raw):
        if not isinstance(raw, str) or len(raw) not in self.lengths or set(raw) - {*"abcdefgh"}:
            raise TransfuseError(f"a word is {self.lengths} letters from a to h, not {raw!r:.40}")
        return super().encode(raw)

    def labels(self):
        return tuple(map(str, self.lengths))

    def blank(self, label):
        return np.zeros(int(label), np.int64)

    def spans(self, item, payload):
        return [Span(payload, len(payload), str(len(payload)), loss=item.loss)]


def _counts_letters(self: Any, item: Item, payload: np.ndarray) -> list[Span]:
    """A column that holds at each position how many 'a' stand before it: true ids in training, a blank's after."""
    (span,) = ByLength.spans(self, item, payload)
    return [replace(span, columns={"seen": np.cumsum(np.pad(payload == 0, 1))})]


def _moves_by_values(self: Any, span: Span, cursor: int) -> tuple[np.ndarray, int]:
    return np.arange(span.positions) + cursor, cursor + span.positions + int(span.payload.sum())


LABELLED: Mapping[str, tuple[dict[str, Any], str]] = {
    "a column of its ids": (
        {"spans": _counts_letters, "columns": lambda self: {"seen": Column.ID}},
        "layouts-rest-on-the-label",
    ),
    "positions by its ids": ({"positions": _moves_by_values}, "layouts-rest-on-the-label"),
    "lengths by its ids": (
        {
            "spans": lambda self, item, payload: [
                Span(
                    np.append(payload, payload[payload > 2]),
                    len(payload) + (payload > 2).sum(),
                    str(len(payload)),
                    loss=item.loss,
                )
            ]
        },
        "layouts-rest-on-the-label",
    ),
    "decodes some ids alone": (
        {"decode": lambda self, payload: Letters.decode(self, payload[payload < 5])},
        "whatever-is-sampled-is-decoded",
    ),
    "falls over other ids": (
        {"decode": lambda self, payload: "".join("abcde"[id] for id in payload)},
        "whatever-is-sampled-is-decoded",
    ),
}


# -- codecs


class Halved(Codec):
    """Numbers at half their size."""

    channels, bound = 1, 4.0

    def fit(self, raws, seed, report, effort=1.0): ...

    def facts(self):
        return {}

    def restore(self, facts): ...

    def grid(self, shape):
        return tuple(shape)

    def encode(self, raw):
        if not isinstance(raw, np.ndarray):
            raise TransfuseError("an array")
        return (raw[None] / 2).astype(np.float32)

    def decode(self, payload):
        return payload[0] * 2


CODECS: Mapping[str, tuple[dict[str, Any], str]] = {
    "another grid": ({"grid": lambda self, shape: (1, 1)}, "grids-are-those-of-payloads"),
    "more channels": ({"channels": 3}, "payloads-are-of-the-kind-it-says"),
    "a small bound": ({"bound": 0.01}, "latents-lie-within-the-bound"),
    "codes that fit finds": (
        {"fit": lambda self, *_: setattr(self, "codes", 7)},
        "codes-are-known-before-it-is-fit",
    ),
    "awake in training": (
        {
            "train": lambda self, mode=True: nn.Module.train(self, mode),
            "encode": lambda self, raw: Halved.encode(self, raw) * (1.5 if self.training else 1),
        },
        "it-stays-frozen-in-training",
    ),
}

# -- objectives and samplers

OBJECTIVES: Mapping[str, tuple[dict[str, Any], str]] = {
    "clean at 1": ({"clean_time": 1.0}, "clean-time-is-clean"),
    "half the share": ({"share": lambda self, t: t.double() / 2}, "shares-of-noise-are-shares"),
    "times from clean": (
        {"times": lambda self, n: torch.linspace(0.05, 1, n).double()},
        "noise-grows-with-its-share",
    ),
    "one time more": (
        {"times": lambda self, n: torch.linspace(1, 0, n + 1).double()},
        "as-many-times-as-evaluations",
    ),
    "times of nobody": (
        {"draw_time": lambda self, g, context: float(torch.rand(()))},
        "corruption-is-fixed-by-its-generators",
    ),
    "noisier context": (
        {"draw_time": lambda self, g, context: float(torch.rand((), generator=g)) * (1 if context else 0.5)},
        "context-has-no-more-noise",
    ),
    "twice the noise": (
        {"noised": lambda self, x0, eps, t: StraightPath.noised(self, x0, 2 * eps, t)},
        "corruption-is-signal-and-noise",
    ),
    "another target": ({"target": lambda self, x0, eps, t: x0 - eps}, "estimates-invert-targets"),
    "never 0": (
        {
            "score": lambda self, p, target, t: Loss(
                (p - target).abs().flatten(1).mean(1).sum() + 0.1, float(len(t))
            )
        },
        "a-perfect-prediction-scores-0",
    ),
    "sums": (
        {"score": lambda self, p, target, t: Loss((p - target).square().sum(), float(len(t)))},
        "losses-add-up-over-spans",
    ),
    "counts elements": (
        {
            "score": lambda self, p, target, t: Loss(
                (p - target).square().flatten(1).mean(1).sum(), float(p.numel())
            )
        },
        "a-perfect-prediction-scores-0",
    ),
    "half of it": (
        {"score": lambda self, p, target, t: StraightPath.score(self, p[..., 1:], target[..., 1:], t)},
        "the-score-heeds-the-prediction",
    ),
}


class Euler(Sampler):
    """The straight path in 30 steps."""

    last = 0.0

    def sample(self, denoise, objective, noise, generators, bound):
        x, times = noise, [*objective.times(30).tolist(), self.last]
        for t, later in pairwise(times):
            at = torch.full((len(x),), t)
            x = x + (later - t) * denoise(x, at)
        return x.clamp(-bound, bound)


def _ancestral(
    self: Any, denoise: Any, objective: Any, noise: Tensor, generators: list, bound: float
) -> Tensor:
    found = Euler.sample(self, denoise, objective, noise, generators, bound)
    return found + 0.0 * torch.randn(found.shape)


SAMPLERS: Mapping[str, tuple[dict[str, Any], str]] = {
    "stops early": ({"last": 0.03}, "a-perfect-predictor-gives-the-data"),
    "one estimate": (
        {
            "sample": lambda self, denoise, objective, noise, *rest: objective.estimate(
                noise, denoise(noise, torch.ones(len(noise))), torch.ones(len(noise))
            )
        },
        "a-gaussian-has-its-moments",
    ),
    "draws of nobody": ({"sample": _ancestral}, "samples-are-fixed-by-their-generators"),
    "noise in place": (
        {
            "sample": lambda self, denoise, objective, noise, *rest: noise.copy_(
                Euler.sample(self, denoise, objective, noise, *rest)
            )
        },
        "noise-is-left-as-it-is",
    ),
    "samples that meet": (
        {
            "sample": lambda self, denoise, objective, noise, *rest: Euler.sample(
                self, denoise, objective, noise - noise.mean(0), *rest
            )
        },
        "samples-are-drawn-apart",
    ),
    "no noise": (
        {
            "sample": lambda self, denoise, objective, noise, *rest: Euler.sample(
                self, denoise, objective, 0 * noise, *rest
            )
        },
        "samples-heed-the-noise",
    ),
    "times of its own": (
        {
            "sample": lambda self, denoise, objective, noise, *rest: Euler.sample(
                self, lambda x, t: denoise(x, 1 - t), objective, noise, *rest
            )
        },
        "times-are-the-objectives",
    ),
}

# -- attention


def _attend(change: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> dict[str, Any]:
    return {
        "plan": lambda self, mask, queries, keys, request: mask.dense(queries, keys),
        "attend": lambda self, q, k, v, plan: change(q, k, v, plan),
    }


def _softmax(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    return written_out(q, k, v, allowed).to(q.dtype)


BACKENDS: Mapping[str, tuple[dict[str, Any], str]] = {
    "all keys": (
        _attend(lambda q, k, v, m: _softmax(q, k, v, torch.ones_like(m))),
        "outputs-are-those-written-out",
    ),
    "without the root": (
        _attend(lambda q, k, v, m: _softmax(4 * q, k, v, m)),
        "outputs-are-those-written-out",
    ),
    "no gradient of keys": (
        _attend(lambda q, k, v, m: _softmax(q, k.detach() + 0 * k, v, m)),
        "gradients-are-those-written-out",
    ),
    "heads in turn": (
        _attend(
            lambda q, k, v, m: _softmax(
                q, k.repeat(len(q) // len(k), 1, 1), v.repeat(len(q) // len(v), 1, 1), m
            )
        ),
        "heads-may-share-keys",
    ),
    "queries' columns for keys": (
        {
            **_attend(_softmax),
            "plan": lambda self, mask, queries, keys, request: F.pad(
                mask.dense(queries), (0, request.keys - request.queries)
            ),
        },
        "keys-may-be-others-than-queries",
    ),
    "NaN of nothing": (
        _attend(lambda q, k, v, m: ((q @ k.mT) / 4).masked_fill(~m, -torch.inf).softmax(-1) @ v),
        "queries-that-see-nothing-give-0",
    ),
    "says no with a word": ({"supports": lambda self, request: "no"}, "it-says-what-it-cannot"),
    "float32 of half": (
        _attend(lambda q, k, v, m: written_out(q, k, v, m).float()),
        "half-precision-errs-little",
    ),
}

# -- data sets and metrics


class Numbers(DataSet):
    name = "numbers"

    def size(self, split):
        return {"train": 40, "heldout": 8}[split]

    def document(self, split, index, rng=None):
        number = 2 * checked_index(self.name, split, index, self.size(split)) + (split == "heldout")
        items = (Item("text", str(number)), Item("blob", np.arange(3) + number))
        return Document(items, number, f"{self.name} {split} {index}")

    def identity(self):
        return {"name": self.name}


def _documents(change: Callable[[Document, str, int], Document]) -> dict[str, Any]:
    return {
        "document": lambda self, split, index, rng=None: change(
            Numbers.document(self, split, index, rng), split, index
        )
    }


KEPT = np.arange(3.0)
DATASETS: Mapping[str, tuple[dict[str, Any], str]] = {
    "one id twice": (
        _documents(lambda d, split, i: Document(d.items, d.id // 2, d.source)),
        "ids-are-their-own",
    ),
    "by chance": (
        _documents(
            lambda d, split, i: Document((Item("blob", np.random.default_rng().random(3)),), d.id, d.source)
        ),
        "a-document-is-the-same-each-time",
    ),
    "one array for all": (
        _documents(lambda d, split, i: Document((Item("blob", KEPT),), d.id, d.source)),
        "documents-are-not-shared",
    ),
    "empty documents": (_documents(lambda d, split, i: Document((), d.id, d.source)), "documents-hold-items"),
    "one source": (_documents(lambda d, split, i: Document(d.items, d.id)), "sources-name-documents"),
    "no end": (
        {
            "document": lambda self, split, index, rng=None: Numbers.document(
                self, split, index % self.size(split)
            )
        },
        "an-index-outside-is-refused",
    ),
    "held out and trained on": (
        _documents(lambda d, split, i: Document((Item("text", str(i)),), d.id, d.source)),
        "heldout-documents-are-no-training-documents",
    ),
    "other roles": ({"document_roles": lambda self, split, index: ["text"]}, "roles-are-those-of-the-items"),
    "other raw data": (
        {"raw": lambda self, split, role: iter(["1", "0"])},
        "raw-data-are-those-of-the-items",
    ),
    "data of several parts": (
        _documents(lambda d, split, i: Document((Item("pair", ("a", KEPT)),), d.id, d.source)),
        "raw-data-are-text-or-arrays",
    ),
    "no name": ({"identity": lambda self: {}}, "its-identity-is-json"),
    "a task of nothing": ({"tasks": ("text->sound",)}, "shares-and-tasks-are-lawful"),
}


class Right(Metric):
    """The share that is equal to the truth."""

    name = "right"
    figures = (Figure("right", "Right", better="higher", form="percent"),)

    def compute(self, evaluation):
        pairs = zip(evaluation.made, evaluation.truth, strict=True)
        return {"right": float(np.mean([np.array_equal(a, b) for a, b in pairs]))}


METRICS: Mapping[str, tuple[dict[str, Any], str]] = {
    "undeclared": (
        {"compute": lambda self, evaluation: {"wrong": 1.0}},
        "only-declared-figures-are-reported",
    ),
    "NaN": ({"compute": lambda self, evaluation: {"right": float("nan")}}, "figures-are-finite"),
    "percent of 100": ({"compute": lambda self, evaluation: {"right": 100.0}}, "figures-are-finite"),
    "by chance": (
        {"compute": lambda self, evaluation: {"right": float(np.random.default_rng().random())}},
        "measuring-twice-is-the-same",
    ),
    "the wrong way": (
        {"compute": lambda self, e: {"right": 1 - Right.compute(self, e)["right"]}},
        "mixed-up-answers-are-no-better",
    ),
    "one note": ({"notes": lambda self, evaluation: ["fine"]}, "notes-go-with-what-was-made"),
    "figures twice": ({"figures": (*Right.figures, *Right.figures)}, "figures-are-declared"),
    "facts of numpy": ({"facts": lambda self: {"seed": np.int64(1)}}, "facts-are-json"),
}

ANSWERS = [np.full(3, float(i)) for i in range(5)]
EVALUATION = Evaluation(
    Task("blob", ("text",)), [(Item("text", str(i)),) for i in range(5)], ANSWERS, ANSWERS
)

KINDS: Mapping[str, tuple[Kit, type, Callable[[Any], Any], Mapping[str, tuple[dict[str, Any], str]]]] = {
    "spans": (MODALITY, Honest, lambda part: ModalityCase(part, [blob.copy() for blob in BLOBS]), SPANS),
    "labelled ids": (
        MODALITY,
        ByLength,
        lambda part: ModalityCase(part, WORDS, "same(doc) & le(idx)"),
        LABELLED,
    ),
    "ids": (MODALITY, Letters, lambda part: ModalityCase(part, TEXTS, "same(doc) & le(idx)"), IDS),
    "codecs": (CODEC, Halved, lambda part: RawDataCase(part, BLOBS), CODECS),
    "objectives": (OBJECTIVE, StraightPath, ObjectiveCase, OBJECTIVES),
    "samplers": (SAMPLER, Euler, SamplerCase, SAMPLERS),
    "backends": (ATTENTION, Dense, AttentionCase, BACKENDS),
    "data sets": (DATASET, Numbers, DataSetCase, DATASETS),
    "metrics": (METRIC, Right, lambda part: MetricCase(part, EVALUATION), METRICS),
}
"""By kind its kit, the honest part, what makes a case of a part, and the liars: what they change, and the check."""
