"""The commands of `transfuse data`."""

from pathlib import Path
from typing import Annotated

import typer

from transfuse_lab.commands.options import RegistryFile
from transfuse_lab.progress import say

data_app = typer.Typer(no_args_is_help=True, help="Data sets and stores.", rich_markup_mode=None)


@data_app.command()
def build(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The data set: emoji.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Instead of the cache, $TRANSFUSE_CACHE.")
    ] = None,
) -> None:
    """Fetch a data set's packages by npm and build it, once, into the cache."""
    from transfuse_lab.commands import data as data_command

    say(f"built {name}: {data_command.build(name, out)}")


@data_app.command()
def pack(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set's name or a folder.")],
    out: Annotated[Path, typer.Option("--out", metavar="STORE", help="The store to write, ending in .zarr.")],
    registry: RegistryFile = None,
) -> None:
    """Pack a data set into a store."""
    from transfuse.registry import Registry

    from transfuse_lab.commands import data as data_command

    data_command.pack(name, out, Registry.open(registry).plugins)
    say(f"packed {name} into {out}")


@data_app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set's name or a folder.")],
    split: Annotated[str, typer.Option("--split", metavar="SPLIT", help="Such as train, tune, test.")] = "train",
    n: Annotated[int, typer.Option("--n", min=1, max=10_000, help="So many documents, from the first.")] = 16,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also a sheet of drawings: PNG or SVG.")
    ] = None,
    registry: RegistryFile = None,
) -> None:
    """Show documents of a data set: printed, and drawn on a sheet."""
    from transfuse.registry import Registry

    from transfuse_lab.commands import data as data_command

    data_command.show(name, split, n, out, Registry.open(registry).plugins)
