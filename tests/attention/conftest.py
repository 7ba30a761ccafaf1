"""How hard Hypothesis tries here: the same examples every run. $EXAMPLES asks for so many, and no shrinking."""

import os

from hypothesis import Phase, settings

asked = os.environ.get("EXAMPLES")
settings.register_profile(
    "transfuse",
    deadline=None,
    derandomize=True,
    max_examples=int(asked or 100),
    phases=(Phase.explicit, Phase.generate) if asked else tuple(Phase),
)
settings.load_profile("transfuse")
