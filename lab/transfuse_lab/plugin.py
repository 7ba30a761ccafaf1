"""What the lab offers: its data sets and metrics come in through the door everybody uses."""

from typing import Annotated, Literal

from pydantic import Field
from transfuse.config.parts import Part, Settings
from transfuse.datasets import DataSet
from transfuse.metrics import Metric
from transfuse.registry.hooks import hookimpl


class DigitsSettings(Settings):
    """The digits have no settings."""


class PicturesSettings(Settings):
    """A folder that holds images."""

    path: str
    """The folder."""
    size: Annotated[int, Field(ge=1, le=4096)] | Literal["own"] | None = None
    """Every image is resized to this square, or keeps its own size; None: one that models can take is chosen."""
    channels: Literal[1, 3] = 3
    """1 grey, 3 colour."""
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    """How an image changes its size: stretched, cut off at its longer sides, or with white beside it."""
    links: Literal["inside", "follow"] = "inside"
    """Links that lead out of the folder are refused, or followed."""


class FolderSettings(PicturesSettings):
    """A folder of images with a caption each."""

    classes: bool = False
    """An image's caption is the name of the folder that it lies in."""


class EmojiSettings(Settings):
    """Emoji as they are drawn, or halved."""

    size: Literal[32, 64] = 32
    """Of the square images, in pixels; they are drawn at 64."""


class InterleavedSettings(PicturesSettings):
    """A folder of documents, or its listing."""

    texts: tuple[str, ...] = Field(("text",), max_length=16)
    """The roles whose data is text."""
    images: tuple[str, ...] = Field(("image",), max_length=16)
    """The roles whose data is an image file."""


class MixtureSettings(Settings):
    """Several data sets as one."""

    of: dict[str, Annotated[float, Field(gt=0, le=1e9)]] = Field(min_length=1, max_length=64)
    """What ``--data`` takes, each with its share of the visits."""
    endless: int = Field(100_000, ge=1, le=2**32)
    """Of a data set that has no end, so many documents take part."""


class MetricSettings(Settings):
    """The lab's metrics have no settings."""


def build_digits(settings: DigitsSettings) -> DataSet:
    from transfuse_lab.datasets.digits import Digits

    return Digits()


def build_folder(settings: FolderSettings) -> DataSet:
    from transfuse_lab.datasets.folder import Folder

    s = settings
    return Folder(s.path, s.size, s.channels, s.fit, s.links, s.classes)


def build_emoji(settings: EmojiSettings) -> DataSet:
    from transfuse_lab.datasets.emoji.emoji import Emoji

    return Emoji(settings.size)


def build_interleaved(settings: InterleavedSettings) -> DataSet:
    from transfuse_lab.datasets.interleaved import Interleaved

    s = settings
    return Interleaved(s.path, s.size, s.channels, s.texts, s.images, s.fit, s.links)


def build_mixture(settings: MixtureSettings) -> DataSet:
    from transfuse.registry.plugins import Plugins

    from transfuse_lab.datasets.mixture import Mixture
    from transfuse_lab.datasets.opening import open_data

    plugins = Plugins.load()
    sources = {text: open_data(text, plugins) for text in settings.of}
    return Mixture(settings.of, sources, settings.endless)


@hookimpl
def transfuse_datasets() -> list[Part]:
    return [
        Part("digits", DigitsSettings, build_digits, "1,797 real 8x8 digits with their names"),
        Part("emoji", EmojiSettings, build_emoji, "3,786 emoji of 32x32 or 64x64 with their names"),
        Part("folder", FolderSettings, build_folder, "your images, with a caption each"),
        Part(
            "interleaved",
            InterleavedSettings,
            build_interleaved,
            "your documents: texts and images in any order, with flags",
        ),
        Part("mix", MixtureSettings, build_mixture, "several data sets, each with a share of the visits"),
    ]


METRICS = {
    "generation_accuracy": ("GenerationAccuracy", "a classifier reads what prompted images show"),
    "caption_accuracy": ("CaptionAccuracy", "held-out images captioned exactly"),
    "caption_nll": ("CaptionLikelihood", "nats a token and a byte of held-out captions"),
    "frechet_distance": ("FrechetDistance", "generated to held-out images, in the classifier's features"),
    "kernel_distance": ("KernelDistance", "the same without a bias: a few hundred images do"),
    "reconstruction_error": ("ReconstructionError", "the image codec's squared error a pixel"),
    "own_image_rank": ("OwnImageRank", "where a prompt's own picture ranks, seen from the drawn one"),
}
"""Each metric's class in `transfuse_lab.evaluation.metrics`, named so that listing it imports no torch."""


def metric(name: str) -> Part:
    class_name, summary = METRICS[name]

    def build(settings: MetricSettings) -> Metric:
        from transfuse_lab.evaluation import metrics

        return getattr(metrics, class_name)()

    return Part(name, MetricSettings, build, summary)


@hookimpl
def transfuse_metrics() -> list[Part]:
    return [metric(name) for name in METRICS]
