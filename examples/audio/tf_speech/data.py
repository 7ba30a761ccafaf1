"""Spoken dates, put together from a telephone exchange's prompts as it does itself: "july", "twenty", "first"."""

import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import Field
from transfuse.plugin import (
    DataSet,
    Document,
    Item,
    Settings,
    TransfuseError,
    checked_index,
    checked_split,
    content_hash,
    in_either_order,
)

from tf_speech.mel import RATE
from tf_speech.speech import read_wav

PACKAGE = "asterisk-core-sounds-en-wav"
LICENCE = "CC BY-SA 3.0: Asterisk's core sounds, Allison Smith, Digium Inc"
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth",
    "eighteenth", "nineteenth", "twentieth",
)  # fmt: skip
TENS = {20: "twenty", 30: "thirty"}
FILES = {
    **{word: f"mon-{i}" for i, word in enumerate(MONTHS)},
    **{word: f"h-{i + 1}" for i, word in enumerate(ORDINALS)},
    "thirtieth": "h-30",
    **{word: str(number) for number, word in TENS.items()},
}
DATES = len(MONTHS) * 31
EVERY = 5  # one date in so many is held out


def date(number: int) -> str:
    """The words of one of the 372 dates."""
    before, month = divmod(number, len(MONTHS))
    return f"{MONTHS[month]} {ordinal(before + 1)}"


def ordinal(nth: int) -> str:
    """ "first" to "thirty first"."""
    if nth <= 20 or nth == 30:
        return "thirtieth" if nth == 30 else ORDINALS[nth - 1]
    return f"{TENS[nth // 10 * 10]} {ORDINALS[nth % 10 - 1]}"


def fetch(folder: Path) -> None:
    """Debian's package of prompts (18 MB, © Allison Smith, CC BY-SA 3.0), unpacked in a folder; no root is needed."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            ["apt-get", "download", PACKAGE], cwd=folder, check=True, capture_output=True, text=True
        )
        (archive,) = folder.glob(f"{PACKAGE}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive.name, "."], cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        raise TransfuseError(
            f"{folder}: apt-get and dpkg-deb of Debian or Ubuntu fetch the prompts: {said}"
        ) from None


def prompts(folder: Path, files: Mapping[str, str] = FILES) -> dict[str, np.ndarray]:
    """The recording of each word, silence around it cut off. files: by word, the name of its file.

    Raises TransfuseError where the folder holds none.
    """
    found = {path.parent for path in folder.glob("**/digits/mon-0.wav")}
    if not found:
        cure = f"`{Path(sys.executable).name} -m tf_speech {folder}` fetches them, 18 MB"
        raise TransfuseError(f"no prompts in {folder}: {cure}")
    return {word: trimmed(read_wav(min(found) / f"{name}.wav")) for word, name in files.items()}


def trimmed(wave: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    return wave[loud[0] : loud[-1] + 1]


def at_speed(wave: np.ndarray, speed: float) -> np.ndarray:
    """Faster is higher, as on a tape."""
    return np.interp(np.arange(0, len(wave) - 1, speed), np.arange(len(wave)), wave).astype(np.float32)


class DateSettings(Settings):
    folder: str = Field(default="sounds", min_length=1)
    """Where the prompts lie."""


class Dates(DataSet):
    """A date's words and its recording, at a speed and with pauses of its own. Held-out dates are never heard whole."""

    name = "dates"
    reversed_share = 0.4

    def __init__(self, settings: DateSettings) -> None:
        self.folder = Path(settings.folder)

    def size(self, split):
        held = -(-DATES // EVERY)
        return held if checked_split(self.name, split) == "heldout" else DATES - held

    def document(self, split, index, rng=None):
        place = checked_index(self.name, split, index, self.size(split)) + (split == "train") * self.size(
            "heldout"
        )
        number = self._order[place]
        words = date(number)
        items = (Item("text", words, droppable=True), Item("speech", self.spoken(words, number)))
        return in_either_order(Document(items, number, f"dates {split} {index}"), self.reversed_share, rng)

    def spoken(self, words: str, number: int) -> np.ndarray:
        draw = np.random.default_rng(number)
        parts = [np.zeros(0, np.float32)]
        for word in words.split():
            parts += [self._prompts[word], np.zeros(draw.integers(0, RATE // 32), np.float32)]
        whole = np.concatenate(parts)
        return at_speed(whole, draw.uniform(0.95, 1.05))

    def identity(self):
        return {"name": self.name, "content": content_hash(self), "licence": LICENCE}

    @cached_property
    def _prompts(self):
        return prompts(self.folder)

    @cached_property
    def _order(self):
        return np.random.default_rng(0).permutation(DATES).tolist()
