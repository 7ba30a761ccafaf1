"""``transfuse compare``: recipes trained on one stream to one FLOP budget, evaluated, and reported."""

from typing import Any

from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.registry import Registry

from transfuse_lab.commands.account import report_account
from transfuse_lab.comparison.compare import (
    fit_codecs,
    mask_pictures,
    missing,
    record_of,
    table,
    train_and_evaluate,
)
from transfuse_lab.comparison.compare_json import write_comparison
from transfuse_lab.comparison.jobs import cores
from transfuse_lab.comparison.plan import Run, plan
from transfuse_lab.comparison.settings import ComparisonSettings
from transfuse_lab.datasets import data_section, open_section
from transfuse_lab.device import open_devices
from transfuse_lab.evaluation.tasks import checked_evaluable
from transfuse_lab.lock import locked
from transfuse_lab.output_paths import check_folder
from transfuse_lab.progress import say
from transfuse_lab.report.page import write_report
from transfuse_lab.runs.survey import survey


def compare_command(settings: ComparisonSettings) -> None:
    """Leaves ``compare.json`` and ``report.html`` in ``settings.out``."""
    check_folder("--out", settings.out)
    places = open_devices(settings.device)
    registry = Registry.open(settings.registry)
    section = data_section(settings.data, registry.plugins)
    data = open_section(section, registry.plugins)
    report_account(data)
    with locked(settings.out):
        identity = data.identity()
        runs = plan(settings, registry, identity)
        todo = missing(runs)
        _check(todo, data)
        registry.metrics()
        _compare(settings, runs, todo, section, identity, places or ["cpu"] * cores())


def _check(runs: list[Run], data: DataSet) -> None:
    """Raises TransfuseError, naming the entry, where a run could not be trained or evaluated."""
    for run in {run.entry: run for run in runs}.values():
        checked_evaluable(data, run.recipe.modalities, run.recipe.eval)
        try:
            survey(run.recipe, data, say)
        except TransfuseError as error:
            raise TransfuseError(f"{run.entry}: {error}") from error


def _compare(
    settings: ComparisonSettings,
    runs: list[Run],
    todo: list[Run],
    section: dict[str, Any],
    identity: dict[str, Any],
    places: list[str],
) -> None:
    """places: a device for each run that is trained at once."""
    say(f"compare {', '.join(dict.fromkeys(run.entry for run in runs))} on {identity['name']}, seeds "
        f"{', '.join(map(str, settings.seeds))}: {len(todo)} of {len(runs)} runs to do, {len(places)} at once"
        f"{'' if places[0] == 'cpu' else ', on ' + ', '.join(places)}")  # fmt: skip
    common = {"data": section, "registry": str(settings.registry) if settings.registry else None}
    fit_codecs(todo, common, places)
    train_and_evaluate(todo, common, places)
    records = [record for run in runs if (record := record_of(run))]
    figures, page = settings.out / "compare.json", settings.out / "report.html"
    write_comparison(figures, records, identity, settings.command)
    write_report(page, records, identity, list(mask_pictures(runs)), settings.command)
    for line in table(records):
        say(line)
    say(f"figures: {figures}")
    say(f"report:  {page}")
