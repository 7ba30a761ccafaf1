"""docs/scale.md has the table that bench/scale.py computes, and the table is the arithmetic that the page shows."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scale() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        import scale  # type: ignore[import-not-found]

        yield scale
    finally:
        sys.path.remove(str(ROOT / "bench"))
        for name in ("scale", "pages", *[name for name in sys.modules if name.split(".")[0] == "runners"]):
            sys.modules.pop(name, None)


def test_the_page_has_the_table(scale: ModuleType) -> None:
    page = (ROOT / "docs/scale.md").read_text()
    assert f"<!-- bench/scale.py -->\n{scale.table()}\n<!-- end -->" in page, (
        "run python bench/scale.py --write"
    )


def test_what_a_layer_keeps_is_what_the_page_says(scale: ModuleType) -> None:
    width = 512 / 192  # of SwiGLU over D, in the block it is counted on
    assert scale.kept_by_a_layer() == pytest.approx(8 + 8 + 4 * width, rel=0.02)


def test_the_arithmetic(scale: ModuleType) -> None:
    n = 32 * (4 * 4096**2 + 3 * 4096 * scale.MODEL.swiglu_width) + 2 * 32768 * 4096 + 0.27e9
    assert sum(scale.parameters().values()) == n
    few, many = dict(scale.rows_of(8)), dict(scale.rows_of(1024))
    assert few["weights, gradients, two moments: 16·N / G"] == f"{2 * n / 1e9:.1f} GB"
    assert few["gathered twice and scattered: 8·N"] == f"{8 * n / 1e9:.0f} GB"
    assert many["the same in time, over the network, 50 GB/s"] == f"{8 * n / 50e9:.2f} s"
    assert few["stopped first by"] == "arithmetic"
    assert many["stopped first by"].startswith("rows")
