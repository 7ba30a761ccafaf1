"""The gallery: its script's pictures are the ones committed, and the page's code runs."""

import importlib.util
import re
from pathlib import Path

from transfuse import masks
from transfuse.testing import PUBLISHED

DOCS = Path(__file__).parents[2] / "docs"


def gallery():
    spec = importlib.util.spec_from_file_location("mask_gallery", DOCS / "mask_gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_picture_is_stale() -> None:
    for path, text in gallery().pages().items():
        assert path.read_text() == text, f"{path.name} is stale: run python docs/mask_gallery.py"


def test_at_least_fifteen_systems_and_every_oracle() -> None:
    script = gallery()
    assert len(script.systems()) >= 15
    oracles = {path.stem for path in script.ORACLES.glob("*.json")}
    assert set(script.systems()) == oracles | script.WRITTEN.keys() == PUBLISHED.keys()


def test_the_pages_code_runs() -> None:
    names: dict[str, object] = {}
    for source in re.findall(
        r"^```python\n(.*?)^```", (DOCS / "masks.md").read_text(), re.MULTILINE | re.DOTALL
    ):
        exec(compile(source, "<docs/masks.md>", "exec"), names)


def test_every_atom_and_public_name_is_on_the_page() -> None:
    page = (DOCS / "masks.md").read_text()
    kinds = {
        "And",
        "Or",
        "Not",
        "Constant",
        "Flag",
        "Delta",
        "Same",
        "Table",
        "Mask",
        "Columns",
        "Slices",
        "Intervals",
    }
    for name in vars(masks):
        public = not name.startswith("_") and not hasattr(getattr(masks, name), "__path__")
        module = type(getattr(masks, name)).__name__ == "module"
        if public and not module and name not in kinds:
            assert re.search(rf"\b{name}\b", page), f"masks.{name} is not on docs/masks.md"
