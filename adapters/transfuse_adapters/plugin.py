"""What the adapters provide: other people's systems behind this framework's doors."""

from transfuse.plugin import Backend, DataSet, Part, Settings, hookimpl

from transfuse_adapters.cider import Cider, CiderSettings
from transfuse_adapters.clip_score import ClipScore, ClipScoreSettings
from transfuse_adapters.diffusers import DiffusersCodec, DiffusersSettings
from transfuse_adapters.fid import Fid, FidSettings


class StoreSettings(Settings):
    """A packed data set."""

    path: str
    """The store's folder."""


def build_store(settings: StoreSettings, source: DataSet | None = None) -> DataSet:
    """The store at ``path``; with ``source``, that data set is packed there first, and verified."""
    from transfuse_adapters.zarr_store import Store
    from transfuse_adapters.zarr_writer import write_store

    if source is None:
        return Store(settings.path)
    write_store(source, settings.path)
    store = Store(settings.path)
    store.verify()
    return store


@hookimpl
def transfuse_datasets() -> list[Part]:
    return [Part("store", StoreSettings, build_store, "documents packed with `transfuse data pack`")]


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
