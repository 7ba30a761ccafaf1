"""A recipe is everything that makes a run: modalities, mask, loss weights, model, training."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    model_validator,
)

from transfuse import masks
from transfuse.config.parts import Chosen, PartOf, Settings
from transfuse.config.pretrained_config import with_architecture
from transfuse.config.validation import InvalidSettings, short, validate
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.masks import Mask

ROOTS = ("model", "train", "loss", "mask", "attention", "modalities")
"""What ``--set`` keys begin with, besides roles."""
BACKENDS = ("auto", "dense", "tiles")
"""Attention backends that need no plugin; ``auto`` is the first that serves."""
LONGEST_MASK = 100_000  # letters of an expression
COLUMNS = ("doc", "idx", "pos", "span", "item", "mod", "sample", "noised", "marker")
"""Columns the layout and the packer write; a role is a column too."""
RESERVED = (*COLUMNS, "tokens", "scored")
"""Names that neither a role nor a plugin's column may have."""

Role = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Column = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=40)]
Share = Annotated[float, Field(ge=0, le=1)]


Weight = Annotated[float, Field(ge=0, le=1e9)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(ge=0, le=1e6)]
Scale = Annotated[float, Field(gt=0, le=1e6)]


class RopeScaling(Settings):
    """Llama 3.1's longer rotary waves: those over ``original / low`` positions are stretched by
    ``factor``, those under ``original / high`` are not, and those between partly (transformers' "llama3")."""

    factor: float = Field(ge=1, le=1e6)
    low: float = Field(default=1.0, gt=0, le=1e6)
    high: float = Field(default=4.0, gt=0, le=1e6)
    original: int = Field(default=8192, ge=1, le=1 << 30)

    @model_validator(mode="after")
    def _apart(self) -> "RopeScaling":
        if self.high <= self.low:
            raise InvalidSettings([(("high",), f"must be over low = {self.low:g}, not {self.high:g}")])
        return self


