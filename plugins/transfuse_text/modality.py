"""Text as a modality: a BPE trained on the data's own text, one token a position."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transfuse.plugin import (
    Chosen,
    Item,
    Loss,
    PartOf,
    RawError,
    Report,
    Settings,
    Span,
    TokenModality,
    TokenObjective,
    TransfuseError,
    draw,
)

TOKENIZER_CAP = 64 << 20  # bytes of a tokenizer.json that is read
SHOWN = 40  # characters of a text that is quoted


class TextSettings(Settings):
    """A tokenizer, and how tokens are scored and drawn."""

    fit_by = ("vocab", "tokenizer")
    sampled_by = ("temperature",)

    vocab: int | None = Field(None, ge=1, le=10_000_000)
    """Ids of the BPE; 256 are bytes, so that every text can be written."""
    tokenizer: str | None = Field(None, min_length=1, max_length=4096)
    """A tokenizer.json to take instead of training a BPE; its ids keep their numbers, and vocab, if given, must
    be their number."""
    objective: Annotated[Chosen[TokenObjective], PartOf("objective")] = Field(
        default={"name": "next-token"}, validate_default=True
    )
    """How tokens are scored."""
    temperature: float = Field(0.0, ge=0, le=10)
    """Of the tokens drawn; 0 is greedy, as in the paper."""

    @model_validator(mode="after")
    def _bytes(self) -> "TextSettings":
        if self.tokenizer is None and self.vocab is not None and self.vocab < 256:
            raise ValueError(f"vocab must be at least 256, the bytes, not {self.vocab}")
        return self


def check_text(raw: Any) -> None:
    """Raises TransfuseError where it is no text that UTF-8 can hold."""
    if not isinstance(raw, str):
        raise TransfuseError(f"text must be a string, not {type(raw).__name__}")
    if any("\ud800" <= letter <= "\udfff" for letter in raw):
        raise TransfuseError("text must be UTF-8, and this holds half a surrogate pair")


def _texts(raws: Iterable[Any]) -> Iterator[str]:
    """The texts to train on; ids are no text. Raises RawError for what is neither."""
    for number, raw in enumerate(raws):
        if isinstance(raw, np.ndarray):
            continue
        try:
            check_text(raw)
        except TransfuseError as error:
            raise RawError(number, str(error)) from error
        yield raw


def _around(text: str, other: str) -> str:
    """The place of a text where it begins to be another than ``other``, quoted."""
    same = next(
        (i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other))
    )
    start = max(0, same - SHOWN // 4)
    cut = text[start : start + SHOWN]
    return repr("…" * (start > 0) + cut + "…" * (start + SHOWN < len(text)))


class Text(TokenModality):
    predicts_markers = True
    suffixes = (".txt",)

    def __init__(self, settings: TextSettings, name: str) -> None:
        super().__init__(name)
        self.settings = settings
        self.scorer = settings.objective.build()
        self.tokenizer: Tokenizer | None = None

    @property
    def codes(self) -> int:
        if self.settings.tokenizer is None:
            return self.settings.vocab or 512
        return 1 + max(self._fitted().get_vocab().values())

    def fit(self, raws: Iterable[Any], seed: int, report: Report, effort: float = 1.0) -> None:
        if self.settings.tokenizer is not None:
            self.tokenizer = self._given(Path(self.settings.tokenizer))
            if effort:
                self._report_changed(raws, report)
            return
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.codes,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[],
            show_progress=False,
        )
        tokenizer.train_from_iterator(_texts(raws), trainer)
        self.tokenizer = tokenizer
        report(f"{self.name}: a BPE of {tokenizer.get_vocab_size()} tokens")

    def _report_changed(self, raws: Iterable[Any], report: Report) -> None:
        """Says of how many texts the tokenizer, which is not our own, gives back others, and shows the first."""
        count, changed, first = 0, 0, ""
        for text in _texts(raws):
            count += 1
            if (back := self.decode(self.encode(text))) != text:
                changed += 1
                first = first or f"{_around(text, back)} comes back as {_around(back, text)}"
        if changed:
            report(
                f"{self.name}: {changed:,} of {count:,} texts are not what the tokenizer gives back of them: {first}; "
                "take one that knows all bytes (byte fallback), or none, to train one"
            )

    def facts(self) -> dict[str, Any]:
        return {"tokenizer": self._fitted().to_str()}

    def restore(self, facts: dict[str, Any]) -> None:
        self.tokenizer = Tokenizer.from_str(facts["tokenizer"])

    def connect(self, dim: int) -> None:
        """Nothing of its own: its ids are embedded and scored by the model's vocabulary."""

    def encode(self, raw: Any) -> Int[np.ndarray, " n"]:
        if isinstance(raw, np.ndarray):  # ids already
            if raw.ndim != 1:
                raise TransfuseError(f"ids must be in one row, not of shape {raw.shape}")
            return raw
        check_text(raw)
        return np.array(self._fitted().encode(raw, add_special_tokens=False).ids, dtype=np.int64)

    def decode(self, payload: np.ndarray) -> str:
        return self._fitted().decode([int(i) for i in payload], skip_special_tokens=False)

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        return [Span(payload, len(payload), grouped=False, loss=item.loss)]

    def objective(self, logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"]) -> Loss:
        return self.scorer.score(logits, targets)

    def choose(self, logits: Float[Tensor, "views V"], generator: torch.Generator, left: float) -> int:
        return int(self.choose_each(logits[None], [generator], left))

    def choose_each(
        self, logits: Float[Tensor, "B views V"], generators: Sequence[torch.Generator], left: float
    ) -> Int[Tensor, " B"]:
        if self.settings.temperature == 0:
            return logits[:, 0].argmax(dim=1)
        return draw(torch.softmax(logits[:, 0].cpu().double() / self.settings.temperature, dim=1), generators)

    def _given(self, path: Path) -> Tokenizer:
        """The tokenizer of a file, which neither cuts nor pads. Raises TransfuseError where it is none."""
        place = f"modality {self.name!r}: tokenizer {path}"
        try:
            if path.stat().st_size > TOKENIZER_CAP:
                raise TransfuseError(f"{place} has more than {TOKENIZER_CAP >> 20} MiB: it is not read")
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise TransfuseError(f"{place} is not there ({error.strerror}): name a tokenizer.json") from None
        except TransfuseError:
            raise
        except Exception as error:  # tokenizers raises a bare one
            raise TransfuseError(f"{place} is no tokenizer.json: {error}") from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        ids = tokenizer.get_vocab().values()
        if not ids:
            raise TransfuseError(f"{place} has no ids")
        if self.settings.vocab not in (None, 1 + max(ids)):
            raise TransfuseError(
                f"{place} has ids up to {max(ids)}, and vocab is {self.settings.vocab}: say {self.name}.vocab=null"
            )
        return tokenizer

    def _fitted(self) -> Tokenizer:
        if self.tokenizer is None:
            raise TransfuseError(f"modality {self.name!r} has no tokenizer yet: fit it to data first")
        return self.tokenizer
