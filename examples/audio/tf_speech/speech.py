"""Speech as a modality: a whole log-mel spectrogram is diffused, four frames of it a position.

Letters: ``B`` spectrograms ``[F, 40]`` of one length, ``n = F / 4`` positions of each, ``D`` model width.
"""

import wave
from collections.abc import Mapping
from io import BytesIO
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn
from transfuse.files import read_bytes, write_bytes
from transfuse.plugin import (
    Chosen,
    GuidanceSettings,
    PartOf,
    Sampler,
    Settings,
    Span,
    SpanModality,
    SpanObjective,
    TimeEmbedding,
    TransfuseError,
    clock,
)
from transfuse_pictures.files import image_bytes

from tf_speech.mel import HOP, MELS, RATE, log_mel, waveform

PATCH = 4  # frames a position: 64 ms
STEP = 16  # frames by which lengths differ, so that there are few: 256 ms


class SpeechSettings(Settings):
    """How speech is diffused and drawn."""

    fit_by = ()
    sampled_by = ("sampler", "guidance")

    objective: Annotated[Chosen[SpanObjective], PartOf("objective")] = Field(
        default={"name": "flow", "target": "x0"}, validate_default=True
    )
    """What is predicted of a noised spectrogram: the clean one, since 160 numbers of noise a position do not go through
    a narrow model (arXiv 2511.13720)."""
    sampler: Annotated[Chosen[Sampler], PartOf("sampler")] = Field(
        default={"name": "euler", "evaluations": 25}, validate_default=True
    )
    """How spectrograms are drawn."""
    guidance: GuidanceSettings = GuidanceSettings(scale=2)
    """Of what is drawn."""


class Speech(SpanModality):
    """Raw data are waveforms, float32 ``[L]`` in [-1, 1] at 8 kHz; silence at the end fills up the next length."""

    suffixes = (".wav", ".npy")
    does_not: Mapping[str, str] = {"round trip": "a spectrogram has no phases; mel.waveform finds others"}

    def __init__(self, settings: SpeechSettings, name: str) -> None:
        super().__init__(name)
        self.guidance, self.views = settings.guidance, settings.guidance.views_dropped
        self.diffusion, self.sampler = settings.objective.build(), settings.sampler.build()
        self.clean_time = self.diffusion.clean_time
        self.lengths: list[int] = []
        self.mean, self.std = np.zeros(MELS, np.float32), np.ones(MELS, np.float32)

    # -- what is learnt of the data before the model

    def fit(self, raws, seed, report, effort=1.0):
        kept = [log_mel(raw) for raw in raws]
        self.lengths = sorted({-(-len(mels) // STEP) * STEP for mels in kept})
        whole = np.concatenate(kept)
        self.mean, self.std = whole.mean(0), whole.std(0) + 1e-3
        report(f"{self.name}: {len(whole) * HOP / RATE:.0f} s, of {self.lengths} frames")

    def facts(self):
        return {"lengths": self.lengths, "mean": self.mean.tolist(), "std": self.std.tolist()}

    def restore(self, facts):
        self.lengths = facts["lengths"]
        self.mean, self.std = (np.array(facts[key], np.float32) for key in ("mean", "std"))

    # -- raw data to payloads, and how they are laid out

    def encode(self, raw):
        heard = np.asarray(raw, np.float32)
        if heard.ndim != 1 or not np.isfinite(heard).all():
            raise TransfuseError(f"speech is samples [L], finite numbers, not shape {heard.shape}")
        fitting = [length for length in self.lengths if length * HOP >= len(heard)]
        if not fitting:
            raise TransfuseError(
                f"{len(heard) / RATE:.1f} s are too long: speech has {self.lengths} frames of 16 ms"
            )
        padded = np.pad(heard, (0, fitting[0] * HOP - len(heard)))
        return (log_mel(padded) - self.mean) / self.std

    def decode(self, payload):
        return waveform(payload * self.std + self.mean)

    def labels(self):
        return tuple(map(str, self.lengths))

    def blank(self, label):
        return np.zeros((int(label), MELS), np.float32)

    def spans(self, item, payload):
        n, label = len(payload) // PATCH, str(len(payload))
        return [Span(payload, n, label, noised=item.noised, loss=item.loss and item.noised)]

    # -- in the model

    def connect(self, dim):
        self.into, self.out = nn.Linear(PATCH * MELS, dim), nn.Linear(dim, PATCH * MELS)
        self.time = TimeEmbedding(dim)

    def corrupt(self, clean, generators, is_context):
        return self.diffusion.corrupt(clean, generators, is_context)

    def noise_share(self, t):
        return self.diffusion.share(t)

    def embed(self, x_t, t):
        vectors = self.into(x_t.unflatten(1, (-1, PATCH)).flatten(2))  # [B, F, 40] -> [B, n, D]
        return vectors + self.time(clock(self.noise_share(t)))[:, None], None

    def head(self, hidden, state, t):
        return self.out(hidden).unflatten(2, (PATCH, MELS)).flatten(1, 2)  # [B, n, D] -> [B, F, 40]

    def objective(self, prediction, target, t):
        return self.diffusion.score(prediction, target, t)

    def sample(self, evaluate, label, generators):
        noise = torch.stack([torch.randn(self.blank(label).shape, generator=g) for g in generators])
        denoise = self.guidance.denoiser(evaluate, self.noise_share)
        return self.sampler.sample(denoise, self.diffusion, noise.to(self.out.weight), generators, bound=5.0)

    # -- files and pictures

    def save(self, raw, path):
        if path.suffix.lower() != ".wav":
            return super().save(raw, path)
        buffer = BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((np.asarray(raw).clip(-1, 1) * 32767).round().astype("<i2").tobytes())
        return write_bytes(path, buffer.getvalue())

    def load(self, path):
        return read_wav(path) if path.suffix.lower() == ".wav" else super().load(path)

    def draw(self, raw):
        """The spectrogram, low frequencies below, loud is bright."""
        mels = log_mel(np.pad(raw, (0, -len(raw) % HOP))).T[::-1]
        return image_bytes(((mels - mels.min()) / max(float(np.ptp(mels)), 1e-6))[None])


def read_wav(path) -> np.ndarray:
    """Samples of a WAV file of 8 kHz, one channel, 16 bits. Raises TransfuseError naming it where it is none."""
    try:
        with wave.open(BytesIO(read_bytes(path, "sound"))) as file:
            found = file.getframerate(), file.getnchannels(), file.getsampwidth()
            if found != (RATE, 1, 2):
                raise TransfuseError(f"{path}: 8000 Hz, 1 channel, 2 bytes are read, not {found}: convert it")
            return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    except (wave.Error, EOFError) as error:
        raise TransfuseError(f"{path}: is no WAV file ({error})") from None
