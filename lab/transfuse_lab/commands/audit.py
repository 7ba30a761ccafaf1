"""`transfuse mask --audit FILE.py:FUNCTION --layout …`: a mask of somebody's own, asked what must never be.

It is drawn, counted and compared with published masks, and every position that sees its own target, every crossing
of documents and all padding that is seen is named.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from transfuse import masks
from transfuse.config.origin import told
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.testing.masks.audit import audit, next_tokens
from transfuse.testing.masks.functions import as_dense
from transfuse.testing.masks.same_mask import same_mask

from transfuse_lab.commands.arguments import RecipeOnData
from transfuse_lab.commands.mask import facts, named, of_recipe
from transfuse_lab.drawing import mask_drawing, mask_layout

LARGEST = 512
"""Positions of a mask that is audited: all its pairs are looked at."""
POSITION = "position"
"""The column of a table of all pairs, which an audited mask becomes to be counted as others are."""


def audit_command(
    target: str, expr: str | None, layout: str | None, on: RecipeOnData | None, registry: Path | None
) -> tuple[list[str], bool]:
    """What to print, and whether nothing is wrong.

    target: ``FILE.py:FUNCTION``, of a form that `transfuse.testing.as_dense` takes. expr: a mask that it should
    equal, or None. Raises TransfuseError where the file, the function or the layout is wrong.
    """
    if (layout is None) == (on is None):
        raise TransfuseError("give --layout, or --recipe with --data: what --audit lays the mask over")
    function = load(target)
    if on is not None:
        _, _, row = of_recipe("full", on)
        columns, predicted = row.columns, row.targets != masks.NONE
    else:
        columns = mask_layout.columns(layout or "")
        predicted = next_tokens(columns)
    size = len(columns["idx"])
    if size > LARGEST:
        raise TransfuseError(
            f"{size} positions are too many to audit; {LARGEST} at most: give a shorter --layout"
        )
    allowed = as_dense(function, columns, target)
    table, drawn = masks.table(POSITION, allowed.tolist()), {**columns, POSITION: np.arange(size)}
    found = audit(allowed, columns, predicted)
    lines = [mask_drawing.terminal(table, drawn), "", target, *facts(table, drawn), *found.lines()]
    if expr is None:
        return lines, found.clean
    try:
        same_mask(named(expr, registry), allowed, columns)
    except AssertionError as differs:
        return [*lines, f"it is another than {expr} (mine: {expr})", *str(differs).split("\n")], False
    return [*lines, f"it equals {expr} here"], found.clean


def load(target: str) -> Callable[..., Any]:
    """The function of ``FILE.py:FUNCTION``. Raises TransfuseError naming what is missing."""
    file, colon, name = target.rpartition(":")
    path = Path(file)
    if not colon or path.suffix != ".py" or not name:
        raise TransfuseError(f"--audit {target!r:.200}: write FILE.py:FUNCTION, such as mask.py:block_causal")
    if not path.is_file():
        raise TransfuseError(f"--audit {target!r:.200}: there is no file {file}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise told(f"--audit {file}", "importing it", error) from error
    own = {key: value for key, value in vars(module).items() if callable(value) and not key.startswith("_")}
    if name not in own:
        raise TransfuseError(
            f"--audit {target!r:.200}: {file} has no function {name!r}, {did_you_mean(name, own)}"
        )
    return own[name]
