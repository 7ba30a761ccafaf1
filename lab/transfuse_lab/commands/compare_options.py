"""What ``compare`` and ``tune`` can be told; light to import: a mistake is found before anything slow is loaded."""

from pathlib import Path
from typing import Annotated

import typer
from transfuse.errors import TransfuseError

from transfuse_lab.commands.arguments import read_axes, read_seeds
from transfuse_lab.commands.options import Device, MaybeData, Overrides, RegistryFile
from transfuse_lab.comparison.settings import ComparisonSettings
from transfuse_lab.device import AUTO, check_device


def compare(
    data: MaybeData = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where runs and report are kept.")
    ] = None,
    recipes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE]...", help="The recipes; by default those of the registry's compare."
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,2", help="One run each, paired over recipes; 0,1,2 by default.")
    ] = None,
    overrides: Overrides = None,
    axes: Annotated[
        list[str] | None,
        typer.Option("--axis", metavar="KEY=V1,V2", help="Compare values of a setting; repeatable."),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="A plan, instead of recipes, data and seeds."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List a plan's budget, start nothing.")] = False,
    registry: RegistryFile = None,
    device: Device = AUTO,
) -> None:
    """Train and evaluate recipes under equal budgets; report.html and compare.json are left in DIR."""
    said = {"RECIPE": recipes, "--data": data, "--seeds": seeds, "--set": overrides, "--axis": axes}
    if plan is not None:
        if twice := [option for option, value in said.items() if value]:
            raise TransfuseError(f"--plan says what {twice[0]} says: leave it out, or write it into {plan}")
        from transfuse_lab.commands.compare_plan import PlanArguments, compare_plan_command

        compare_plan_command(PlanArguments(plan, out, registry, check_device(device), dry_run))
        return
    for option, value in (("--data", data), ("--out", out)):
        if value is None:
            raise TransfuseError(f"{option} is missing; or give a plan: --plan FILE")
    if dry_run:
        raise TransfuseError("--dry-run lists the budget of a plan: give --plan FILE too")
    settings = ComparisonSettings(
        tuple(recipes or ()), str(data), read_seeds(seeds or "0,1,2"), Path(str(out)), tuple(overrides or ()),
        read_axes(axes or ()), registry, check_device(device),
    )  # fmt: skip
    from transfuse_lab.commands.compare import compare_command

    compare_command(settings)


def tune(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan with a section tune.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where runs are kept.")] = None,
    registry: RegistryFile = None,
    device: Device = AUTO,
) -> None:
    """Search each arm's settings with equal trials; the plan takes in the file that is left."""
    from transfuse_lab.commands.compare_plan import PlanArguments
    from transfuse_lab.commands.tune import tune_command

    tune_command(PlanArguments(plan, out, registry, check_device(device)))
