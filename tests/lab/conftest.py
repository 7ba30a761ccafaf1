"""What tests of commands share: a folder of small pictures, runs trained on it, and the command line."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from transfuse.registry.plugins import Plugins
from transfuse_lab.datasets.folder import Folder
from transfuse_lab.runs.training import train


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, shapes: Callable) -> Path:
    """40 + 8 grey pictures of 8×8, captioned with the half that is bright."""
    from PIL import Image

    folder, data = tmp_path_factory.mktemp("pictures"), shapes(train=40, test=8)
    lines = []
    for split in ("train", "tune", "test"):
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
def trained(
    tmp_path_factory: pytest.TempPathFactory, installed: Plugins, pictures: Path, small_recipe: Callable
) -> Callable[[str], Path]:
    """The folder of a run of 8 steps, made once; tests that change it work on a copy."""

    @cache
    def run(recipe: str = "transfusion") -> Path:
        folder, section = (
            tmp_path_factory.mktemp(recipe),
            {"name": "folder", "path": str(pictures), "channels": 1},
        )
        resolved, data = small_recipe(recipe, "train.steps=8"), Folder(pictures, channels=1)
        train(resolved, data, section, folder, installed, report=lambda line: None)
        return folder

    return run
