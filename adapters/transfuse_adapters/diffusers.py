"""Pretrained autoencoders from diffusers' folders: `AutoencoderKL` as latents, `VQModel` as codes.

A folder holds config.json and diffusion_pytorch_model.safetensors; pickles are not read, and nothing is
downloaded. The configuration is copied into the settings when they are read, and the weights travel with a run's
own, so that a run is rebuilt without the folder. Nothing is trained: `fit` measures the latents' statistics
(and checks that images fit).

Needs `pip install 'transfuse[diffusers]'`; imported on use.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from transfuse.files import read_mapping
from transfuse.plugin import RawError, Report, Settings, TransfuseError
from transfuse_pictures.codec import PictureCodec, bound_of

CLASSES = ("AutoencoderKL", "VQModel")
WEIGHTS = "diffusion_pytorch_model.safetensors"
LARGEST_CONFIG = 1 << 20  # bytes
AT_ONCE = 16  # images encoded together while statistics are measured
BOUNDED_BY = 1000  # images at most that the bound is measured on


class DiffusersSettings(Settings):
    """A folder that diffusers saved; the rest is filled in where it is not given, as in the recipe of a run."""

    path: str
    """The folder."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Its configuration."""
    weights: str = ""
    """A hash of its weights."""

    @model_validator(mode="before")
    @classmethod
    def _from_folder(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("path"), str) and not values.get("config"):
            folder = Path(values["path"])
            return {**values, "config": read_config(folder), "weights": hash_of(folder / WEIGHTS)}
        return values

    @model_validator(mode="after")
    def _known(self) -> "DiffusersSettings":
        if self.config.get("_class_name") not in CLASSES:
            raise ValueError(
                f"{self.path} holds a {self.config.get('_class_name')!r:.60}; this codec takes "
                f"{' and '.join(CLASSES)}"
            )
        return self


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json. Raises TransfuseError that says what is missing or wrong."""
    what = "model that diffusers saved, such as a pipeline's 'vae'"
    return read_mapping(folder / "config.json", what, cap=LARGEST_CONFIG, cure="save the model again")


def hash_of(path: Path) -> str:
    """SHA-256 of a file of weights, read in pieces. Raises TransfuseError with the cure where it is missing."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise TransfuseError(
            f"{path} is missing: only safetensors are read, never pickles; save the model with "
            f"save_pretrained(folder, safe_serialization=True)"
        ) from None


def model_classes() -> dict[str, Any]:
    """diffusers' classes by name; TransfuseError with the cure when it is not installed."""
    try:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.autoencoders.vq_model import VQModel
    except ImportError as fault:
        raise TransfuseError(
            f"codec 'diffusers' needs diffusers ({fault}): pip install 'transfuse[diffusers]'"
        ) from None
    return {"AutoencoderKL": AutoencoderKL, "VQModel": VQModel}


