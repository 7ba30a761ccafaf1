"""Tiny random language models as transformers saves them, recipes that start from one, and the logits of text."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transfuse.config.recipe import Recipe
from transfuse.masks import NONE
from transfuse.model.build import build_modalities, build_model
from transfuse.model.model import Model

from tests.tiny import models as tiny
from tests.tiny.models import CAUSAL, SECTIONS, TRANSFUSION, WORDS, Kit, plugins

IDS = 300
SMALL = {
    "vocab_size": IDS + 4, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rms_norm_eps": 1e-3}),
    "llama-3.2": ("Llama", {"head_dim": 6, "tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "qwen2": ("Qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}),
    "qwen2-tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 12}),
}


def language_model(kind: str, folder: Path, **save: Any) -> Any:
    """A tiny random one, saved as transformers does; its norms and biases are not at their first values."""
    import transformers

    name, more = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **more})
    torch.manual_seed(0)
    made = getattr(transformers, f"{name}ForCausalLM")(config)
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif "proj" in key:
                parameter.mul_(5)  # so that attention is not nearly uniform
    made.save_pretrained(folder, **save)
    tokenizer(folder / "tokenizer.json")
    return made.eval()


def tokenizer(path: Path) -> Tokenizer:
    """A byte-level BPE with a special token, in IDS ids."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        WORDS,
        trainers.BpeTrainer(
            vocab_size=280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    missing = IDS - made.get_vocab_size()
    made.add_special_tokens([f"<|{i}|>" for i in range(missing)])
    made.save(str(path))
    return made


def recipe_of(folder: Path, *roles: str, **settings: Any) -> Recipe:
    modalities = {role: SECTIONS[role] for role in roles or ("text", "image")}
    modalities["text"] = {"kind": "text", "tokenizer": str(folder / "tokenizer.json")}
    dump = {
        "name": "started",
        "modalities": modalities,
        "mask": str(CAUSAL if "image" not in modalities else TRANSFUSION),
        "loss": dict.fromkeys(modalities, 1),
        "model": {"pretrained": str(folder), **settings},
        "train": {"steps": 2},
    }
    return Recipe.from_dump(dump, plugins())


def started(recipe: Recipe, kit: Kit) -> Model:
    modalities = build_modalities(recipe)
    for role, modality in modalities.items():
        if role == "text":
            modality.fit([], 0, lambda line: None)
        else:
            fitted = kit.modality(role)
            modality.restore(fitted.facts())
            modality.load_state_dict(fitted.state_dict())
    return build_model(recipe, modalities, plugins()).eval()


@torch.no_grad()
def logits(model: Model, ids: Tensor) -> Tensor:
    """Our logits for text ids alone: no markers, positions from 0."""
    r = model.vocabulary.range("text")
    n = len(ids)
    columns = {"doc": np.zeros(n, np.int64), "idx": np.arange(n), "span": np.full(n, NONE)}
    prepared = model.backbone.prepare(tiny.bare(torch.arange(n)[:, None]))
    hidden = model.backbone(model.tokens(ids + r.start), prepared, torch.zeros(0), model.attend(columns))
    return model.logits(hidden)[:, r.start : r.stop]


IDS_GIVEN = torch.randint(0, IDS, (40,), generator=torch.Generator().manual_seed(1))
