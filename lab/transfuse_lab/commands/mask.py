"""`transfuse mask "EXPR" --layout "text:5 image:16+noised text:4 / text:8"`: draws a mask and counts it.

`transfuse mask --recipe R --data D` draws a recipe's own, over the first documents as the recipe lays them out.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from transfuse import masks
from transfuse.errors import TransfuseError
from transfuse.files import write_bytes
from transfuse.masks.expressions import NAME

from transfuse_lab.commands.arguments import RecipeOnData
from transfuse_lab.drawing import mask_drawing, mask_layout
from transfuse_lab.output_paths import check_file

if TYPE_CHECKING:
    from transfuse.sequences.layout import Layout
    from transfuse.sequences.rows import Row

FORMATS = (".png", ".svg")
WIDEST, CELL = 1200, 24
"""Pixels: pictures are about so wide at most, where their cells then are one pixel or more; a cell is at most so."""


def mask_command(
    expr: str | None,
    layout: str | None = None,
    out: Path | None = None,
    registry: Path | None = None,
    on: RecipeOnData | None = None,
) -> str:
    """What to print: the picture and the counts. With `out` (a .png or .svg) the picture is written there too.

    expr: an expression, or a mask's name in the registry, over which the file `registry` is laid. on: a recipe and
    its data, whose documents are drawn instead of a layout, under the recipe's mask where there is no `expr`.
    Raises TransfuseError for a wrong expression, name, layout or file name.
    """
    if (layout is None) == (on is None):
        raise TransfuseError("give a mask with --layout, or --recipe with --data: one of the two is drawn")
    if out is not None:
        check_file("--out", Path(out), FORMATS)
    if on is not None:
        from transfuse_lab.drawing.recipe_layout import described

        mask, laid_out, row = of_recipe(expr, on)
        columns, lines = row.columns, described(mask, laid_out, row)
    elif expr is None or layout is None:
        raise TransfuseError("EXPR is missing: the mask to draw over --layout, such as 'same(doc) & le(idx)'")
    else:
        mask, columns, lines = named(expr, registry), mask_layout.columns(layout), []
    lines = [mask_drawing.terminal(mask, columns), "", *lines, str(mask), *facts(mask, columns)]
    if out is not None:
        out = Path(out)
        cell = min(CELL, WIDEST // (len(columns["idx"]) + 2))
        image = (
            mask_drawing.png(mask, columns, max(cell, 1))
            if out.suffix.lower() == ".png"
            else mask_drawing.svg(mask, columns, max(cell, 8)).encode()
        )
        write_bytes(out, image)
        lines.append(f"written to {out}")
    return "\n".join(lines)


def named(expr: str, registry: Path | None) -> masks.Mask:
    """The mask that an expression says, or that a registry calls by this name; only a name opens the registry."""
    if not NAME.match(expr.strip()) or expr.strip() in ("full", "none"):
        return masks.parse(expr)
    from transfuse.registry import Registry

    return Registry.open(registry).mask(expr.strip())


def of_recipe(expr: str | None, on: RecipeOnData) -> "tuple[masks.Mask, Layout, Row]":
    """The mask, the recipe's layout, and its example: a row of its first documents."""
    from transfuse.registry import Registry

    from transfuse_lab.datasets import open_data
    from transfuse_lab.drawing.recipe_layout import example, layout_of

    registry = Registry.open(on.registry)
    data = open_data(on.data, registry.plugins)
    recipe = registry.recipe(on.recipe, on.overrides, data.name)
    mask = recipe.mask if expr is None else registry.mask(expr.strip())
    layout, data = layout_of(recipe, data, mask)
    return mask, layout, example(layout, data)


def facts(mask: masks.Mask, columns: masks.Columns) -> list[str]:
    """Pairs, density, slices, intervals and, where the layout has noised positions, whether a cache is exact."""
    size, slices = len(columns["idx"]), mask.slices(columns)
    pairs, a_query = slices.pairs(), np.diff(slices.intervals().ptr)
    a_key = np.diff(slices.transposed().intervals().ptr)
    lines = [
        f"{pairs} of {size * size} pairs ({100 * pairs / size**2:.1f} %), {len(slices)} slices",
        f"intervals a query: at most {a_query.max(initial=0)}; a key: at most {a_key.max(initial=0)}",
    ]
    if "noised" in columns and np.any(columns["noised"]):
        lines.append(f"a KV cache is {_cache(mask, columns)}")
    return lines


def _cache(mask: masks.Mask, columns: masks.Columns) -> str:
    if masks.cacheable(mask, columns):
        return "exact"
    if masks.cacheable(mask & ~masks.le("idx"), columns):
        return (
            "not exact, which is no mistake: what follows a noised item sees it, so the finished item is run once "
            "more, clean"
        )
    return "not exact: clean queries see noised keys ahead of them, which are not there yet in decoding"
