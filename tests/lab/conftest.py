"""What tests of commands share: a folder of small pictures, runs trained on it, and the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transfuse.registry.plugins import Plugins
from transfuse_lab.cli import app
from transfuse_lab.datasets.folder import Folder
from transfuse_lab.runs.training import train
from typer.testing import CliRunner, Result

TINY = (
    "model.dim=32", "model.layers=1", "model.heads=2", "train.budget=160", "train.lr=0.01", "text.vocab=280",
)  # fmt: skip
PIXELS = ("image.codec=pixel", "image.patcher.patch=2", "image.sampler.evaluations=3")
CODES = ("image.codec.width=8", "image.codec.steps=10", "image.codec.batch=8", "image.codec.codes=16")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, shapes: Callable) -> Path:
    """40 + 8 grey pictures of 8×8, captioned with the half that is bright."""
    from PIL import Image

    folder, data = tmp_path_factory.mktemp("pictures"), shapes(train=40, heldout=8)
    lines = []
    for split in ("train", "heldout"):
        for index in range(data.size(split)):
            caption, image = (item.data for item in data.document(split, index).items)
            name = f"{split}-{index}.png"
            Image.fromarray((image[0].clip(0, 1) * 255).astype(np.uint8)).save(folder / name)
            lines.append(json.dumps({"image": name, "caption": caption, "split": split}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def data_argument(pictures: Path) -> str:
    """What ``--data`` takes for them."""
    return f"{pictures};channels=1"


@pytest.fixture(scope="session")
def sets() -> Callable[..., tuple[str, ...]]:
    """``--set`` arguments that make a recipe tiny."""

    def make(recipe: str = "transfusion", *more: str) -> tuple[str, ...]:
        chosen = (*TINY, *(PIXELS if recipe == "transfusion" else CODES), *more)
        return tuple(word for one in chosen for word in ("--set", one))

    return make


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, installed: Plugins, pictures: Path, sets: Callable
) -> Callable[[str], Path]:
    """The folder of a run of few steps, made once; tests that change it work on a copy."""
    from transfuse.registry import Registry
    from transfuse.registry.files import packaged_file

    made: dict[str, Path] = {}

    def run(recipe: str = "transfusion") -> Path:
        if recipe not in made:
            made[recipe] = tmp_path_factory.mktemp(recipe)
            overrides = sets(recipe, "train.steps=8")[1::2]
            resolved = Registry.load(installed, [packaged_file()]).recipe(recipe, overrides)
            section = {"name": "folder", "path": str(pictures), "channels": 1}
            train(
                resolved,
                Folder(pictures, channels=1),
                section,
                made[recipe],
                installed,
                report=lambda line: None,
            )
        return made[recipe]

    return run


@pytest.fixture(scope="session")
def cli() -> Callable[..., Result]:
    """``cli("train", "transfusion", …)`` in this process."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
