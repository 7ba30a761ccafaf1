"""What can be set of the world of scenes and of how its pictures are read."""

from typing import Literal

from pydantic import Field, model_validator
from transfuse.plugin import InvalidSettings, Settings

from transfuse_scenes.parser import BLURS, LEGIBLE

BLOCK = 20
"""Documents, of which the last are edits and captions alone: so the mixture is exact, and known by the number."""


class ScenesSettings(Settings):
    """The world, and what a training document is."""

    preset: Literal["full", "easy"] = "full"
    """``easy`` has at most three things in a scene, ``full`` four."""
    edits: int = Field(3, ge=0, le=BLOCK)
    """Of every 20 training documents, edits: a picture, an instruction, the picture after it."""
    captions: int = Field(5, ge=0, le=BLOCK)
    """Of every 20 training documents, texts without a picture: captions, and glosses where there are any."""
    shuffled: bool = False
    """Whether training's pictures are of other captions than their own: a control, in which nothing is to be learnt of
    one from the other. Edits tell words by what they do, so it wants ``edits`` 0."""

    glosses: str | None = None
    """A folder with WordNet's data files: then every other text without a picture is a gloss of theirs, and the split
    ``glosses`` holds some that are kept apart."""

    @model_validator(mode="after")
    def _room(self) -> "ScenesSettings":
        if self.edits + self.captions > BLOCK:
            raise InvalidSettings([(("captions",), f"and edits are more than {BLOCK} of {BLOCK} documents")])
        return self


class ReadingSettings(Settings):
    """How pictures are read, and which world they are of."""

    preset: Literal["full", "easy"] = "full"
    """Of the data set: what captions can say, and how likely each is."""
    blurs: tuple[float, ...] = Field(BLURS, min_length=1, max_length=8)
    """Standard deviations, in pixels, of blurred shapes that are read as well."""
    legible: float = Field(LEGIBLE, gt=0, le=1)
    """Root mean square difference from the scene that was read, beyond which a picture shows nothing."""
