"""The command line. Nothing slow is imported before a command runs: `transfuse --help` is instant."""

import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from transfuse.errors import TransfuseError
from typer.core import TyperGroup

from transfuse_lab.commands.arguments import (
    TOKENS,
    RecipeOnData,
    SampleArguments,
    read_dtype,
    read_given,
)
from transfuse_lab.commands.compare_options import compare, tune
from transfuse_lab.commands.data_group import data_app
from transfuse_lab.commands.export import export
from transfuse_lab.commands.mask_options import mask
from transfuse_lab.commands.options import DTYPE, Data, Device, DrawnBy, Overrides, RegistryFile, RunFolder
from transfuse_lab.commands.plugins_group import plugins_app
from transfuse_lab.device import AUTO, check_device
from transfuse_lab.progress import complain, say
from transfuse_lab.runs.interrupts import obey_as_ctrl_c
from transfuse_lab.visible import print_whatever_comes, visible_lines

DEBUG = "--debug"
HOW_TO_GO_ON = {
    "train": "The same command goes on after what was saved; where nothing was, it begins anew.",
    "train-codec": "The same command goes on after what was saved; where nothing was, it begins anew.",
    "compare": "The same command goes on with what is missing.",
    "tune": "The same command goes on with what is missing.",
}


class Commands(TyperGroup):
    """The commands, and how they end when a user is mistaken (exit 2) or interrupts (exit 130).

    ``--debug`` may stand before or behind a command.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = [word for word in args if word != DEBUG]
        return super().parse_args(ctx, [DEBUG] * (len(rest) < len(args)) + rest)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TransfuseError as error:
            if ctx.params["debug"]:
                complain("".join(traceback.format_exception(error.__cause__ or error)).strip())
            complain(f"error: {error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt as interrupt:
            tail = str(interrupt) or HOW_TO_GO_ON.get(ctx.invoked_subcommand, "")
            print(f"\ninterrupted. {tail}".rstrip(), file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train, sample and compare models that predict the next token and diffuse the rest.",
)


def tell_version(asked: bool) -> None:
    """And nothing else."""
    if asked:
        from importlib.metadata import version

        say(f"transfuse {version('transfuse')}, torch {version('torch')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option(DEBUG, help="Show where in the code an error arose.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Of transfuse and torch.", callback=tell_version, is_eager=True)
    ] = False,
) -> None:
    """Of all commands."""


app.add_typer(plugins_app, name="plugins")
app.add_typer(data_app, name="data")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name; `transfuse recipes`.")],
    data: Data,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the run is kept; goes on if there.")
    ] = None,
    overrides: Overrides = None,
    codecs: Annotated[
        Path | None, typer.Option("--codecs", metavar="DIR", help="Codecs that train-codec left there.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Begin from a run's weights and codecs.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show shapes, parameters, memory and one batch; train nothing.")
    ] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track", metavar="TRACKER", help="Such as tensorboard, or 'wandb;project=mine'; repeatable."
        ),
    ] = None,
    show_every: Annotated[
        int,
        typer.Option("--show-every", min=0, metavar="STEPS", help="Samples for trackers each so many steps."),
    ] = 0,
    registry: RegistryFile = None,
    device: Device = AUTO,
) -> None:
    """Train a recipe on a data set. An interrupted run goes on when the command is given again."""
    if out is None and not dry_run:
        raise TransfuseError("--out is missing: the folder in which the run is kept")
    from transfuse_lab.commands.train import dry_run_command, train_command

    chosen = RecipeOnData(recipe, data, tuple(overrides or ()), registry)
    if dry_run:
        dry_run_command(chosen, start, check_device(device))
    elif out is not None:
        if codecs is not None and start is not None:
            raise TransfuseError("give one of --codecs and --from: a run has codecs of its own")
        train_command(chosen, out, codecs, start, check_device(device), tuple(track or ()), show_every)


@app.command(name="train-codec")
def train_codec(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name; `transfuse recipes`.")],
    data: Data,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where codecs and a picture go; goes on if there.")
    ],
    overrides: Overrides = None,
    registry: RegistryFile = None,
    device: Device = AUTO,
) -> None:
    """Train a recipe's codecs (autoencoder, tokenizer) on a data set, for `transfuse train --codecs DIR`."""
    from transfuse_lab.commands.train_codec import train_codec_command

    chosen = RecipeOnData(recipe, data, tuple(overrides or ()), registry)
    train_codec_command(chosen, out, check_device(device))


