"""What this plugin provides."""

from transfuse.plugin import Part, hookimpl

from transfuse_vq.masked import MaskedVQ, MaskedVQSettings
from transfuse_vq.masked_id import MaskedId, MaskedIdSettings
from transfuse_vq.maskgit import MaskGIT, MaskGITSettings
from transfuse_vq.modality import VQ, VQSettings
from transfuse_vq.ordered import OrderedVQ, OrderedVQSettings


@hookimpl
def transfuse_modalities() -> list[Part]:
    return [
        Part("vq", VQSettings, VQ, "codes of a quantised autoencoder, next-token predicted"),
        Part("masked_vq", MaskedVQSettings, MaskedVQ, "the same codes, hidden and filled in"),
        Part(
            "ordered_vq", OrderedVQSettings, OrderedVQ, "the same codes, one after another in a random order"
        ),
    ]


@hookimpl
def transfuse_objectives() -> list[Part]:
    return [Part("masked-id", MaskedIdSettings, MaskedId, "hidden codes from the others")]


@hookimpl
def transfuse_samplers() -> list[Part]:
    return [Part("maskgit", MaskGITSettings, MaskGIT, "codes in a few rounds, surest first")]
