"""What ``mask`` can be told; light to import: a mistake is found before anything slow is loaded."""

from pathlib import Path
from typing import Annotated

import typer

from transfuse_lab.commands.arguments import recipe_on_data
from transfuse_lab.commands.options import Overrides, RegistryFile
from transfuse_lab.progress import say


def mask(
    expression: Annotated[
        str | None,
        typer.Argument(
            metavar="[EXPR]", help="Such as 'same(doc) & le(idx)', or a mask's name in the registry."
        ),
    ] = None,
    layout: Annotated[
        str | None, typer.Option("--layout", help="The documents the mask is drawn over.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="RECIPE", help="Draw over this recipe's own layout, its mask too."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="Whose first documents --recipe lays out.")
    ] = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also a picture: PNG or SVG.")
    ] = None,
    audited: Annotated[
        str | None,
        typer.Option(
            "--audit", metavar="FILE.py:FUNCTION", help="Instead of EXPR: a mask of yours, audited."
        ),
    ] = None,
    registry: RegistryFile = None,
) -> None:
    """Draw a mask over a layout, or a recipe's over its documents, with pairs, density, slices and intervals."""
    on = recipe_on_data(recipe, data, overrides or (), registry)
    if audited is not None:
        from transfuse_lab.commands.audit import audit_command

        lines, well = audit_command(audited, expression, layout, on, registry)
    else:
        from transfuse_lab.commands.mask import mask_command

        lines, well = mask_command(expression, layout, out, registry, on).split("\n"), True
    for line in lines:
        say(line)
    if not well:
        raise typer.Exit(1)
