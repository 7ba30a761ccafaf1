"""The commands of `transfuse data`."""

from pathlib import Path
from typing import Annotated

import typer
from transfuse.errors import TransfuseError

from transfuse_lab.commands.options import Device, Overrides, RegistryFile
from transfuse_lab.device import AUTO, check_device
from transfuse_lab.progress import say

data_app = typer.Typer(no_args_is_help=True, help="Data sets and stores.", rich_markup_mode=None)
Store = Annotated[str, typer.Argument(metavar="STORE", help="A store's folder, or its address.")]


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
    out: Annotated[
        str, typer.Option("--out", metavar="STORE", help="The store to write or go on with, ending in .zarr.")
    ],
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="R", help="Encode by this recipe's codecs and tokenizers."),
    ] = None,
    codecs: Annotated[
        Path | None,
        typer.Option("--codecs", metavar="RUN", help="By those that train-codec or a run left there."),
    ] = None,
    part: Annotated[
        str | None, typer.Option("--part", metavar="I/N", help="Write one part of N alone, such as 1/8.")
    ] = None,
    parts: Annotated[
        int | None,
        typer.Option("--parts", min=1, max=1_000_000, help="In so many parts; else 65,536 documents each."),
    ] = None,
    overrides: Overrides = None,
    device: Device = AUTO,
    registry: RegistryFile = None,
) -> None:
    """Pack a data set into a store, raw or encoded. A stopped one goes on when the command is given again."""
    from transfuse_lab.commands.stores import Encoding, read_part

    number, of = read_part(part)
    if of is not None and parts not in (None, of):
        raise TransfuseError(f"--part {part} and --parts {parts} differ: leave --parts out")
    if recipe is None and (codecs is not None or overrides):
        raise TransfuseError(f"--recipe is missing: what {'--set' if overrides else '--codecs'} is for")
    there = check_device(device)
    from transfuse.registry import Registry

    from transfuse_lab.commands import stores

    opened = Registry.open(registry)
    encoding = None if recipe is None else Encoding(opened, recipe, tuple(overrides or ()), codecs, there)
    done = stores.pack(name, out, opened.plugins, part=number, parts=of or parts, encoding=encoding)
    say(f"packed {name} into {out}" if done else f"packed part {part} of {name} into {out}; others are left")


@data_app.command()
def info(store: Store) -> None:
    """Tell what a store holds, finished or not."""
    from transfuse_lab.commands import stores

    stores.info(store)


@data_app.command()
def verify(
    store: Store,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, metavar="N", help="Sizes and N documents of each split alone."),
    ] = None,
) -> None:
    """Compare every file of a store with its checksum, and its documents with what was packed."""
    from transfuse_lab.commands import stores

    stores.verify(store, sample)


@data_app.command()
def merge(
    paths: Annotated[list[str], typer.Argument(metavar="STORE…", help="Two stores or more, in order.")],
    out: Annotated[str, typer.Option("--out", metavar="STORE", help="The store to write, ending in .zarr.")],
) -> None:
    """Make one store of several, part by part as they are."""
    from transfuse_lab.commands import stores

    stores.merge(paths, out)


@data_app.command()
def split(
    store: Store,
    into: Annotated[int, typer.Option("--into", min=2, metavar="N", help="How many stores.")],
    out: Annotated[
        str,
        typer.Option("--out", metavar="STORE", help="OUT.zarr: they are called OUT-1-of-N.zarr and so on."),
    ],
) -> None:
    """Make several stores of one, each of whole parts."""
    from transfuse_lab.commands import stores

    stores.split(store, into, out)


@data_app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set's name or a folder.")],
    split: Annotated[
        str, typer.Option("--split", metavar="SPLIT", help="Such as train, tune, test.")
    ] = "train",
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
