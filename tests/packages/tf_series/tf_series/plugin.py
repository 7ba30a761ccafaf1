"""What this package brings: series as a modality, data sets, and recipes for them."""

from functools import partial
from typing import Any

from transfuse.plugin import Part, Settings, hookimpl

from tf_series.data import Shapes, Size
from tf_series.metric import ShapeAccuracy
from tf_series.modality import Series, SeriesSettings

IMAGE = {
    "kind": "image",
    "codec": "pixel",
    "patcher": {"patch": 4},
    "objective": "flow",
    "sampler": {"name": "euler", "evaluations": 20},
    "guidance": {"scale": 2},
}


@hookimpl
def transfuse_modalities() -> list[Part]:
    return [Part("series", SeriesSettings, Series, "1-D series, diffused whole")]


@hookimpl
def transfuse_datasets() -> list[Part]:
    return [
        Part(name, Size, partial(Shapes, name=name, roles=roles), summary)
        for name, roles, summary in (
            ("series", ("series",), "series of four shapes with their names"),
            ("series-pictures", ("image", "series"), "names, pictures and series"),
            ("mirrored", ("image", "mirror"), "names, pictures and their mirror images"),
        )
    ]


@hookimpl
def transfuse_metrics() -> list[Part]:
    return [Part("shape_accuracy", Settings, lambda settings: ShapeAccuracy(), "series read by templates")]


@hookimpl
def transfuse_registry() -> dict[str, Any]:
    flow = {
        "summary": "next token for text, flow for series",
        "modalities": {"text": "small_text", "series": "series"},
        "mask": "bidirectional",
        "loss": {"text": 1, "series": 5},
        "model": {"dim": 64, "layers": 3, "heads": 4},
        "train": {"flops": 1e11, "budget": 256, "lr": 4e-3},
    }
    ddpm = {"modalities": {"series": {"objective": "ddpm", "sampler": {"name": "ddim", "evaluations": 20}}}}
    return {
        "modalities": {
            "small_text": {"kind": "text", "vocab": 280},
            "series": {"kind": "series"},
            "small_image": IMAGE,
        },
        "recipes": {
            "series-flow": flow,
            "series-ddpm": {"summary": "the same by DDPM", "extends": "series-flow", **ddpm},
            "series-pictures": {
                "summary": "names, pictures and series",
                "extends": "series-flow",
                "modalities": {"image": "small_image"},
                "loss": {"image": 5},
                "train": {"flops": 2e11},
            },
            "mirrored": {
                "summary": "two pictures of a name",
                "extends": "series-flow",
                "modalities": {"series": None, "image": "small_image", "mirror": "small_image"},
                "loss": {"image": 5, "mirror": 5},
                "train": {"flops": 2e11},
            },
        },
    }
