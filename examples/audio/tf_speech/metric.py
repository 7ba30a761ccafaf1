"""Which of the held-out recordings a drawn one is: the one whose spectrogram, stretched to one length, is nearest."""

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
            meaning="the share of drawn recordings to which, of all held-out ones, that of their own words is nearest",
        ),
        Figure(
            "heard_as_asked_copied", "… of training recordings", form="percent",
            meaning="the same of the training recordings with most words in common: what copying gives",
        ),
        Figure("heard_as_asked_chance", "… by chance", form="percent", meaning="one of all held-out recordings"),
    )  # fmt: skip
    applies_to = AppliesTo(given=("text",), want="speech", axes=1)

    def compute(self, evaluation):
        those = np.stack([profile(wave) for wave in evaluation.truth])
        own, words = np.arange(len(those)), [set(text.split()) for text in evaluation.given("text")]
        train = [(set(items[0].data.split()), wave) for items, wave in evaluation.examples("train")]
        alike = [max(train, key=lambda one: len(one[0] & asked) / len(one[0] | asked))[1] for asked in words]
        return {
            "heard_as_asked": share(evaluation.made, those, own),
            "heard_as_asked_copied": share(alike, those, own),
            "heard_as_asked_chance": 1 / len(those),
        }


def share(waves, those: np.ndarray, own: np.ndarray) -> float:
    return float((nearest(np.stack([profile(wave) for wave in waves]), those) == own).mean())