@app.command()
def sample(
    run: RunFolder,
    given: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=VALUE", help="A text, or @FILE; repeatable, in reading order."),
    ] = None,
    want: Annotated[
        str | None, typer.Option(metavar="ROLE", help="What to make; ROLE:LABEL for one of its shapes.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A text to go on from; repeatable, a row each.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="A picture to go on from: to caption.")
    ] = None,
    document: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="A document of any roles to go on from.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="How many samples of each.")] = 1,
    tokens: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help=f"The most tokens of text in one ({TOKENS}).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR|FILE", help="A folder; a sheet, .svg or .png; a file of the role's."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="Equal seeds, equal samples.")] = 0,
    overrides: DrawnBy = None,
    device: Device = AUTO,
    dtype: Annotated[str, DTYPE] = "float32",
) -> None:
    """Sample from a trained run: one role given others, or what the model writes next."""
    arguments = SampleArguments(
        run, tuple(prompt or ()), read_given(given or ()), image, document, want, n, tokens, out, seed,
        tuple(overrides or ()), check_device(device), read_dtype(dtype),
    )  # fmt: skip
    from transfuse_lab.commands.sample import sample_command

    sample_command(arguments)


@app.command(name="eval")
def evaluate(
    run: RunFolder,
    grid: Annotated[
        Path | None,
        typer.Option("--grid", metavar="FILE", help="Also a picture, .png or .svg: real and made."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK", help="Such as 'text->image', instead of all of them; repeatable."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="Other data than it was trained on.")
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(min=2, max=1_000_000, help="At most so many prompts a task.")
    ] = None,
    registry: RegistryFile = None,
    device: Device = AUTO,
    dtype: Annotated[str | None, DTYPE] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="SPLIT", help="Whose documents: test, tune, or another of the data's."),
    ] = None,
    overrides: DrawnBy = None,
) -> None:
    """Evaluate a trained run on the held-out data: every task, its metrics, and losses."""
    from transfuse_lab.commands.evaluate import eval_command

    eval_command(
        run,
        grid,
        tuple(task or ()),
        prompts,
        registry,
        data,
        check_device(device),
        dtype and read_dtype(dtype),
        split,
        tuple(overrides or ()),
    )


app.command()(compare)
app.command()(tune)


@app.command()
def diagnose(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of runs; several are a series over training."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="For diagnosis.json and .svg; else the first RUN."),
    ] = None,
    rows: Annotated[int, typer.Option(min=4, max=10_000, help="Rows on which gradients are taken.")] = 32,
    prompts: Annotated[int, typer.Option(min=2, max=1_000_000, help="At most so many a task.")] = 256,
    every: Annotated[
        bool, typer.Option("--every", help="All checkpoints that a run has, not the newest.")
    ] = False,
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Whose documents tasks are of, such as tune.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="Other data than it was trained on.")
    ] = None,
    registry: RegistryFile = None,
    device: Device = AUTO,
) -> None:
    """Compare the gradients of a run's losses by layer and noise; where attention goes; what predictions rest on."""
    from transfuse_lab.commands.diagnose import diagnose_command

    diagnose_command(runs, out, rows, prompts, every, split, data, registry, check_device(device))


@app.command()
def recipes(registry: RegistryFile = None) -> None:
    """List the recipes: modalities, mask, loss weights, size and budget."""
    from transfuse_lab.commands.listings import recipes_command

    recipes_command(registry)


app.command()(export)


@app.command()
def doctor(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="The folder of a run, to see what is wrong with it."),
    ] = None,
    registry: RegistryFile = None,
) -> None:
    """Show versions, threads, plugins, kernels, files, packages; or what is wrong with a run. Exit 1 on a fault."""
    from transfuse_lab.commands.doctor import doctor_command, examine_command

    if doctor_command(registry) if run is None else examine_command(run, registry):
        raise typer.Exit(1)


app.command()(mask)


def main() -> None:
    """The entry point: runs the command line, with warnings as plain lines. SIGTERM and SIGHUP are Ctrl-C."""
    print_whatever_comes()
    obey_as_ctrl_c()
    warnings.formatwarning = _plain
    app()


def _plain(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning for users as one line; any other with its place in the code, for developers."""
    place = "" if issubclass(category, UserWarning) else f"{filename}:{lineno}: {category.__name__}: "
    return f"warning: {visible_lines(f'{place}{message}')}\n"