class ModelSettings(Settings):
    """The backbone.

    pretrained: folder of the language model whose weights it starts from; its architecture is read from
    there, unless all of it is given, as in the recipe of a run (`transfuse.config.pretrained_config`).
    dim: width D. heads: attention heads of even width (RoPE turns pairs): head_dim; None: D / heads.
    kv_heads: heads of keys and values, a divisor of heads; None: heads.
    hidden: width inside SwiGLU; None: 8/3 D, rounded up to a multiple of 8.
    qk_norm: RMSNorm on queries and keys. post_norm: RMSNorm on what attention and feed-forward add to
    the residual rather than on what they read (Chameleon 34B). norm_eps: of every RMSNorm; None: torch's.
    qkv_bias: queries, keys and values have one (Qwen2). tied: the output layer is the embedding.
    rope: the columns that turn the rotary axes, of base rope_theta, with rope_scaling.
    block: what a layer is: ``llama``, whose weights all modalities share (paper, section 4.1), or a block
    that a plugin offers (`transfuse.model.backbone.Backbone`), with its settings.
    """

    pretrained: str | None = Field(default=None, min_length=1, max_length=4096)
    dim: int = Field(default=128, ge=2, le=1 << 16)
    layers: int = Field(default=4, ge=1, le=1024)
    heads: int = Field(default=4, ge=1, le=1024)
    kv_heads: int | None = Field(default=None, ge=1, le=1024)
    head_dim: int | None = Field(default=None, ge=2, le=1 << 16, multiple_of=2)
    hidden: int | None = Field(default=None, ge=1, le=1 << 20)
    qk_norm: bool = False
    post_norm: bool = False
    norm_eps: float | None = Field(default=None, gt=0, le=1)
    qkv_bias: bool = False
    tied: bool = False
    rope_theta: float = Field(default=10_000.0, gt=1, le=1e12)
    rope_scaling: RopeScaling | None = None
    rope: tuple[Column, ...] = Field(default=("pos",), min_length=1, max_length=8)
    block: Annotated[Chosen | str, PartOf("block", core=("llama",))] = "llama"

    @model_validator(mode="before")
    @classmethod
    def _as_pretrained(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("pretrained"), str):
            return with_architecture(values)
        return values

    @model_validator(mode="after")
    def _divisible(self) -> "ModelSettings":
        if self.head_dim is None and (self.dim % self.heads or (self.dim // self.heads) % 2):
            raise InvalidSettings(
                [(("dim",), f"must be an even multiple of heads = {self.heads}, not {self.dim}")]
            )
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise InvalidSettings([(("kv_heads",), f"must divide heads = {self.heads}, not {self.kv_heads}")])
        if len(set(self.rope)) < len(self.rope) or len(self.rope) > self.head_width // 2:
            raise InvalidSettings(
                [(("rope",), f"needs distinct columns, at most {self.head_width // 2} of them")]
            )
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
        return self.hidden or -(-8 * self.dim // 24) * 8


class TrainSettings(Settings):
    """How long, on what, and how the optimiser (AdamW) is set.

    steps, flops: the budget, exactly one of them: optimiser steps, or floating-point operations by
    formula. rows: rows a step. budget: positions a row. lr: the highest learning rate.
    warmup: share of the budget in which it rises from 0. final_lr: share of lr at the end.
    clip: largest gradient norm. drop: share of documents whose droppable items are left out, so that
    guidance has a view without them. look_ahead: documents that may wait for a row they fit.
    fill: end rows in filler, so that all are as long as the budget (FlexAttention wants that).
    too_long: a document over the budget is an ``error``, or its text is ``cut`` at the end.
    ema: decay of the moving average of the weights that is sampled from and evaluated; None or 0: none.
    lr_scale, grad_scale: factors on the learning rate, and on the gradient before it is clipped, by part
    of the model (`transfuse.model.parameter_groups`); a part with lr_scale 0 is frozen.
    """

    steps: int | None = Field(default=None, ge=1, le=10**9)
    flops: float | None = Field(default=None, gt=0, le=1e30)
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    lr: float = Field(default=3e-3, gt=0, le=1)
    rows: int = Field(default=1, ge=1, le=1 << 20)
    budget: int = Field(default=1408, ge=2, le=1 << 24)
    warmup: Share = 0.05
    final_lr: Share = 0.05
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0, le=1)
    weight_decay: float = Field(default=0.1, ge=0, le=10)
    clip: float = Field(default=1.0, gt=0, le=1e6)
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.1
    look_ahead: int = Field(64, ge=1, le=1 << 20)
    fill: bool = False
    too_long: Literal["error", "cut"] = "error"
    ema: Decay | None = None
    lr_scale: dict[Role, Factor | dict[Role, Factor]] | None = Field(default=None, max_length=100)
    grad_scale: dict[Role, Scale | dict[Role, Scale]] | None = Field(default=None, max_length=100)

    @model_validator(mode="after")
    def _one_budget(self) -> "TrainSettings":
        if (self.steps is None) == (self.flops is None):
            given = "neither" if self.steps is None else "both"
            raise InvalidSettings([((), f"takes exactly one of steps and flops, not {given}")])
        return self


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


class Recipe(Settings):
    """Everything that makes a run, resolved: nothing is inherited or named elsewhere any more.

    modalities: by role, the name that documents, losses and flags use. mask: the text form.
    loss: the weight of each role; all of them, since a forgotten one would train wrongly in silence.
    attention: ``auto``, the name of a backend in core, or one chosen from a plugin.
    """

    name: str
    modalities: dict[Role, Annotated[Chosen, PartOf("modality")]] = Field(min_length=1)
    mask: MaskField
    loss: dict[Role, Weight]
    model: ModelSettings = ModelSettings()
    train: TrainSettings
    attention: Annotated[Chosen | str, PartOf("attention", core=BACKENDS)] = "auto"

    @model_validator(mode="after")
    def _weights(self) -> "Recipe":
        roles = self.modalities.keys()
        taken = sorted(roles & {*ROOTS, *RESERVED})
        if taken:
            raise InvalidSettings(
                (("modalities", role), "is taken: name the role otherwise") for role in taken
            )
        faults: list[tuple[tuple[str | int, ...], str]] = [
            (("loss",), f"has no weight for {role!r}: give it one, or 0 to leave it out of the loss")
            for role in sorted(roles - self.loss.keys())
        ]
        faults += [
            (("loss", role), f"weighs no modality of this recipe, {did_you_mean(role, roles)}")
            for role in sorted(self.loss.keys() - roles)
        ]
        if faults:
            raise InvalidSettings(faults)
        return self

    def dump(self) -> dict[str, Any]:
        """All of it as JSON, to be saved beside a run; `from_dump` gives an equal recipe back."""
        return self.model_dump(mode="json")

    @staticmethod
    def from_dump(dump: Any, plugins: Any, source: str = "recipe") -> "Recipe":
        """The recipe that `dump` wrote. Raises `TransfuseError` that begins with ``source``."""
        try:
            return validate(Recipe, dump, plugins)
        except InvalidSettings as invalid:
            raise invalid.error(source) from invalid
