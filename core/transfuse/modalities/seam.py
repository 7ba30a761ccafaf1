"""Where results of plugins' code enter core: each is checked here, and what the code raises is told in one line.

A line names the part, the plugin that it came from and the method: ``modality 'series' (tf-series 0.1): embed
returned [5, 17, 32] for 5 spans of 16 positions of width 32``. All raise TransfuseError. No check reads numbers on
a device; letters in shapes are those of `transfuse.modalities.modality`.
"""

import inspect
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transfuse.config.origin import origin_of, told
from transfuse.documents import Item, View
from transfuse.errors import TransfuseError
from transfuse.modalities.fit_context import FitContext
from transfuse.modalities.loss import Loss
from transfuse.modalities.modality import Column, Modality, Report, Span, SpanModality, TokenModality


def title(part: Any) -> str:
    """How messages call a part: ``modality 'series' (tf-series 0.1)``; one made by hand without its source."""
    name = getattr(part, "name", "?")
    return str(
        origin_of(part) or (f"modality {name!r}" if isinstance(part, Modality) else type(part).__name__)
    )


def guarded(part: Any, method: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``function(...)``, which runs a part's code: what that raises becomes a line that names part and method."""
    try:
        return function(*args, **kwargs)
    except TransfuseError:
        raise
    except Exception as error:
        raise told(title(part), method, error) from error


@contextmanager
def at(place: object) -> Iterator[None]:
    """What is wrong inside is told with the place where it is."""
    try:
        yield
    except TransfuseError as error:
        raise TransfuseError(f"{place}: {error}") from (error.__cause__ or error)


def _whole(x: Any) -> bool:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def _number(x: Any, least: float = -math.inf) -> bool:
    return isinstance(x, (int, float)) and least <= x < math.inf


def _array(x: Any, kinds: str = "biuf") -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind in kinds


def _list(x: Any, of: type = object, length: int | None = None) -> bool:
    right = isinstance(x, (tuple, list)) and length in (None, len(x))
    return right and (of is object or all(isinstance(y, of) for y in x))


RIGHT: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "views": (lambda x: _list(x, View), "a tuple of View"),
    "labels": (lambda x: _list(x, str) and len({*x}) == len(x), "a tuple of distinct texts"),
    "columns": (lambda x: isinstance(x, Mapping) and _list([*x.values()], Column), "a mapping of names to Column"),
    "codes": (lambda x: _whole(x) and x > 0, "a whole number from 1 on"),
    "clean_time": (_number, "a number"),
    "flops": (lambda x: _number(x, 0), "a number from 0 on"),
    "facts": (lambda x: isinstance(x, dict), "a dict that JSON can hold"),
    "encode": (_array, "a numpy array of numbers"),
    "blank": (_array, "a numpy array of numbers"),
    "decode": (lambda x: x is not None, "raw data"),
    "spans": (lambda x: x and _list(x, Span), "a list of Span, at least one"),
    "positions": (lambda x: _list(x, length=2), "(positions, cursor)"),
    "corrupt": (lambda x: _list(x, length=3), "(x_t, t, target)"),
    "embed": (lambda x: _list(x, length=2), "(vectors, state)"),
    "head": (lambda x: isinstance(x, Tensor), "a tensor"),
    "objective": (lambda x: isinstance(x, Loss), "a Loss, a sum with its count"),
    "sample": (lambda x: isinstance(x, Tensor), "a tensor"),
    "noise_share": (lambda x: isinstance(x, Tensor), "a tensor"),
    "suffixes": (
        lambda x: x and _list(x, str) and all(s[:1] == "." and s == s.lower() for s in x),
        "a tuple of endings such as '.npy', in small letters",
    ),
    "load": (lambda x: x is not None, "raw data"),
    "draw": (
        lambda x: x is None
        or (("<svg" in x[:1000]) if isinstance(x, str) else isinstance(x, bytes) and x[:4] == b"\x89PNG"),
        "SVG as text, a PNG as bytes, or None",
    ),
}  # fmt: skip
"""By method or attribute of modalities and codecs, what it has to give, whatever it is asked."""
ATTRIBUTES = ("views", "codes", "clean_time", "suffixes")


