"""A frame of a clip as a modality: noised to be predicted, and clean for the frames behind it to look back at.

Its rotary axes are three: ``pos`` counts frames, and the columns ``row`` and ``column`` its patches.
Letters: ``B`` frames ``[1, h, w]``, ``n`` patches of a frame, ``k`` side of a patch, ``D`` model width.
"""

from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn
from transfuse.files import write_bytes
from transfuse.plugin import (
    NONE,
    Chosen,
    Column,
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
    patchify,
    sinusoidal_positions,
    unpatchify,
)
from transfuse_pictures.files import image_bytes, is_image, read_image


class FrameSettings(Settings):
    """How frames are cut, diffused and drawn."""

    fit_by = ()
    sampled_by = ("sampler", "guidance")

    patch: int = Field(default=8, ge=1, le=64)
    """Side of a patch in pixels; a patch is a position."""
    objective: Annotated[Chosen[SpanObjective], PartOf("objective")] = Field(
        default={"name": "flow", "target": "x0", "shift": 3, "noise_limit": None}, validate_default=True
    )
    """What is predicted of a noised frame."""
    sampler: Annotated[Chosen[Sampler], PartOf("sampler")] = Field(
        default={"name": "euler", "evaluations": 10}, validate_default=True
    )
    """How frames are drawn."""
    guidance: GuidanceSettings = GuidanceSettings(scale=1)
    """Of what is drawn; by default none."""


class Frame(SpanModality):
    """Raw data are float32 ``[1, h, w]`` in [0, 1], of the sizes that the training split has."""

    suffixes = (".png", ".npy")

    def __init__(self, settings: FrameSettings, name: str) -> None:
        super().__init__(name)
        self.patch, self.guidance = settings.patch, settings.guidance
        self.views = settings.guidance.views_dropped
        self.diffusion, self.sampler = settings.objective.build(), settings.sampler.build()
        self.clean_time = self.diffusion.clean_time
        self.sizes: list[list[int]] = []

    # -- what is learnt of the data before the model

    def fit(self, raws, seed, report, effort=1.0):
        self.sizes = [list(size) for size in sorted({raw.shape[1:] for raw in raws})]
        for size in self.sizes:
            if any(side % self.patch for side in size):
                raise TransfuseError(
                    f"frames of {size} do not divide into patches of {self.patch}: set patch"
                )

    def facts(self):
        return {"sizes": self.sizes}

    def restore(self, facts):
        self.sizes = facts["sizes"]

    # -- raw data to payloads, and how they are laid out

    def encode(self, raw):
        frame = np.asarray(raw, np.float32)
        if frame.ndim != 3 or len(frame) != 1 or list(frame.shape[1:]) not in self.sizes:
            raise TransfuseError(f"a frame is [1, h, w] of sizes {self.sizes}, not {list(frame.shape)}")
        return 2 * frame - 1

    def decode(self, payload):
        return (payload + 1) / 2

    def labels(self):
        return tuple(f"{h}x{w}" for h, w in self.sizes)

    def blank(self, label):
        return np.zeros((1, *map(int, label.split("x"))), np.float32)

    def columns(self):
        return {"row": Column.ID, "column": Column.ID}

    def spans(self, item, payload):
        _, h, w = payload.shape
        places = np.indices((h // self.patch, w // self.patch)).reshape(2, -1)
        row, column = np.pad(
            places, ((0, 0), (1, 1)), constant_values=NONE
        )  # the markers stand inside, nowhere
        clean = Span(
            payload, places.shape[1], f"{h}x{w}", inside=True, noised=False, loss=False,
            columns={"row": row, "column": column}, copy="clean",
        )  # fmt: skip
        noised = replace(clean, noised=True, loss=item.loss, copy="")
        return [noised, clean] if item.noised else [clean]

    def positions(self, span, cursor):
        """A frame is one step of time, whatever it shows; both copies are at the same."""
        return np.full(span.positions, cursor), cursor + (not span.noised)

    # -- in the model

    def connect(self, dim):
        self.into, self.seen = nn.Linear(self.patch**2, dim), nn.Linear(self.patch**2, dim)
        self.out, self.time = nn.Linear(dim, self.patch**2), TimeEmbedding(dim)

    def corrupt(self, clean, generators, is_context):
        return self.diffusion.corrupt(clean, generators, is_context)

    def noise_share(self, t):
        return self.diffusion.share(t)

    def embed(self, x_t, t, copy):
        sides = x_t.shape[2:]
        place = sinusoidal_positions([side // self.patch for side in sides], self.out.in_features).to(x_t)
        patches = patchify(x_t, self.patch)  # [B, n, k²]
        if copy == "clean":
            return self.seen(patches) + place, sides
        return self.into(patches) + place + self.time(clock(self.noise_share(t)))[:, None], sides

    def head(self, hidden, state, t):
        return unpatchify(self.out(hidden), state, self.patch)

    def objective(self, prediction, target, t):
        return self.diffusion.score(prediction, target, t)

    def sample(self, evaluate, label, generators):
        noise = torch.stack([torch.randn(self.blank(label).shape, generator=g) for g in generators])
        denoise = self.guidance.denoiser(evaluate, self.noise_share)
        return self.sampler.sample(denoise, self.diffusion, noise.to(self.out.weight), generators, bound=1.0)

    # -- files and pictures

    def save(self, raw, path):
        if path.suffix.lower() != ".png":
            return super().save(raw, path)
        return write_bytes(path, image_bytes(raw))

    def load(self, path):
        if path.suffix.lower() != ".png":
            return super().load(path)
        return read_image(path, channels=1).astype(np.float32) / 255

    def draw(self, raw):
        return image_bytes(raw) if is_image(raw) else None
