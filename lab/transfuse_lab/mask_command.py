"""`transfuse mask "EXPR" --layout "text:5 image:16+noised text:4 / text:8"`: draws a mask and counts it."""

from pathlib import Path

import numpy as np
from transfuse import masks
from transfuse.errors import TransfuseError
from transfuse.masks import picture

from transfuse_lab import mask_layout

FORMATS = (".png", ".svg")


def run(expr: str, layout: str, out: Path | None = None) -> str:
    """What to print: the picture and the counts. With `out` (a .png or .svg) the picture is written there too.

    Raises TransfuseError for a wrong expression, layout or file name.
    """
    mask, columns = masks.parse(expr), mask_layout.columns(layout)
    said = [picture.terminal(mask, columns), "", str(mask), *facts(mask, columns)]
    if out is not None:
        out = Path(out)
        if out.suffix.lower() not in FORMATS:
            raise TransfuseError(f"--out {out}: write a file that ends in {' or '.join(FORMATS)}")
        image = (
            picture.png(mask, columns)
            if out.suffix.lower() == ".png"
            else picture.svg(mask, columns).encode()
        )
        try:
            out.write_bytes(image)
        except OSError as fault:
            raise TransfuseError(f"--out {out}: {fault.strerror or fault}") from None
        said.append(f"written to {out}")
    return "\n".join(said)


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
        exact = masks.cacheable(mask, columns)
        lines.append(f"a KV cache is {'exact' if exact else 'not exact: clean queries see noised keys'}")
    return lines
