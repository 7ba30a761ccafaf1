"""A recipe is everything that makes a run: modalities, mask, loss weights, model, training."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from transfuse import masks
from transfuse.config.located import Located
from transfuse.config.merge import SETTLES
from transfuse.config.parts import Chosen, PartOf, Settings
from transfuse.config.validation import InvalidSettings, Loc, short
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.masks import Mask
from transfuse.metrics import Task

ROOTS = ("model", "train", "loss", "eval", "mask", "crossing", "attention", "modalities")
"""What ``--set`` keys begin with, besides roles."""
BACKENDS = ("auto", "dense")
"""Attention backends that need no plugin; ``auto`` is the first that serves."""
LLAMA = "llama"
"""The block of a recipe that names none, and whose settings read language models for blocks that read none."""
LONGEST_MASK = 100_000  # letters of an expression
COLUMNS = ("doc", "idx", "pos", "span", "item", "mod", "sample", "noised", "marker")
"""Columns the layout and the packer write; a role is a column too."""
GUIDANCE_VIEW = "guidance_view"
"""The column of a prompt's positions that says which view of guidance they are of; 0 where all share them."""
RESERVED = (*COLUMNS, "tokens", "scored", GUIDANCE_VIEW)
"""Names that neither a role nor a plugin's column may have."""

Role = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Column = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=40)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e9)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(ge=0, le=1e6)]
Scale = Annotated[float, Field(gt=0, le=1e6)]


class RopeScaling(Settings):
    """Llama 3.1's longer rotary waves (transformers' "llama3"); those between low and high are stretched partly."""

    factor: float = Field(ge=1, le=1e6)
    """By how much waves are stretched."""
    low: float = Field(default=1.0, gt=0, le=1e6)
    """Waves over ``original / low`` positions are stretched in full."""
    high: float = Field(default=4.0, gt=0, le=1e6)
    """Those under ``original / high`` are not."""
    original: int = Field(default=8192, ge=1, le=1 << 30)
    """Positions that the model was first trained on."""

    @model_validator(mode="after")
    def _apart(self) -> "RopeScaling":
        if self.high <= self.low:
            raise InvalidSettings([(("high",), f"must be over low = {self.low:g}, not {self.high:g}")])
        return self


