"""How hard Hypothesis tries here: the same examples every run; $EXAMPLES of them (mutation testing takes few)."""

import os

from hypothesis import settings

settings.register_profile(
    "transfuse", deadline=None, derandomize=True, max_examples=int(os.environ.get("EXAMPLES", 100))
)
settings.load_profile("transfuse")
