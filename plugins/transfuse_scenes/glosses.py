"""Glosses of WordNet, which say in English what a word means: texts of another kind beside captions of scenes."""

import re
from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from pathlib import Path

from transfuse.errors import TransfuseError

from transfuse_scenes.world import COLOURS, SHAPES

FILES = ("data.adj", "data.adv", "data.noun", "data.verb")
LONGEST = 128
"""Bytes, about 64 ids of a BPE of 512; what is longer is cut at a word."""
HELD = 512
"""How many are kept apart."""
THING = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})")


@cache
def read_glosses(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those to train on and those held out, in an order drawn by a hash; no two alike, none naming a thing of scenes.

    folder: with WordNet's data files (`FILES`; wndb(5WN)). Raises TransfuseError where it has them not.
    """
    found = {text for name in FILES for text in _glosses(folder / name)}
    if len(found) <= HELD:
        raise TransfuseError(
            f"data scenes: {folder} holds {len(found)} glosses, and {HELD} are held out: give all files"
        )
    order = sorted(found, key=lambda text: blake2b(text.encode()).digest())
    return tuple(order[HELD:]), tuple(order[:HELD])


def _glosses(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TransfuseError(
            f"data scenes: glosses: {path} cannot be read ({error}): unpack Debian's package (apt-get download "
            f"wordnet-base; dpkg -x wordnet-base_*.deb wordnet) and say glosses=wordnet/usr/share/wordnet"
        ) from error
    for line in lines:
        text = "" if line.startswith(" ") else line.partition(" | ")[2].strip()  # the licence is indented
        if len(text.encode()) > LONGEST:
            text = text.encode()[: LONGEST + 1].decode(errors="ignore").rpartition(" ")[0]
        if text and not THING.search(text):
            yield text
