"""Which of a user's own samples are held out: as told, else one in ten by a hash of their key."""

import hashlib
from collections.abc import Mapping

HELDOUT_SHARE = 0.1


def splits(told: Mapping[str, str | None]) -> dict[str, str]:
    """Each key with its split. told: what the user said, None where nothing.

    A hash, so that adding keys moves none. Where chance holds out nothing and nothing was told to be, the
    key with the lowest hash is held out, if another is left.
    """
    free = sorted((key for key, split in told.items() if split is None), key=_chance)
    chosen = {key: "heldout" if _chance(key) < HELDOUT_SHARE else "train" for key in free}
    found = {key: split or chosen[key] for key, split in told.items()}
    if "heldout" not in found.values() and free and len(found) > 1:
        found[free[0]] = "heldout"
    return found


def _chance(key: str) -> float:
    """A number in [0, 1) fixed by the key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