class ModelSettings(Settings):
    """The backbone."""

    pretrained: str | None = Field(default=None, min_length=1, max_length=4096)
    """Folder of the language model whose weights it starts from; its architecture is read from there, unless
    all of it is given, as in the recipe of a run. The block's settings class says how it is read, or llama's."""
    dim: int = Field(default=128, ge=2, le=1 << 16)
    """Width D."""
    layers: int = Field(default=4, ge=1, le=1024)
    """Transformer blocks."""
    heads: int = Field(default=4, ge=1, le=1024)
    """Attention heads."""
    kv_heads: int | None = Field(default=None, ge=1, le=1024)
    """Heads of keys and values, a divisor of heads; None: heads."""
    head_dim: int | None = Field(default=None, ge=2, le=1 << 16, multiple_of=2)
    """Width of a head, even, since RoPE turns pairs; None: D / heads."""
    hidden: int | None = Field(default=None, ge=1, le=1 << 20)
    """Width inside SwiGLU; None: the multiple of 64 nearest to 8/3 D, and then recorded as a number."""
    qk_norm: bool = False
    """RMSNorm on queries and keys."""
    post_norm: bool = False
    """RMSNorm on what attention and feed-forward add to the residual rather than on what they read
    (Chameleon 34B)."""
    norm_eps: float | None = Field(default=None, gt=0, le=1)
    """Of every RMSNorm; None: torch's."""
    qkv_bias: bool = False
    """A bias on queries, keys and values (Qwen2)."""
    tied: bool = False
    """The output layer is the embedding."""
    rope_theta: float = Field(default=10_000.0, gt=1, le=1e12)
    """Base of the rotary wavelengths."""
    rope_scaling: RopeScaling | None = None
    """Longer waves; None: none."""
    rope: tuple[Column, ...] = Field(default=("pos",), min_length=1, max_length=8)
    """The columns that turn the rotary axes."""
    block: Annotated[Chosen | str, PartOf("block", core=(LLAMA,))] = LLAMA
    """What a layer is: ``llama``, whose weights all modalities share (paper, section 4.1), or a block that a
    plugin offers (`transfuse.model.backbone.Backbone`), with its settings."""

    @model_validator(mode="before")
    @classmethod
    def _as_pretrained(cls, values: Any, info: ValidationInfo) -> Any:
        """With what the folder decides, unless all of it is there: a run's folder may be gone."""
        given = values.get("pretrained") if isinstance(values, Mapping) else None
        if not isinstance(given, str) or values.keys() >= SETTLES["pretrained"]:
            return values
        lookup: Any = info.context
        named = values.get("block", LLAMA)
        name = named.get("name", LLAMA) if isinstance(named, Mapping) else named
        blocks = {} if lookup is None else lookup.parts("block")
        readers = (getattr(blocks[n].settings, "architecture", None) for n in (name, LLAMA) if n in blocks)
        if (read := next(filter(None, readers), None)) is None:
            raise InvalidSettings([(("pretrained",), "no plugin that is loaded reads such a folder")])
        try:
            found = read(Path(given))
        except InvalidSettings:
            raise
        except TransfuseError as error:
            raise InvalidSettings([(("pretrained",), str(error))]) from error
        faults = [
            ((key,), f"is {values[key]!r:.40}, and the folder {given} says {value!r:.80}: leave it out")
            for key, value in found.items()
            if key in values and values[key] != value
        ]
        if faults:
            raise InvalidSettings(faults)
        return {**values, **found}

    @model_validator(mode="after")
    def _divisible(self) -> "ModelSettings":
        if self.head_dim is None and (self.dim % self.heads or (self.dim // self.heads) % 2):
            raise InvalidSettings(
                [(("dim",), f"must be an even multiple of heads = {self.heads}, not {self.dim}")]
            )
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise InvalidSettings([(("kv_heads",), f"must divide heads = {self.heads}, not {self.kv_heads}")])
        most = self.head_width // 2
        if len(set(self.rope)) < len(self.rope) or len(self.rope) > most:
            raise InvalidSettings([(("rope",), f"needs distinct columns, at most {most} of them")])
        object.__setattr__(self, "hidden", self.swiglu_width)  # a run says what it was built with
        return self

    @property
    def head_width(self) -> int:
        """Width of one head, whether given or not."""
        return self.head_dim or self.dim // self.heads

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values, whether given or not."""
        return self.kv_heads or self.heads

    @property
    def swiglu_width(self) -> int:
        """Width inside SwiGLU, whether given or not."""
        return self.hidden or max(64, (8 * self.dim + 96) // 192 * 64)


class TrainSettings(Settings):
    """How long, on what, and how the optimiser (AdamW) is set."""

    steps: int | None = Field(default=None, ge=1, le=10**9)
    """The budget in optimiser steps; either this or flops is given."""
    flops: float | None = Field(default=None, gt=0, le=1e30)
    """The budget in floating-point operations, by formula."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Of weights, data order and noise."""
    codec_seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Of codecs' training: with two, a comparison does not rest on one codec."""
    lr: float = Field(default=3e-3, gt=0, le=1)
    """The highest learning rate."""
    rows: int = Field(default=1, ge=1, le=1 << 20)
    """Rows a step."""
    budget: int = Field(default=528, ge=2, le=1 << 24)
    """Positions a row."""
    warmup: Share = 0.05
    """Share of the budget in which the learning rate rises from 0."""
    final_lr: Share = 0.05
    """The learning rate at the end, as a share of lr."""
    cooldown: Share = 1.0
    """Share of the budget, the last, in which the rate falls to that; it is constant between warm-up and then."""
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    """AdamW's."""
    eps: float = Field(default=1e-8, gt=0, le=1)
    """AdamW's."""
    weight_decay: float = Field(default=0.1, ge=0, le=10)
    """AdamW's."""
    clip: float = Field(default=1.0, gt=0, le=1e6)
    """Largest norm of the gradient."""
    skips: int = Field(default=3, ge=0, le=10**9)
    """So many steps in a row are skipped where loss or gradient is not finite; one more ends the run."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """In what matrix products are computed; ``bfloat16`` is mixed precision, weights stay float32
    (`transfuse.model.precision`)."""
    recompute: bool = False
    """Activation checkpointing: of a layer its input alone is kept, and the rest computed again for the backward pass.
    Less memory, about a third more time; the same gradients."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of documents whose droppable items are left out, so that guidance has a view without them."""
    look_ahead: int = Field(64, ge=1, le=1 << 20)
    """Documents that may wait for a row they fit."""
    fill: bool = False
    """End rows in filler, so that all are as long as the budget (FlexAttention wants that)."""
    too_long: Literal["error", "skip", "cut"] = "error"
    """A document over the budget is an error, left out, or its text is cut."""
    save_every: float = Field(default=60.0, ge=0, le=1e9)
    """Seconds between checkpoints."""
    keep_last: int = Field(default=2, ge=1, le=10**6)
    """So many of the newest checkpoints are kept."""
    keep_every: int | None = Field(default=None, ge=1, le=10**9)
    """After each so many steps one is written and kept for good; None: none."""
    shard: int | None = Field(default=None, ge=1, le=1 << 16)
    """Among how many of the ranks that train together each weight is divided; None: all, 1: none."""
    ema: Decay | None = None
    """Decay of the moving average of the weights that is sampled from and evaluated; None or 0: none."""
    lr_scale: dict[Role, Factor | dict[Role, Factor]] | None = Field(default=None, max_length=100)
    """Factors on the learning rate by part of the model (`transfuse.training.parameter_groups`); a part with
    factor 0 is frozen."""
    grad_scale: dict[Role, Scale | dict[Role, Scale]] | None = Field(default=None, max_length=100)
    """Factors on the gradient by part of the model, before it is clipped."""

    @model_validator(mode="after")
    def _one_budget(self) -> "TrainSettings":
        if (self.steps is None) == (self.flops is None):
            given = "neither" if self.steps is None else "both"
            raise InvalidSettings([((), f"takes exactly one of steps and flops, not {given}")])
        return self


class EvalSettings(Settings):
    """What a trained model is asked, and how often."""

    split: Role = "test"
    """Whose documents: ``test`` to judge by, ``tune`` to choose settings by, or another that the data set has."""
    tasks: tuple[str, ...] | None = Field(default=None, max_length=64)
    """Such as ``text->image``; where none are named, those of the data set: each ordered pair of roles that
    stand beside each other in its documents, and a role that stands alone."""
    prompts: int = Field(default=1000, ge=2, le=10**6)
    """At most so many prompts a task, of the split's first documents."""
    trained: int = Field(default=200, ge=0, le=10**6)
    """At most so many prompts of training documents, spread evenly, where nearly every prompt is another text."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """In what matrix products are computed while samples are drawn; losses are measured in float32."""


def as_mask(value: Any) -> Mask:
    """A mask as it is, or that of a text: here alone a recipe's mask is parsed. Raises `InvalidSettings`."""
    if isinstance(value, Mask):
        return value
    if not isinstance(value, str) or len(value) > LONGEST_MASK:
        raise InvalidSettings([((), f"should be a mask's name or an expression, not {short(value)}")])
    try:
        return masks.parse(value)
    except TransfuseError as error:
        raise InvalidSettings([((), str(error))]) from error


MaskField = Annotated[Mask, PlainValidator(as_mask), PlainSerializer(str)]


def _wrong_tasks(tasks: tuple[str, ...], roles: Collection[str]) -> Iterator[tuple[int, str]]:
    for i, text in enumerate(tasks):
        try:
            task = Task.parse(text)
        except TransfuseError as error:
            yield i, str(error)
            continue
        for role in dict.fromkeys((*task.given, task.want)):
            if role not in roles:
                yield i, f"names {role!r}, which is no role of this recipe, {did_you_mean(role, roles)}"


class Recipe(Settings):
    """Everything that makes a run, resolved: nothing is inherited or named elsewhere any more."""

    name: str
    """As the registry has it."""
    modalities: dict[Role, Annotated[Chosen, PartOf("modality")]] = Field(min_length=1)
    """By role, the name that documents, losses and flags use."""
    mask: MaskField
    """Which positions see which."""
    crossing: bool = False
    """Whether the mask may show documents that are packed into one row to each other, as in systems that do not
    pack; which those are is chance. In decoding, where each document and each view of guidance is one of a row,
    they then see each other too."""
    loss: dict[Role, Weight]
    """The weight of each role; all of them, since a forgotten one would train wrongly in silence."""
    model: ModelSettings = ModelSettings()
    """The backbone."""
    train: TrainSettings
    """Budget, data order, optimiser."""
    eval: EvalSettings = EvalSettings()
    """Its evaluation, which training does not depend on."""
    attention: Annotated[Chosen | str, PartOf("attention", core=BACKENDS)] = "auto"
    """``auto``, the name of a backend in core, or one chosen from a plugin."""

    @model_validator(mode="after")
    def _weights(self) -> "Recipe":
        roles = self.modalities.keys()
        faults: list[tuple[Loc, str]] = [
            (("modalities", role), "is taken: name the role otherwise")
            for role in sorted(roles & {*ROOTS, *RESERVED})
        ]
        faults += [
            (("loss",), f"has no weight for {role!r}: give it one, or 0 to leave it out of the loss")
            for role in sorted(roles - self.loss.keys())
        ]
        faults += [
            (("loss", role), f"weighs no modality of this recipe, {did_you_mean(role, roles)}")
            for role in sorted(self.loss.keys() - roles)
        ]
        faults += [(("eval", "tasks", i), fault) for i, fault in _wrong_tasks(self.eval.tasks or (), roles)]
        if faults:
            raise InvalidSettings(faults)
        return self

    def dump(self) -> dict[str, Any]:
        """All of it as JSON, to be saved beside a run; `from_dump` gives an equal recipe back."""
        return self.model_dump(mode="json")

    @staticmethod
    def from_dump(dump: Any, plugins: Any, source: str = "recipe") -> "Recipe":
        """The recipe that `dump` wrote. Raises `TransfuseError` that begins with ``source``."""
        return Located.from_source(f"{source}:", dump).validate(Recipe, plugins)
