"""What the adapters provide: other people's systems behind this framework's doors."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from transfuse.plugin import Backend, DataSet, Part, Settings, hookimpl

from transfuse_adapters.cider import Cider, CiderSettings
from transfuse_adapters.clip_score import ClipScore, ClipScoreSettings
from transfuse_adapters.diffusers import DiffusersCodec, DiffusersSettings
from transfuse_adapters.fid import Fid, FidSettings

if TYPE_CHECKING:  # it imports torch
    from transfuse.plugin import Tracker


class StoreSettings(Settings):
    """A packed data set."""

    path: str
    """The store's folder, or its address for fsspec."""
    partial: bool = False
    """Of a store that is not finished, take the parts that are."""


def build_store(settings: StoreSettings) -> DataSet:
    from transfuse_adapters.store.reader import Store

    return Store(settings.path, settings.partial)


class TarSettings(Settings):
    """Tar shards as webdataset has them."""

    path: str
    """The folder of the .tar files."""
    roles: dict[str, str] | None = Field(None, min_length=1, max_length=64)
    """By ending of a member's name, whose data it is, in a document's order; None: txt is text, pictures are image."""
    channels: Literal[1, 3] = 3
    """Of pictures: 1 grey, 3 colour."""
    size: int | None = Field(None, ge=1, le=4096)
    """Pictures are resized to this square; None: as they are."""
    heldout: str = Field("heldout", min_length=1, max_length=100)
    """Shards whose names hold this word are held out."""


def build_tar(settings: TarSettings) -> DataSet:
    from transfuse_adapters.tar_shards import TarShards

    s = settings
    return TarShards(s.path, s.roles, s.channels, s.size, s.heldout)


class HuggingFaceSettings(Settings):
    """A Hugging Face data set on this disk."""

    path: str
    """What its `save_to_disk` left, or a folder of parquet files."""
    columns: dict[str, str] | None = Field(None, min_length=1, max_length=64)
    """By role, the column of its data, in a document's order; None: text or caption, image."""
    channels: Literal[1, 3] = 3
    """Of pictures: 1 grey, 3 colour."""
    size: int | None = Field(None, ge=1, le=4096)
    """Pictures are resized to this square; None: as they are."""


def build_huggingface(settings: HuggingFaceSettings) -> DataSet:
    from transfuse_adapters.huggingface import HuggingFace

    s = settings
    return HuggingFace(s.path, s.columns, s.channels, s.size)


@hookimpl
def transfuse_datasets() -> list[Part]:
    return [
        Part("store", StoreSettings, build_store, "documents packed with `transfuse data pack`"),
        Part("huggingface", HuggingFaceSettings, build_huggingface, "a Hugging Face data set on this disk"),
        Part("webdataset", TarSettings, build_tar, "samples in tar shards, as webdataset has them"),
    ]


@hookimpl
def transfuse_codecs() -> list[Part]:
    return [Part("diffusers", DiffusersSettings, DiffusersCodec, "a pretrained AutoencoderKL or VQModel")]


@hookimpl
def transfuse_metrics() -> list[Part]:
    return [
        Part("fid", FidSettings, Fid, "Fréchet Inception distance, of weights that you name"),
        Part(
            "clip_score",
            ClipScoreSettings,
            ClipScore,
            "how pictures fit their texts, of weights that you name",
        ),
        Part("cider", CiderSettings, Cider, "how texts agree with the true ones in n-grams"),
    ]


class TensorBoardSettings(Settings):
    """Where TensorBoard finds it."""

    folder: str = "tensorboard"
    """In the run's folder."""


class WandbSettings(Settings):
    """Which project of Weights & Biases, and whether it is sent."""

    project: str = "transfuse"
    """The run goes by its folder's name in it, and goes on under it."""
    mode: Literal["offline", "online"] = "offline"
    """Offline, ``wandb sync`` sends it later."""


def build_tensorboard(settings: TensorBoardSettings, run: Path) -> "Tracker":
    from transfuse_adapters.tensorboard import TensorBoard

    return TensorBoard(run / settings.folder)


def build_wandb(settings: WandbSettings, run: Path) -> "Tracker":
    from transfuse_adapters.wandb import Wandb

    return Wandb(run, settings.project, settings.mode)


@hookimpl
def transfuse_trackers() -> list[Part]:
    return [
        Part("tensorboard", TensorBoardSettings, build_tensorboard, "curves and samples in TensorBoard"),
        Part("wandb", WandbSettings, build_wandb, "curves and samples in Weights & Biases, sent or kept"),
    ]


class KernelSettings(Settings):
    """Attention kernels have no settings."""


def build_flex(settings: KernelSettings) -> Backend:
    from transfuse_adapters.flex import Flex

    return Flex()


def build_xformers(settings: KernelSettings) -> Backend:
    from transfuse_adapters.xformers import XFormers

    return XFormers()


@hookimpl
def transfuse_attention_backends() -> list[Part]:
    return [
        Part("flex", KernelSettings, build_flex, "FlexAttention, compiled; trains on CUDA"),
        Part("xformers", KernelSettings, build_xformers, "xformers' kernels; CUDA only"),
    ]
