"""``transfuse compare``: recipes trained on one stream to one FLOP budget, evaluated, and reported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transfuse.checkpoints import has_codecs
from transfuse.config.recipe import Recipe
from transfuse.errors import TransfuseError
from transfuse.registry import Registry
from transfuse.registry.plugins import Plugins

from transfuse_lab.commands.account import report_account
from transfuse_lab.comparison.compare import (
    fit_codecs,
    mask_pictures,
    missing,
    table,
    train_and_evaluate,
)
from transfuse_lab.comparison.compare_json import write_comparison
from transfuse_lab.comparison.jobs import Job, cores
from transfuse_lab.comparison.keeping import check_all_alike, records_of
from transfuse_lab.comparison.plan import plan
from transfuse_lab.comparison.run import Run
from transfuse_lab.comparison.settings import ComparisonSettings
from transfuse_lab.datasets import data_section, open_section
from transfuse_lab.device import open_devices
from transfuse_lab.evaluation.tasks import checked_evaluable
from transfuse_lab.lock import locked
from transfuse_lab.output_paths import check_folder, check_room
from transfuse_lab.progress import say
from transfuse_lab.report.page import write_report
from transfuse_lab.runs.forecast import ESTIMATE, Forecast, in_time, of_codecs, of_training
from transfuse_lab.runs.records import RunRecord
from transfuse_lab.runs.survey import Surveyed, survey_all


def compare_command(settings: ComparisonSettings) -> None:
    """Leaves ``compare.json`` and ``report.html`` in ``settings.out``."""
    check_folder("--out", settings.out)
    places = open_devices(settings.device)
    registry = Registry.open(settings.registry)
    section = data_section(settings.data, registry.plugins)
    data = open_section(section, registry.plugins)
    report_account(data)
    with locked(settings.out):
        identity, found = data.identity(), dict[str, Surveyed]()

        def suit(recipes: Mapping[str, Recipe], bases: Mapping[str, Recipe]) -> dict[str, Recipe]:
            for recipe in recipes.values():
                checked_evaluable(data, recipe.modalities, recipe.eval)
            found.update(survey_all(recipes, data, say, bases))
            return {entry: surveyed.recipe for entry, surveyed in found.items()}

        runs = plan(settings, registry, identity, suit, section)
        registry.metrics()
        todo, places = missing(runs), places or ["cpu"] * cores()
        there = records_of(runs)
        cure = f"delete {settings.out / 'runs'}, or give another --out"
        check_all_alike(there, bool(todo), cure)
        _forecast(settings.out, todo, found, registry.plugins, places, list(there.values()))
        _compare(settings, runs, todo, identity, places)


def _forecast(
    out: Path,
    todo: list[Run],
    found: Mapping[str, Surveyed],
    plugins: Plugins,
    places: list[str],
    ended: list[RunRecord],
) -> None:
    """Says how long it takes; of evaluations, by those of runs that have ended.

    Raises TransfuseError, naming the entry, where a run could not be trained, or all of them have no room.
    """
    if not todo:
        return
    codecs, runs, threads = dict[Path, Forecast](), dict[str, Forecast](), torch.get_num_threads()
    try:
        if places[0] == "cpu":
            torch.set_num_threads(1)  # as jobs have
        for run in todo:
            try:
                if run.codecs not in codecs:
                    codecs[run.codecs] = (
                        Forecast() if has_codecs(run.codecs) else of_codecs(found[run.entry], places[0])
                    )
                if run.entry not in runs:
                    runs[run.entry] = of_training(found[run.entry], plugins, places[0])
            except TransfuseError as error:
                raise TransfuseError(f"{run.entry}: {error}") from error
    finally:
        torch.set_num_threads(threads)
    fitted, trained = sum(codecs.values(), Forecast()), sum((runs[run.entry] for run in todo), Forecast())
    check_room("--out", out, fitted.size + trained.size)
    at_once = min(len(todo), len(places))
    seconds = fitted.seconds / min(len(codecs), len(places)) + trained.seconds / at_once
    took = [one.metrics["evaluation_seconds"] for one in ended if "evaluation_seconds" in one.metrics]
    each = (
        f", {in_time(sum(took) / len(took) * len(todo) / at_once)} by the runs that have ended"
        if took
        else ""
    )
    say(f"training: {in_time(seconds)} on this machine ({ESTIMATE}); evaluation comes on top{each}")


def _compare(
    settings: ComparisonSettings,
    runs: list[Run],
    todo: list[Run],
    identity: dict[str, Any],
    places: list[str],
) -> None:
    """places: a device for each run that is trained at once. The page is written whenever a run has ended."""
    say(f"compare {', '.join(dict.fromkeys(run.entry for run in runs))} on {identity['name']}, seeds "
        f"{', '.join(map(str, settings.seeds))}: {len(todo)} of {len(runs)} runs to do, {len(places)} at once"
        f"{'' if places[0] == 'cpu' else ', on ' + ', '.join(places)}")  # fmt: skip
    common = {"registry": str(settings.registry) if settings.registry else None}
    fit_codecs(todo, common, places)
    figures, page = settings.out / "compare.json", settings.out / "report.html"
    left = {run.record_file: run.name for run in todo}

    def report() -> list[RunRecord]:
        """The page of the runs that have ended."""
        found = list(records_of([run for run in runs if run.record_file not in left]).values())
        masks = list(mask_pictures(runs))
        write_report(page, found, identity, masks, settings.command, awaited=list(left.values()))
        return found

    def ended(job: Job) -> None:
        for part in job.work["parts"]:
            left.pop(Path(part["record"]))
        report()

    train_and_evaluate(todo, common, places, ended=ended)
    records = report()
    write_comparison(figures, records, identity, settings.command)
    for line in table(records):
        say(line)
    say(f"figures: {figures}")
    say(f"report:  {page}")
