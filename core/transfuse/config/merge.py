"""How two sections are merged, mappings key by key, the upper one over the lower; and how they differ.

A section is a mapping of settings as a file has it. A part is named inside its section,
``{name: kl, channels: 4}``, and ``kl`` alone is short for ``{name: kl}``. A modality says ``kind`` where
other parts say ``name``.
"""

from collections.abc import Mapping
from typing import Any

NAMING_KEYS = ("kind", "name")
ALTERNATIVES = (frozenset({"steps", "flops"}), frozenset({"scale", "views"}))
"""Keys of which a section means one: the budget of a training, and what guides samples."""

SETTLES = {
    "pretrained": frozenset({
        "dim", "layers", "heads", "kv_heads", "head_dim", "hidden", "qk_norm", "post_norm", "norm_eps",
        "qkv_bias", "tied", "rope_theta", "rope_scaling",
    }),
    "tokenizer": frozenset({"vocab"}),
}  # fmt: skip
"""Keys that name a file or folder, and the keys it settles: merged into a section, they clear these."""


def merge(base: Any, over: Any) -> Any:
    """``base`` with ``over`` on top: mappings merge key by key, anything else is replaced.

    Two sections that name different parts do not mix: the upper one replaces the lower. One that
    names no part keeps the name, and the settings, of the one below.

    >>> merge({"name": "linear", "patch": 1}, {"patch": 2})
    {'name': 'linear', 'patch': 2}
    >>> merge({"name": "linear", "patch": 1}, "unet")
    {'name': 'unet'}
    >>> merge("linear", {"patch": 2})
    {'name': 'linear', 'patch': 2}

    Of `ALTERNATIVES` the upper one's choice clears the lower one's.

    >>> merge({"steps": 400, "seed": 0}, {"flops": 1e15})
    {'seed': 0, 'flops': 1000000000000000.0}
    """
    if isinstance(base, Mapping) and isinstance(over, str):
        key = naming_key(base)
        return merge(base, {key: over}) if key else over
    if isinstance(base, str) and isinstance(over, Mapping):
        base = {"name": base}
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    key = naming_key(base)
    if key in over and over[key] != base[key]:
        return over
    chosen = {key for keys in ALTERNATIVES for key in keys if over.get(key) is not None}
    cleared = {key for keys in ALTERNATIVES if keys & chosen for key in keys - chosen}
    cleared |= {key for file, keys in SETTLES.items() if over.get(file) is not None for key in keys}
    return {
        **{key: value for key, value in base.items() if key not in cleared},
        **{key: merge(base[key], value) if key in base else value for key, value in over.items()},
    }


def naming_key(section: Mapping[str, Any]) -> str | None:
    """The key by which a section names its part: ``kind``, ``name``, or None where it names none."""
    return next((key for key in NAMING_KEYS if key in section), None)


def differing(there: Any, here: Any, most: int = 3) -> str:
    """The first keys in which two trees differ, with both values.

    >>> differing({"model": {"dim": 64}}, {"model": {"dim": 128}, "seed": 1})
    'model.dim (there 64, here 128), seed (there None, here 1)'
    """
    before, now = _flat(there), _flat(here)
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    shown = [f"{key} (there {before.get(key)!r:.80}, here {now.get(key)!r:.80})" for key in keys[:most]]
    more = [f"{len(keys) - most} more"] if len(keys) > most else []
    return ", ".join([*shown, *more])


def _flat(tree: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {place: tree}
    return {
        k: v for key, sub in tree.items() for k, v in _flat(sub, f"{place}.{key}" if place else key).items()
    }
