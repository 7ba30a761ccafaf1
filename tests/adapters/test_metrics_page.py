"""docs/metrics.md has every setting of the metrics over libraries, its default, and a registry that works."""

import re
from pathlib import Path

import pytest
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse_adapters.plugin import transfuse_metrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()
PARTS = {part.name: part for part in transfuse_metrics()}


@pytest.mark.parametrize("name", PARTS)
def test_every_setting_and_figure_is_on_the_page(name: str) -> None:
    section = re.split(r"^## ", PAGE.split(f"\n## {name}\n")[1], flags=re.MULTILINE)[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, flags=re.MULTILINE))
    fields = PARTS[name].settings.model_fields
    assert rows.keys() == fields.keys()
    for key, shown in rows.items():
        assert shown.strip("`") == ("none" if fields[key].is_required() else str(fields[key].default))
    figures = {figure.name for figure in PARTS[name].build.figures} - {name}
    assert [figure for figure in figures if f"`{figure}`" not in section] == []


def test_the_yaml_asks_for_all_of_them(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "registry.yaml").write_text(text)
    asked = Registry.load(Plugins.load(only=("text", "image", "diffusion", "vq", "llama", "tiles", "adapters")),
                          [packaged_file(), tmp_path / "registry.yaml"])  # fmt: skip
    assert set(asked.metrics()) == set(PARTS)


def test_every_extra_it_names_is_one() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    sources = [PAGE, *(path.read_text() for path in (ROOT / "adapters" / "transfuse_adapters").glob("*.py"))]
    extras = {extra for source in sources for extra in re.findall(r"'transfuse\[(\w+)\]'", source)}
    assert len(extras) >= 4
    assert [extra for extra in extras if not re.search(rf"^{extra} = \[", project, flags=re.MULTILINE)] == []
