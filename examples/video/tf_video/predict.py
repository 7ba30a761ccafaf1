"""`python -m tf_video.predict RUN`: third frames of held-out clips, drawn and as the mean, beside what needs no model.

Two frames settle the third, so nothing is left to chance but what the model does not know. Of that a drawn frame is one
guess, and the mean the guess of least squared error: with target x0 it is what one evaluation of pure noise gives.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from transfuse import Document, Item, generate
from transfuse.checkpoints import RunFolder
from transfuse.registry import Registry
from transfuse_lab.runs.trained import open_trained

from tf_video.metric import error, moved_on, placed

Frames = list[np.ndarray]


def predictions(run, prompts: list[tuple[Item, ...]], plugins) -> Mapping[str, Frames]:
    """A frame behind each prompt: as the recipe draws it, and by one evaluation."""
    frame, made = run.model.modalities["frame"], {}
    one = plugins.choose("sampler", {"name": "euler", "evaluations": 1}).build()
    for name, sampler in {"drawn": frame.sampler, "mean": one}.items():
        frame.sampler = sampler
        continued = generate(run.model, [Document(items) for items in prompts], want="frame")
        made[name] = [document.items[-1].data for document in continued]
    return made


def without_a_model(prompts: list[tuple[Item, ...]]) -> Mapping[str, Frames]:
    two = [tuple(item.data for item in items) for items in prompts]
    return {
        "last frame moved on": [moved_on(before, last) for before, last in two],
        "last frame again": [last for _, last in two],
        "an empty frame": [0 * last for _, last in two],
    }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("run", type=Path)
    registry = Registry.open()
    run = open_trained(RunFolder(asked.parse_args().run), registry.plugins)
    documents = [run.data.document("heldout", i) for i in range(run.data.size("heldout"))]
    clips = [[item for item in one.items if item.modality == "frame"] for one in documents]
    prompts, truth = (
        [(first, second) for first, second, *_ in clips],
        [third.data for _, _, third, *_ in clips],
    )
    bounces = [np.array_equal(first.data, third) for (first, _), third in zip(prompts, truth, strict=True)]
    print(
        f"{len(truth)} clips, of which {np.mean(bounces):.0%} bounce; mean squared error a pixel, digits in place"
    )
    for name, made in {**predictions(run, prompts, registry.plugins), **without_a_model(prompts)}.items():
        told = f"{error(made, truth):.4f} {placed(made, truth):4.0%}"
        for kind in (False, True):
            own = [i for i, bounce in enumerate(bounces) if bounce == kind]
            of = [made[i] for i in own], [truth[i] for i in own]
            told += f"   {'bouncing' if kind else 'going on'} {error(*of):.4f} {placed(*of):4.0%}"
        print(f"{name:20} {told}")


if __name__ == "__main__":
    main()
