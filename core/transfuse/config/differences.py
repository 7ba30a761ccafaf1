"""How two trees of JSON differ, in words for a message."""

from typing import Any


def differing(there: Any, here: Any, most: int = 3) -> str:
    """The first keys in which two trees differ, with both values.

    >>> differing({"model": {"dim": 64}}, {"model": {"dim": 128}, "seed": 1})
    'model.dim (there 64, here 128), seed (there None, here 1)'
    """
    before, now = _flat(there), _flat(here)
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    told = [f"{key} (there {before.get(key)!r:.80}, here {now.get(key)!r:.80})" for key in keys[:most]]
    more = [f"{len(keys) - most} more"] if len(keys) > most else []
    return ", ".join([*told, *more])


def _flat(tree: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {place: tree}
    return {
        k: v for key, sub in tree.items() for k, v in _flat(sub, f"{place}.{key}" if place else key).items()
    }
