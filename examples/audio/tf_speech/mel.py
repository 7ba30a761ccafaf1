"""From a waveform to a log-mel spectrogram and back: what is lost, the phases, Griffin and Lim's iteration finds anew.

Letters: ``L`` samples, a multiple of `HOP`; ``F = L / HOP`` frames of `MELS` numbers; ``b`` frequencies.
"""

from functools import cache

import numpy as np

RATE = 8000  # samples a second
WINDOW, HOP, MELS = 512, 128, 40
FLOOR = 1e-3  # of a mel's magnitude, below which all is silence
SHAPE = np.hanning(WINDOW + 1)[:-1]


def log_mel(wave: np.ndarray) -> np.ndarray:
    """``[L]`` in [-1, 1] to ``[F, 40]``, natural logarithms of magnitudes."""
    return np.log(np.maximum(np.abs(_stft(wave)) @ _filters().T, FLOOR)).astype(np.float32)


def waveform(mels: np.ndarray, rounds: int = 40) -> np.ndarray:
    """``[F, 40]`` to ``[L]``: phases under which the magnitudes agree (Griffin and Lim 1984; momentum of
    Perraudin et al. 2013). Equal spectrograms give equal waves."""
    wanted = np.maximum(np.exp(mels.astype(np.float64)) @ np.linalg.pinv(_filters()).T, 0)
    before, found = np.zeros_like(wanted, complex), wanted * np.exp(2j * np.pi * _phases(wanted.shape))
    for _ in range(rounds):
        agreed = _stft(_istft(found))
        pushed = agreed + 0.9 * (agreed - before)
        found, before = wanted * pushed / np.maximum(np.abs(pushed), 1e-9), agreed
    return _istft(found).clip(-1, 1).astype(np.float32)


def _phases(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def _stft(wave: np.ndarray) -> np.ndarray:
    padded = np.pad(wave.astype(np.float64), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: len(wave) // HOP]
    return np.fft.rfft(frames * SHAPE)  # [F, b]


def _istft(frames: np.ndarray) -> np.ndarray:
    waves = np.fft.irfft(frames, WINDOW) * SHAPE
    made, weight = np.zeros((2, (len(frames) - 1) * HOP + WINDOW))
    for number, wave in enumerate(waves):
        made[number * HOP :][:WINDOW] += wave
        weight[number * HOP :][:WINDOW] += SHAPE**2
    return (made / np.maximum(weight, 1e-3))[WINDOW // 2 :][: len(frames) * HOP]


@cache
def _filters() -> np.ndarray:
    """``[40, b]``: triangles evenly spaced on the mel scale, from 0 to 4,000 Hz."""
    mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)  # noqa: E731
    edges = np.interp(
        np.linspace(0, mel(RATE / 2), MELS + 2), mel(at := np.linspace(0, RATE / 2, WINDOW // 2 + 1)), at
    )
    low, mid, high = (edges[i : i + MELS, None] for i in range(3))
    return np.maximum(0, np.minimum((at - low) / (mid - low), (high - at) / (high - mid))) / WINDOW * 8
