"""The kit for modalities: all checks, in the order in which they are run."""

from typing import Any

from transfuse.testing.kits.corruption import CORRUPTION
from transfuse.testing.kits.forward import FORWARD
from transfuse.testing.kits.laid_out import LAID_OUT
from transfuse.testing.kits.learning import LEARNING
from transfuse.testing.kits.raw_data import RAW_DATA
from transfuse.testing.kits.runner import Kit
from transfuse.testing.kits.sampling import SAMPLING
from transfuse.testing.kits.tokens import TOKENS

MODALITY: Kit[Any] = Kit(
    "modality", RAW_DATA, LAID_OUT, TOKENS, CORRUPTION, FORWARD, LEARNING, SAMPLING
).declared()
"""Of `transfuse.testing.kits.modality_case.ModalityCase`."""
