"""The language-model half of a model as a folder that transformers opens: what ``pretrained`` reads, written.

Each stored tensor is a run of rows of one of ours, so that reading the folder gives the same bits again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from transfuse.documents import Document
from transfuse.files import sync, write_json, write_text, writing
from transfuse.modalities import seam
from transfuse.model.model import Model
from transfuse.plugin import Item, TransfuseError
from transfuse.sequences.rows import join

from transfuse_llama.config_json import config_json
from transfuse_llama.pretrained import sources

SHARD = 4 << 30
"""Bytes of a file of weights; what is more goes into the next."""


def save_pretrained(model: Model, folder: Path, longest: int) -> None:
    """Write ``config.json``, the weights, ``tokenizer.json`` and what transformers needs to open that.

    Weights are those that the marker modality's positions go through, and its ids' rows of the vocabulary. Two rows
    follow those, of ``<document>`` and ``</document>``, which config.json says begin and end a text: each text that the
    model has read began with the one. longest: positions that config.json says it may be given. Raises TransfuseError
    where there is no such folder of the model: it writes no text, or has what those architectures have not.
    """
    tokenizer = _tokenizer(model)
    _check_causal(model)
    r = model.vocabulary.range(model.marker_modality)
    config = config_json(model.settings, r.size, longest)
    files: list[dict[str, Tensor]] = [{}]
    for name, tensor in _tensors(model):
        if files[-1] and sum(t.nbytes for t in files[-1].values()) + tensor.nbytes > SHARD:
            files.append({})
        files[-1][name] = tensor
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    names = [f"model-{i:05}-of-{len(files):05}.safetensors" for i in range(1, len(files) + 1)]
    if len(files) == 1:
        names = ["model.safetensors"]
    for name, tensors in zip(names, files, strict=True):
        with writing(folder / name):
            save_file(tensors, folder / name, metadata={"format": "pt"})
            sync(folder / name)
    if len(files) > 1:
        where = {key: name for name, tensors in zip(names, files, strict=True) for key in tensors}
        total = sum(t.nbytes for tensors in files for t in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        write_json(folder / "model.safetensors.index.json", index)
    write_text(folder / "tokenizer.json", tokenizer)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    write_json(folder / "config.json", config)  # last: a folder without it does not open


def _tensors(model: Model) -> Iterator[tuple[str, Tensor]]:
    """The stored tensors, by the names that they have there."""
    s = model.settings
    for name, parameter in model.backbone.weights(model.marker_modality):
        stored = sources(name)
        if not stored:
            raise TransfuseError(
                f"the block has weights {name!r}, for which a Llama or Qwen folder has no place: only runs of the "
                f"blocks llama and per-modality are language models for others to open"
            )
        rows = [len(parameter)]
        if len(stored) == 2:
            rows = [s.swiglu_width] * 2
        elif len(stored) == 3:
            rows = [s.head_width * heads for heads in (s.heads, s.key_value_heads, s.key_value_heads)]
        yield from zip(stored, parameter.detach().split(rows), strict=True)
    tables = {"model.embed_tokens.weight": model.tokens, "lm_head.weight": model.unembed}
    r, marks = model.vocabulary.range(model.marker_modality), model.vocabulary.range("document")
    for name, table in list(tables.items())[: 1 if s.tied else 2]:
        weight = table.weight.detach()
        yield name, torch.cat([weight[r.start : r.stop], weight[marks.start : marks.stop]])


def _tokenizer(model: Model) -> str:
    """The tokenizer.json of the modality that writes text."""
    role = model.layout.marker_modality
    facts: Any = {} if role is None else seam.facts(model.modalities[role])
    if not isinstance(facts.get("tokenizer"), str):
        raise TransfuseError(
            f"{'no role of the recipe' if role is None else f'role {role!r}'} has a tokenizer.json: without text there "
            f"is no language model to export"
        )
    return facts["tokenizer"]


def _check_causal(model: Model) -> None:
    """Raises TransfuseError where a document of text alone is read otherwise than a language model reads it."""
    role = model.marker_modality
    row = join([model.layout.sequence(Document((Item(role, np.zeros(4, np.int64)),)))])
    n = row.used
    seen = model.mask.allowed({name: column[:n] for name, column in row.columns.items()})
    if not np.array_equal(seen, np.tri(n, dtype=bool)):
        raise TransfuseError(
            f"mask {model.mask}: text does not see just what came before it, as in a language model that others open: "
            f"only runs under a causal mask of text can be exported as one"
        )
