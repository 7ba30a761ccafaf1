"""What this plugin provides."""

from transfuse.plugin import Part, hookimpl

from transfuse_image.codecs.blocks import (
    BlockCentresCodec,
    BlockCodesCodec,
    BlockCodesSettings,
    BlocksCodec,
    BlocksSettings,
)
from transfuse_image.codecs.fsq import FSQCodec, FSQSettings
from transfuse_image.codecs.kl import KLCodec, KLSettings
from transfuse_image.codecs.pixel import PixelCodec, PixelSettings
from transfuse_image.codecs.vq import VQCodec, VQSettings
from transfuse_image.modality import Image, ImageSettings
from transfuse_image.patchers.linear import LinearPatcher, LinearSettings
from transfuse_image.patchers.unet import UNetPatcher, UNetSettings


@hookimpl
def transfuse_modalities() -> list[Part]:
    return [Part("image", ImageSettings, Image, "latents, diffused a span at a time")]


@hookimpl
def transfuse_codecs() -> list[Part]:
    return [
        Part("pixel", PixelSettings, PixelCodec, "the image itself, scaled to [-1, 1]"),
        Part("kl", KLSettings, KLCodec, "convolutional autoencoder, KL bottleneck"),
        Part("vq", VQSettings, VQCodec, "the same autoencoder, vector-quantised bottleneck"),
        Part("blocks", BlocksSettings, BlocksCodec, "principal components of blocks of pixels, fit at once"),
        Part(
            "block-codes",
            BlockCodesSettings,
            BlockCodesCodec,
            "the same blocks, each the nearest of a codebook",
        ),
        Part(
            "block-centres",
            BlockCodesSettings,
            BlockCentresCodec,
            "the vectors of that codebook, as latents",
        ),
        Part("fsq", FSQSettings, FSQCodec, "the same autoencoder, each channel rounded to levels"),
    ]


@hookimpl
def transfuse_patchers() -> list[Part]:
    return [
        Part("linear", LinearSettings, LinearPatcher, "k×k latent pixels through one layer"),
        Part("unet", UNetSettings, UNetPatcher, "U-Net blocks down and up, skips past the model"),
    ]
