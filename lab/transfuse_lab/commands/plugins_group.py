"""The commands of `transfuse plugins`."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from transfuse_lab.commands.options import RegistryFile

plugins_app = typer.Typer(
    no_args_is_help=True, help="The plugins at hand, and new ones.", rich_markup_mode=None
)
KINDS = ("span", "token", "codes", "actions")


@plugins_app.command(name="list")
def plugins_list(registry: RegistryFile = None) -> None:
    """List the plugins, what they offer, and why one is not loaded."""
    from transfuse.registry.plugins import PluginWarning

    from transfuse_lab.commands.listings import plugins_command

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # the table has the reasons
        plugins_command(registry)


@plugins_app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plugin's name; `transfuse plugins list`.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="Whose raw data its parts are tried with.")
    ] = None,
    registry: RegistryFile = None,
) -> None:
    """Check every part of a plugin by the kits of transfuse.testing, a line each; exit 1 where one fails."""
    from transfuse_lab.commands.check_plugin import check_command

    if not check_command(name, data, registry):
        raise typer.Exit(1)


@plugins_app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the plugin and its modality: audio.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The package's folder, new or empty.")],
    kind: Annotated[
        str, typer.Option("--kind", metavar="|".join(KINDS), help="What it is made of.")
    ] = "span",
) -> None:
    """Write a package with a modality that installs, passes the kit and trains as it stands."""
    from transfuse_lab.commands.new_plugin import new_command

    new_command(name, kind, out)
