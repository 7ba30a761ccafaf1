"""What this plugin provides."""

from transfuse.plugin import Part, hookimpl

from transfuse_llama.llama import Llama, LlamaSettings
from transfuse_llama.per_modality import PerModality, PerModalitySettings


@hookimpl
def transfuse_blocks() -> list[Part]:
    return [
        Part("llama", LlamaSettings, Llama, "Llama's, whose weights all modalities share"),
        Part("per-modality", PerModalitySettings, PerModality, "Llama's, one for each modality"),
    ]
