"""Weights of a pretrained language model (a Llama- or Qwen-style folder) into the backbone and vocabulary.

Only safetensors are read; shapes are checked before anything is. A tensor is read at a time, and of one that is divided
among ranks the rank's own rows.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transfuse.errors import TransfuseError
from transfuse.files import read_mapping
from transfuse.model.model import Model
from transfuse.plugin import put_rows

IN_LAYER = {
    "attention_norm.weight": ("input_layernorm.weight",),
    "attention.qkv.weight": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "attention.qkv.bias": ("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"),
    "attention.q_norm.weight": ("self_attn.q_norm.weight",),
    "attention.k_norm.weight": ("self_attn.k_norm.weight",),
    "attention.out.weight": ("self_attn.o_proj.weight",),
    "feedforward_norm.weight": ("post_attention_layernorm.weight",),
    "feedforward.up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "feedforward.down.weight": ("mlp.down_proj.weight",),
}
"""The weights of `LlamaBlock`, and what they are called in a layer there: rows end to end."""


def load_pretrained(model: Model, folder: Path) -> None:
    """Put a folder's weights into the marker modality's part of the backbone, and into its ids' rows.

    Ids keep their numbers, counted from the start of the leading modality's range; markers and other
    modalities' ids keep their fresh rows, and so do weights of a block that Llama's has not. Weights become
    the model's own dtype. Raises TransfuseError naming file and weights where these are missing, of another
    shape, or have no place.
    """
    with ExitStack() as stack, torch.no_grad():
        stored = _Stored(folder, stack)
        for name, parameter in model.backbone.weights(model.marker_modality):
            if names := sources(name):
                stored.fill(parameter, names)
        r = model.vocabulary.range(model.marker_modality)
        stored.fill_rows(model.tokens.weight, r.start, r.stop - r.start, "model.embed_tokens.weight")
        if not model.settings.tied:
            stored.fill_rows(model.unembed.weight, r.start, r.stop - r.start, "lm_head.weight")
        stored.check_all_used({"lm_head.weight"} if model.settings.tied else set())


def sources(name: str) -> tuple[str, ...]:
    """The stored names of a weight of the backbone; none of one that Llama's block has not.

    >>> sources("blocks.3.attention.out.weight")
    ('model.layers.3.self_attn.o_proj.weight',)
    """
    if name == "norm.weight":
        return ("model.norm.weight",)
    _, _, rest = name.partition("blocks.")
    layer, _, inside = rest.partition(".")
    return tuple(f"model.layers.{layer}.{stored}" for stored in IN_LAYER.get(inside, ()))


class _Stored:
    """The tensors of a folder's safetensors files, read one at a time."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.files: dict[str, Any] = {}
        self.used: set[str] = set()
        for path in sorted(set(_files(folder))):
            try:
                file = stack.enter_context(safe_open(path, framework="pt"))
                self.files |= dict.fromkeys(file.keys(), file)
            except (OSError, SafetensorError) as error:
                raise TransfuseError(f"{path} cannot be read as safetensors: {error}") from None

    def fill(self, target: Tensor, names: tuple[str, ...]) -> None:
        """Write these tensors into the target's rows, end to end."""
        shapes = [self._shape(name) for name in names]
        rows = sum(shape[0] for shape in shapes)
        if any((rows, *shape[1:]) != tuple(target.shape) for shape in shapes):
            raise TransfuseError(
                f"{self.folder}: the weights {' + '.join(names)} are {' + '.join(map(str, shapes))}, "
                f"and config.json asks for {tuple(target.shape)}"
            )
        start = 0
        for name, shape in zip(names, shapes, strict=True):
            put_rows(target, start, shape[0], self.files[name].get_slice(name))
            start += shape[0]
        self.used.update(names)

    def fill_rows(self, target: Tensor, first: int, count: int, name: str) -> None:
        """Write the first rows of a tensor, which may have more: many vocabularies are padded."""
        shape = self._shape(name)
        if len(shape) != 2 or shape[0] < count or shape[1] != target.shape[1]:
            raise TransfuseError(
                f"{self.folder}: the weights {name} are {shape}, and the recipe's vocabulary asks for "
                f"{(count, target.shape[1])}: give the text the folder's own tokenizer.json"
            )
        put_rows(target, first, count, self.files[name].get_slice(name))
        self.used.add(name)

    def check_all_used(self, ignored: set[str]) -> None:
        """Raises TransfuseError where weights are left over: the model does more than ours."""
        left = sorted(
            name
            for name in self.files.keys() - self.used - ignored
            if not name.endswith("rotary_emb.inv_freq")  # old Llama folders store what is computed
        )
        if left:
            raise TransfuseError(f"{self.folder}: the weights {left[0]!r} have no place in the backbone")

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self.files:
            raise TransfuseError(f"{self.folder}: the weights {name!r} are missing")
        return tuple(self.files[name].get_slice(name).get_shape())


def _files(folder: Path) -> Iterator[Path]:
    """The one file of weights, or those that the index names, which must lie in the folder itself."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        if not (folder / "model.safetensors").is_file():
            raise TransfuseError(
                f"{folder} holds neither model.safetensors nor its index: only safetensors are read"
            )
        yield folder / "model.safetensors"
        return
    weights = read_mapping(index, "language model", "weight_map", cure="copy it again")["weight_map"]
    if not isinstance(weights, dict):
        raise TransfuseError(f"{index} is damaged (its weight_map should be a mapping): copy it again")
    for name in weights.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise TransfuseError(f"{index} names {name!r:.80}: only .safetensors beside it are read")
        yield folder / name
