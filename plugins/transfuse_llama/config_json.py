"""The config.json of a language model: its architecture as the backbone's settings, and the other way round."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transfuse.config.recipe import ModelSettings
from transfuse.config.validation import InvalidSettings, short
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.files import read_mapping

ARCHITECTURES = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
CONFIG_CAP = 1 << 20  # bytes
SCALING = {
    "factor": "factor",
    "low": "low_freq_factor",
    "high": "high_freq_factor",
    "original": "original_max_position_embeddings",
}
"""What `RopeScaling` calls its settings, and what they are called there."""
LANGUAGE_MODEL = "language model (config.json, safetensors, tokenizer.json)"
"""What a folder of one holds."""


def architecture(folder: Path) -> dict[str, Any]:
    """The settings that ``pretrained`` settles, of a folder whose config.json transformers 4 or 5 wrote.

    Raises TransfuseError where there is none, InvalidSettings naming the key of what the backbone does not do, or of
    what is missing.
    """
    path = folder / "config.json"
    config = read_mapping(path, LANGUAGE_MODEL, cap=CONFIG_CAP, cure="copy it again")
    kinds = config.get("architectures")
    kind = kinds[0] if isinstance(kinds, list) and kinds else kinds
    if kind not in ARCHITECTURES:
        hint = did_you_mean(kind, ARCHITECTURES) if isinstance(kind, str) else ", ".join(ARCHITECTURES)
        raise _refused(path, "architectures", kind, hint)
    for key, value, why in _unserved(config):
        raise _refused(path, key, value, why)
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
        if key not in config:
            raise InvalidSettings([(("pretrained",), f"{path} has no {key!r}")])
    rope = _rope(config)
    return {
        "dim": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "kv_heads": config.get("num_key_value_heads") or config["num_attention_heads"],
        "head_dim": config.get("head_dim") or (128 if kind == "Qwen3ForCausalLM" else None),
        "hidden": config["intermediate_size"],
        "qk_norm": kind == "Qwen3ForCausalLM",
        "post_norm": False,
        "norm_eps": config.get("rms_norm_eps", 1e-6),
        "qkv_bias": kind == "Qwen2ForCausalLM",
        "tied": config.get("tie_word_embeddings", False),
        "rope_theta": rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
        "rope_scaling": _scaling(rope),
    }


def config_json(s: ModelSettings, ids: int, longest: int) -> dict[str, Any]:
    """The inverse, as transformers 4 writes it and 5 reads it too.

    ids: of the tokenizer; the marks of a document's begin and end follow them. longest: positions of a row that it was
    trained on. Raises TransfuseError naming the setting that no architecture of `ARCHITECTURES` has.
    """
    if s.post_norm:
        raise _unsaid("model.post_norm=true", "their norms stand before each half")
    if s.qk_norm and s.qkv_bias:
        raise _unsaid("model.qk_norm=true with model.qkv_bias=true", "Qwen2 has the one and Qwen3 the other")
    if s.rope != ("pos",):
        raise _unsaid(f"model.rope=[{', '.join(s.rope)}]", "their rotary positions have one axis")
    kind = "Qwen3" if s.qk_norm else "Qwen2" if s.qkv_bias else "Llama"
    scaling = s.rope_scaling
    stretched = None
    if scaling is not None:
        stretched = {
            "rope_type": "llama3",
            **{theirs: getattr(scaling, ours) for ours, theirs in SCALING.items()},
        }
        longest = max(longest, int(scaling.original * scaling.factor))
    return {
        "architectures": [f"{kind}ForCausalLM"],
        "model_type": kind.lower(),
        "vocab_size": ids + 2,
        "bos_token_id": ids,
        "eos_token_id": ids + 1,
        "hidden_size": s.dim,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.key_value_heads,
        "head_dim": s.head_width,
        "intermediate_size": s.swiglu_width,
        "hidden_act": "silu",
        "rms_norm_eps": s.norm_eps,
        "attention_bias": False,
        "tie_word_embeddings": s.tied,
        "max_position_embeddings": longest,
        "rope_theta": s.rope_theta,
        "rope_scaling": stretched,
        "torch_dtype": "float32",
    }


def _unsaid(setting: str, why: str) -> TransfuseError:
    return TransfuseError(
        f"{setting}: no config.json of {', '.join(ARCHITECTURES)} can say so ({why}): train without it to export"
    )


def _unserved(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Keys that say what the backbone does not do, and why."""
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            yield key, True, "the backbone has a bias on queries, keys and values only (qkv_bias, Qwen2)"
    if config.get("use_sliding_window") or "sliding_attention" in str(config.get("layer_types")):
        yield "use_sliding_window", True, "which positions see which is the recipe's mask, in all layers"
    if config.get("hidden_act", "silu") != "silu":
        yield "hidden_act", config["hidden_act"], "the backbone's is silu"
    if config.get("quantization_config"):
        yield "quantization_config", "given", "load the model's full weights"
    rope = _rope(config)
    if _kind(rope) not in ("default", "llama3"):
        yield "rope_scaling", _kind(rope), "the backbone scales as default and llama3"
    if rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1)) != 1:
        yield "partial_rotary_factor", rope.get("partial_rotary_factor"), "the backbone turns all of a head"


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What transformers 5 writes as rope_parameters, and 4 as rope_scaling beside rope_theta."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return rope if isinstance(rope, Mapping) else {"rope_type": rope}


def _kind(rope: Mapping[str, Any]) -> Any:
    return rope.get("rope_type", rope.get("type", "default"))


def _scaling(rope: Mapping[str, Any]) -> dict[str, Any] | None:
    if _kind(rope) != "llama3":
        return None
    return {ours: rope[theirs] for ours, theirs in SCALING.items() if theirs in rope}


def _refused(path: Path, key: str, value: Any, why: str) -> InvalidSettings:
    return InvalidSettings([(("pretrained",), f"{path}: {key} = {short(value)} does not load: {why}")])
