"""What this plugin provides."""

from transfuse.plugin import Part, hookimpl

from transfuse_text.modality import Text, TextSettings
from transfuse_text.objective import NextToken, NextTokenSettings


@hookimpl
def transfuse_modalities() -> list[Part]:
    return [Part("text", TextSettings, Text, "byte-level BPE, predicted token by token")]


@hookimpl
def transfuse_objectives() -> list[Part]:
    return [Part("next-token", NextTokenSettings, NextToken, "cross-entropy, optional z-loss")]
