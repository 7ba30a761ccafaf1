"""docs/scenes.md: its code runs, its figures and settings are those there are."""

import re
from pathlib import Path

from transfuse_scenes.metrics import SceneCaptions, SceneEdits, SceneRecall
from transfuse_scenes.settings import ScenesSettings

PAGE = (Path(__file__).parents[3] / "docs/scenes.md").read_text()


def test_its_code_runs() -> None:
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/scenes.md", "exec"), {})


def test_every_figure_and_setting_stands_there() -> None:
    figures = {
        figure.name for metric in (SceneRecall, SceneCaptions, SceneEdits) for figure in metric.figures
    }
    for name in (
        figures - {"object_recall_raw", "object_recall_chance"}
    ) | ScenesSettings.model_fields.keys():
        assert f"`{name}`" in PAGE, name