def call(part: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """What a part's method returns, or what an attribute is: checked as far as `RIGHT` goes."""
    found = guarded(part, method, getattr, part, method)
    if method not in ATTRIBUTES:
        found = guarded(part, method, found, *args, **kwargs)
    if method == "spans" and isinstance(found, Iterator):
        found = guarded(part, method, list, found)
    right, what = RIGHT.get(method, (None, ""))
    if right is not None and not right(found):
        raise wrong(part, method, found, f": it must be {what}")
    return found


def wrong(part: Any, method: str, found: Any, but: str, did: str = "returned") -> TransfuseError:
    """The error that a method returned, or an attribute is, something that is not right."""
    did = "is" if method in ATTRIBUTES else did
    text = " ".join(repr(found).split())
    text = text if len(text) <= 60 else f"a {type(found).__name__}: {text[:50]}..."
    if isinstance(found, Tensor | np.ndarray):
        text = f"{list(found.shape)}" + (f" of {found.dtype}" if isinstance(found, np.ndarray) else "")
    return TransfuseError(f"{title(part)}: {method} {did} {text}{but}")


# -- before the model


def fit(part: Any, raws: Any, seed: int, report: Report, effort: float, context: FitContext) -> None:
    """A modality or codec learns what is learnt before the model."""
    call(part, "fit", raws, seed, report, effort, **accepted(part.fit, context=context))


def facts(part: Any) -> dict[str, Any]:
    """Facts that JSON gives back."""
    found = call(part, "facts")
    for fault in _no_json(found, "facts()"):
        raise TransfuseError(f"{title(part)}: {fault}, which JSON has not")
    return found


def _no_json(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{place} has the key {key!r}" for key in value if not isinstance(key, str))
    if isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _no_json(inner, f"{place}[{key!r}]")
    elif not isinstance(value, str | int | None) and not (isinstance(value, float) and math.isfinite(value)):
        yield f"{place} is {value!r:.40}"


# -- codec and layout


def payload(part: Any, method: str, *args: Any) -> np.ndarray:
    """What ``encode`` or ``blank`` returns: numbers, floats no wider than the model's weights."""
    return _narrow(part, method, call(part, method, *args))


def _narrow(part: Any, method: str, found: np.ndarray) -> np.ndarray:
    if found.dtype.kind == "f" and found.dtype.itemsize > 4 and not isinstance(part, TokenModality):
        raise wrong(part, method, found, ": return float32, as the weights are")
    return found


def spans(modality: Any, item: Item, payload: np.ndarray) -> list[Span]:
    """The spans an item becomes."""
    found, of_spans = call(modality, "spans", item, payload), isinstance(modality, SpanModality)
    noised = predicted = labelled = False
    for span in found:
        n, own = span.length, span.payload
        if not _whole(n) or n < 1:
            raise wrong(modality, "spans", n, " as a span's length: it must be a whole number from 1 on")
        if own is not payload and not _array(own):
            raise wrong(modality, "spans", own, " as a span's payload: it must be a numpy array of numbers")
        if of_spans:
            _narrow(modality, "spans", own)
        elif own.shape != (n,) or own.dtype.kind not in "iu":
            raise wrong(modality, "spans", own, f" as the ids of a span of {n}")
        elif own is not payload and (own.min() < 0 or own.max() >= modality.codes):
            raise wrong(modality, "spans", own, f" as ids, which are not all of 0 … {modality.codes - 1}")
        for name, values in span.columns.items():
            if not _array(values, "biu"):
                raise wrong(modality, "spans", values, f" as column {name!r}: it holds whole numbers")
        noised, labelled = noised or span.noised, labelled or span.label is not None
        predicted = predicted or (span.loss and (span.noised or not of_spans))
    if of_spans and predicted and not labelled:
        raise wrong(modality, "spans", found, " without a label: nothing could begin it in sampling")
    if of_spans and noised and not item.noised:
        raise wrong(modality, "spans", found, " of an item that is not: say noised=item.noised")
    if predicted and not item.loss:
        raise wrong(modality, "spans", found, " with a loss for an item that has none: say loss=item.loss")
    return found


def positions(modality: Modality, span: Span, cursor: int) -> tuple[np.ndarray, int]:
    """Rotary positions of a span, and the cursor after it."""
    found, after = call(modality, "positions", span, cursor)
    found = np.asarray(found)
    if found.shape != (span.positions,) or found.dtype.kind not in "iu":
        raise wrong(modality, "positions", found, f" for {span.positions} positions: a whole number each")
    if not _whole(after) or after < cursor:
        raise wrong(modality, "positions", after, f" as the cursor after {cursor}: it must not go back")
    return found, after


# -- in the model


def corrupt(modality: SpanModality, clean: Tensor, *how: list) -> tuple[Tensor, Tensor, Tensor]:
    """(x_t, t, target) of B spans; ``how``: their generators, and which of them are context."""
    found = call(modality, "corrupt", clean, *how)
    likes = {"x_t": clean, "t": torch.empty(len(clean)), "target": clean}
    for value, (name, like) in zip(found, likes.items(), strict=True):
        _tensor(modality, "corrupt", value, f" as {name} of {len(clean)} spans", like, like.shape, like.dtype)
    if not found[1].isfinite().all():
        raise wrong(modality, "corrupt", found[1].tolist(), " as t: times must be finite")
    return found


def embed(modality: Any, x_t: Tensor, t: Tensor, copy: str, n: int, width: int) -> tuple[Tensor, Any]:
    """Vectors [B, n, width], and what the head needs of them."""
    vectors, state = call(modality, "embed", x_t, t, **accepted(modality.embed, copy=copy))
    of = f" for {len(t)} spans of {n} positions of width {width}"
    return _tensor(modality, "embed", vectors, of, t, (len(t), n, width)), state


def head(modality: Any, hidden: Tensor, state: Any, t: Tensor, copy: str) -> Tensor:
    """Predictions of B spans."""
    found = call(modality, "head", hidden, state, t, **accepted(modality.head, copy=copy))
    return _tensor(modality, "head", found, f" for {len(t)} spans", t, (len(t), *found.shape[1:]))


def score(modality: Any, prediction: Tensor, target: Tensor, *t: Tensor, copy: str = "") -> Loss:
    """The loss of n tokens or of B spans, which is its count."""
    if t and prediction.dim() != target.dim() and prediction.squeeze().shape == target.squeeze().shape:
        text = f"{list(prediction.shape)} for targets {list(target.shape)}, with which it would broadcast"
        warnings.warn(
            f"{title(modality)}: head returned {text}: each must be compared with its own", stacklevel=2
        )
    found = call(modality, "objective", prediction, target, *t, **accepted(modality.objective, copy=copy))
    scalar = isinstance(found.sum, Tensor) and found.sum.numel() == 1
    of = " as the sum of a loss, which is one number"
    _tensor(modality, "objective", found.sum, of, prediction, found.sum.shape if scalar else ())
    if prediction.requires_grad and torch.is_grad_enabled() and not found.sum.requires_grad:
        raise wrong(modality, "objective", found.sum, " as a sum without a graph: nothing would learn")
    if guarded(modality, "objective", float, found.count) != len(target):
        unit = "spans: add up the mean of each" if t else "tokens: add them up"
        raise wrong(modality, "objective", found.count, f" as the count of {len(target)} {unit}")
    return found


def asked(modality: SpanModality, x_t: Tensor, t: Tensor, like: Tensor) -> None:
    """What a sampler asks the model: x_t of ``like``'s B spans, at B times."""
    for name, found, shape in (("x_t", x_t, like.shape), ("t", t, like.shape[:1])):
        if not isinstance(found, Tensor) or found.shape != shape or found.device != like.device:
            but = f" as {name} to evaluate: it must be {list(shape)} on {like.device}"
            raise wrong(modality, "sample", found, but, did="gave")


def sample(modality: Any, evaluate: Any, label: str, generators: list, like: np.ndarray) -> np.ndarray:
    """B payloads like a blank one, finite."""
    found, shape = call(modality, "sample", evaluate, label, generators), (len(generators), *like.shape)
    made = _narrow(modality, "sample", guarded(modality, "sample", lambda: found.cpu().numpy()))
    if made.shape != shape or (made.dtype.kind == "f") != (like.dtype.kind == "f"):
        raise wrong(modality, "sample", made, f" for {list(shape)} of {like.dtype}")
    if not np.isfinite(made).all():
        raise wrong(modality, "sample", made, f" of {label!r} with NaN or Inf")
    return made


def choose(modality: TokenModality, logits: Tensor, generator: torch.Generator, left: float) -> int:
    """The next id, one of those allowed."""
    found = call(modality, "choose", logits, generator, left)
    id = guarded(modality, "choose", operator.index, found)
    if not 0 <= id < logits.shape[-1] or logits[0, id] == -torch.inf:
        raise wrong(modality, "choose", id, ", which may not stand here: its logit is -inf")
    return id


def choose_each(modality: TokenModality, logits: Tensor, generators: list, left: float) -> np.ndarray:
    """The next ids of B documents [B], from logits [B, views, V]: by whichever of the two methods was said last."""
    said = next(x for x in (modality, *type(modality).__mro__) if {"choose", "choose_each"} & vars(x).keys())
    if "choose_each" not in vars(said) or said is TokenModality:
        each = zip(logits, generators, strict=True)
        return np.array([choose(modality, own, generator, left) for own, generator in each])
    found = call(modality, "choose_each", logits, generators, left)
    if not isinstance(found, Tensor) or found.shape != logits.shape[:1] or found.dtype != torch.long:
        raise wrong(modality, "choose_each", found, f" for {len(logits)} documents: an id each, as int64")
    ids = found.cpu().numpy()
    fits = (ids >= 0) & (ids < logits.shape[2])
    fits[fits] = (logits[:, 0].cpu().numpy()[fits, ids[fits]] != -np.inf) if fits.any() else True
    if not fits.all():
        but = ", which may not stand here: its logit is -inf"
        raise wrong(modality, "choose_each", int(ids[~fits][0]), but)
    return ids


@lru_cache(maxsize=1024)
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def accepted(method: Callable[..., Any], **more: Any) -> dict[str, Any]:
    """Those of the further arguments for which a method has a parameter of that name."""
    taken = _parameters(getattr(method, "__func__", method))
    return {name: value for name, value in more.items() if name in taken}


def _tensor(
    part: Any, method: str, found: Any, of: str, like: Tensor, shape: Any, dtype: torch.dtype | None = None
) -> Tensor:
    """A tensor of this shape where ``like`` is, of this dtype or at least floating."""
    if not isinstance(found, Tensor) or found.shape != shape:
        raise wrong(part, method, found, of)
    if found.dtype != dtype if dtype else not found.is_floating_point():
        but = f" of {found.dtype}{of}: it must be {dtype or 'floating'}"
        raise wrong(part, method, found, but.replace("torch.", ""))
    if found.device != like.device:
        raise wrong(part, method, found, f" on {found.device}{of}, which are on {like.device}")
    return found
