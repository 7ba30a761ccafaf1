"""What the experts plugin offers."""

from transfuse.plugin import Part, hookimpl

from transfuse_experts.per_modality import PerModality, PerModalitySettings


@hookimpl
def transfuse_blocks() -> list[Part]:
    return [
        Part("per-modality", PerModalitySettings, PerModality, "Llama's, one for each modality"),
    ]
