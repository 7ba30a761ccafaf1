"""What this plugin offers."""

from transfuse.hooks import hookimpl
from transfuse.parts import Part

from transfuse_vq.modality import VQ, VQSettings


@hookimpl
def transfuse_modalities() -> list[Part]:
    return [Part("modality", "vq", VQSettings, VQ, "codes of a quantised autoencoder, next-token predicted")]