class DiffusersCodec(PictureCodec):
    """Latents are the posterior's mean, normalised by statistics measured a channel; codes are a grid."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: DiffusersSettings) -> None:
        super().__init__()
        self.settings, config = settings, settings.config
        self.quantised = config["_class_name"] == "VQModel"
        self.codes = int(config.get("num_vq_embeddings", 256)) if self.quantised else 0
        self.channels = int(config.get("latent_channels", 4 if not self.quantised else 3))
        self.image_channels = int(config.get("in_channels", 3))
        self.down = 2 ** (len(config.get("block_out_channels", (64,))) - 1)
        self._facts: dict[str, Any] = {}

    def fit(self, raws: Sequence[np.ndarray], seed: int, report: Report, effort: float = 1.0) -> None:
        self._make(loaded(self.settings))
        for number, raw in enumerate(raws):
            try:
                self._check(raw)
            except TransfuseError as error:
                raise RawError(number, str(error)) from error
        if self.quantised:
            self._facts = {"channels": self.channels}
        else:
            self._measure(raws)
        error = np.mean([np.square(self.decode(self.encode(raw)) - raw).mean() for raw in raws[:64]])
        self._facts["reconstruction"] = float(error)
        report(
            f"{self.settings.config['_class_name']} of {self.settings.path}: mean squared error {error:.5f}"
        )

    def _measure(self, raws: Sequence[np.ndarray]) -> None:
        """Mean and standard deviation a channel over all images, in float64; the bound over some, spread evenly."""
        sums, squares, count, some = 0.0, 0.0, 0, list[Tensor]()
        for start in range(0, len(raws), AT_ONCE):
            for number, latents in enumerate(self._latents(raws[start : start + AT_ONCE]), start):
                flat = latents.double().flatten(1)
                sums, squares = sums + flat.sum(1), squares + flat.square().sum(1)
                count += flat.shape[1]
                if number % (len(raws) // BOUNDED_BY + 1) == 0:
                    some.append(flat)
        mean = torch.as_tensor(sums) / count
        std = (torch.as_tensor(squares) / count - mean.square()).clamp(min=1e-8).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(std)
        normal = (torch.cat(some, 1) - mean[:, None]) / std[:, None]
        self._facts = {"channels": self.channels, "bound": bound_of(normal.numpy())}

    def restore(self, facts: dict[str, Any]) -> None:
        """Layers from the configuration alone: the folder need not be there."""
        self._facts = dict(facts)
        model = model_classes()[self.settings.config["_class_name"]]
        with torch.random.fork_rng(devices=[]):
            self._make(model.from_config(self.settings.config))

    def _make(self, model: Any) -> None:
        self.model = model
        if not self.quantised:
            self.register_buffer("mean", torch.zeros(self.channels))
            self.register_buffer("std", torch.ones(self.channels))
        self.requires_grad_(False).eval()

    def facts(self) -> dict[str, Any]:
        return self._facts

    @property
    def bound(self) -> float:  # type: ignore[override]
        return float(self._facts["bound"])

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        if shape[1] % self.down or shape[2] % self.down:
            raise TransfuseError(
                f"an image of {shape[1]}x{shape[2]} does not divide by the {self.down} pixels of a latent pixel"
            )
        return shape[1] // self.down, shape[2] // self.down

    def encode(self, raw: np.ndarray) -> np.ndarray:
        self._check(raw)
        latents = self._latents([raw])[0]
        if self.quantised:
            with torch.no_grad():
                indices = self.model.quantize(latents[None])[2][2]
            return indices.reshape(latents.shape[1:]).cpu().numpy().astype(np.int64)
        return ((latents - self.mean[:, None, None]) / self.std[:, None, None]).cpu().numpy()

    def decode(self, payload: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            if self.quantised:
                codes = torch.from_numpy(np.asarray(payload, np.int64)).to(self.model.device)[None]
                latents = self.model.quantize.embedding(codes).movedim(-1, 1)
                quant = self.model.post_quant_conv(latents)
                spatial = self.model.config.norm_type == "spatial"
                image = self.model.decoder(quant, latents if spatial else None)
            else:
                latents = torch.from_numpy(np.asarray(payload, np.float32)).to(self.model.device)
                image = self.model.decode(
                    (latents * self.std[:, None, None] + self.mean[:, None, None])[None]
                ).sample
        return ((image[0] + 1) / 2).clamp(0, 1).cpu().numpy()

    def _latents(self, raws: Sequence[np.ndarray]) -> list[Tensor]:
        """What the encoder gives for images in [0, 1], which it takes in [-1, 1]; each ``[c, h, w]``."""
        found = []
        with torch.no_grad():
            for raw in raws:
                image = torch.from_numpy(raw.astype(np.float32)).to(self.model.device)
                made = self.model.encode(image[None] * 2 - 1)
                found.append(made.latents[0] if self.quantised else made.latent_dist.mean[0])
        return found

    def _check(self, raw: Any) -> None:
        if not isinstance(raw, np.ndarray) or raw.ndim != 3 or raw.dtype.kind != "f" or not raw.size:
            raise TransfuseError("an image must be a numpy array of floats [channels, height, width]")
        if raw.shape[0] != self.image_channels:
            raise TransfuseError(
                f"the image has {raw.shape[0]} channels, and the autoencoder of {self.settings.path} takes "
                f"{self.image_channels}"
            )
        if not np.isfinite(raw).all() or raw.min() < -1e-3 or raw.max() > 1 + 1e-3:
            raise TransfuseError("image values must be finite and lie in [0, 1]")
        self.grid(raw.shape)


def loaded(settings: DiffusersSettings) -> Any:
    """diffusers' model with the folder's weights. Raises TransfuseError where they are not those of the
    settings, or do not fill the model."""
    folder = Path(settings.path)
    if hash_of(folder / WEIGHTS) != settings.weights or read_config(folder) != settings.config:
        raise TransfuseError(f"{folder} changed since the recipe was read; read it again")
    if (
        index := folder / f"{WEIGHTS}.index.json"
    ).exists():  # diffusers would load what it names, not what was hashed
        raise TransfuseError(
            f"{index} names other files of weights: save the model in one file, or delete it"
        )
    model = model_classes()[settings.config["_class_name"]]
    try:
        made, loading = model.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
            torch_dtype=torch.float32,
        )
    except Exception as error:  # diffusers and safetensors raise what they like over damaged files
        raise TransfuseError(f"{folder} does not load: {str(error)[:300]}; save the model again") from error
    lacking = sorted(loading["missing_keys"]) + sorted(loading["unexpected_keys"])
    if lacking:
        raise TransfuseError(
            f"{folder}: the weights {lacking[0]!r} do not match its config.json; save it again"
        )
    return made
