"""Which of the held-out recordings a drawn one is: the one whose spectrogram, stretched to one length, is nearest."""

from collections.abc import Sequence

import numpy as np
from transfuse.plugin import AppliesTo, Figure, Metric

from tf_speech.mel import HOP, log_mel

FRAMES = 48  # all recordings are stretched to


def profile(wave: np.ndarray) -> np.ndarray:
    """``[48 · 40]``: the log-mel spectrogram from the first loud frame to the last, stretched."""
    mels = log_mel(np.pad(wave, (0, -len(wave) % HOP)))
    loud = np.flatnonzero(mels.mean(1) > mels.mean(1).max() - 4)
    kept = mels[loud[0] : loud[-1] + 1]
    at = np.linspace(0, len(kept) - 1, FRAMES)
    return np.stack([np.interp(at, np.arange(len(kept)), one) for one in kept.T], 1).ravel()


def nearest(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """For each row of these, the number of the nearest of those."""
    return (np.square(those).sum(1) - 2 * these @ those.T).argmin(1)


class HeardAsAsked(Metric):
    name = "heard_as_asked"
    figures = (
        Figure(
            "heard_as_asked", "Recordings heard as asked", better="higher", form="percent",
            meaning="the share of drawn recordings to which, of all held-out ones, one of their own words is nearest",
        ),
        Figure(
            "heard_as_asked_copied", "Training recordings heard as asked", form="percent",
            meaning="the same of the training recordings with most words in common: what copying gives",
        ),
        Figure("heard_as_asked_chance", "Heard as asked by chance", form="percent", meaning="one of all texts asked"),
    )  # fmt: skip
    applies_to = AppliesTo(given=("text",), want="speech", axes=1)

    def compute(self, evaluation):
        asked = evaluation.given("text")
        those = np.stack([profile(wave) for wave in evaluation.truth])
        train = [(items[0].data, wave) for items, wave in evaluation.examples("train")]
        alike = [most_alike(text, train) for text in asked]
        return {
            "heard_as_asked": share(evaluation.made, those, asked),
            "heard_as_asked_copied": share(alike, those, asked),
            "heard_as_asked_chance": 1 / len(set(asked)),
        }


def most_alike(text: str, train: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """The recording whose words have most in common with a text's."""
    own = set(text.split())
    overlap = [len(own & set(words.split())) / len(own | set(words.split())) for words, _ in train]
    return train[int(np.argmax(overlap))][1]


def share(waves, those: np.ndarray, words: Sequence[str]) -> float:
    found = nearest(np.stack([profile(wave) for wave in waves]), those)
    return float(np.mean([words[at] == own for at, own in zip(found, words, strict=True)]))
