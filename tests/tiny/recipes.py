"""The packaged recipes made tiny: one set of settings for tests of models, of training and of commands."""

from collections.abc import Iterator, Mapping
from typing import Any

from transfuse.registry import Registry

MODEL = {"dim": 32, "layers": 2, "heads": 2}
TRAIN = {"steps": 4, "budget": 160, "lr": 0.01}
TEXT = {"vocab": 280}
PIXELS = {"codec": "pixel", "patcher": {"patch": 2}, "sampler": {"evaluations": 3}}
LATENTS = {"codec": {"width": 8, "steps": 10, "batch": 8}}
CODES = {"codec": {**LATENTS["codec"], "codes": 16}}


def overrides(
    recipe: str = "transfusion", *more: str, pixels: bool = True, without: str | None = None
) -> tuple[str, ...]:
    """What ``--set`` takes to make a packaged recipe tiny, then ``more``, which wins.

    ``transfusion`` diffuses pixels in patches of 2, or with ``pixels=False`` the latents of a codec of 10
    steps, in settings that any recipe with an autoencoder takes. A budget in FLOPs takes the place of 4 steps.
    without: a role that the recipe is to have no more.
    """
    image = CODES if recipe == "chameleon" else PIXELS if pixels else LATENTS
    settings = {"model": MODEL, "train": TRAIN, "text": TEXT, "image": image}
    if any(text.startswith("train.flops=") for text in more):
        settings["train"] = {key: value for key, value in TRAIN.items() if key != "steps"}
    if without is not None:
        del settings[without]
        more = (f"{without}=null", *more)
    return (*_flat(settings), *more)


def sets(
    recipe: str = "transfusion", *more: str, pixels: bool = True, without: str | None = None
) -> tuple[str, ...]:
    """The same as arguments of a command: ``--set``, a setting, ``--set``, the next."""
    return tuple(
        word for one in overrides(recipe, *more, pixels=pixels, without=without) for word in ("--set", one)
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={value}"


RUNGS = (
    "codes-next", "codes-rows", "codes-random", "codes-masked", "centres-1", "components-1", "components-2",
    "text-alone", "codes-alone", "components-alone",
)  # fmt: skip
"""The recipes of the registry ``ladder``."""
RUNG = ("model.dim=32", "model.layers=2", "model.heads=2", "train.budget=300", "text.vocab=300")


def rung_settings(ladder: Registry, name: str) -> tuple[str, ...]:
    """What makes a recipe of the ladder tiny."""
    modalities = ladder.recipe(name, [], "scenes").modalities
    image = modalities.get("image")
    codes = image is not None and hasattr(image.settings.codec.settings, "codes")
    kept = (one for one in RUNG if "text" in modalities or not one.startswith("text."))
    return (*kept, *(["image.codec.codes=32"] if codes else []))
