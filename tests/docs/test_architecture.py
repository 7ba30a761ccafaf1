"""The drawings of the house are those of today's code: no circle, no arrow up, every room on the page."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("import_drawing", DOCS / "import_drawing.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("package", ["transfuse", "transfuse_lab"])
def test_the_drawing_is_of_todays_imports_and_every_room_is_on_the_page(
    drawing: ModuleType, package: str
) -> None:
    arrows = drawing.rooms(package)
    floor = drawing.floors(arrows)
    assert all(floor[below] < floor[room] for room in arrows for below in arrows[room])
    assert (DOCS / f"images/imports-{package}.svg").read_text() == drawing.drawing(arrows)
    page = (DOCS / "architecture.md").read_text()
    assert [room for room in arrows if f"`{room}`" not in page and f"`{room}/`" not in page] == []


def test_rooms_in_a_circle_are_named(drawing: ModuleType) -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}
    with pytest.raises(ValueError, match="in a circle: a, b, c"):
        drawing.floors(arrows)
