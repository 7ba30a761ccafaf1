"""``transfuse compare``: recipes trained on one stream to one FLOP budget, evaluated, and reported.

Every run leaves its record as it ends; a comparison that was stopped goes on with what is missing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from transfuse.checkpoints.provenance import origin
from transfuse.config.recipe import Recipe
from transfuse.errors import TransfuseError
from transfuse.files import read_json
from transfuse.registry import Registry

from transfuse_lab.comparison.comparison_json import summaries, write_comparison
from transfuse_lab.comparison.jobs import Job, cores, run_all
from transfuse_lab.datasets import data_section
from transfuse_lab.progress import bar, say
from transfuse_lab.report import MaskPicture, write_report
from transfuse_lab.report.figures import figure, ordered
from transfuse_lab.runs.records import RunRecord, entry_name, load_record
from transfuse_lab.runs.training import make_folder, versions


@dataclass(frozen=True)
class Run:
    """One cell of a comparison: an entry (a recipe, with axes), and a seed."""

    entry: str
    recipe: Recipe
    folder: Path
    codecs: Path

    @property
    def record(self) -> Path:
        return self.folder / "record.json"


def plan(
    registry: Registry,
    recipes: Sequence[str],
    section: Mapping[str, Any],
    identity: Mapping[str, Any],
    seeds: Sequence[int],
    out: Path,
    overrides: Sequence[str],
    axes: Mapping[str, Sequence[str]],
) -> list[Run]:
    """Every run, seed by seed, so that an early stop leaves pairs.

    Folders carry a hash of recipe, data, and versions of transfuse, torch and plugins, so that other
    settings never meet old results. Work on the code itself is not seen: use another ``out`` then.
    Raises TransfuseError where budgets are not equal FLOPs.
    """
    twice = sorted({name for name in recipes if list(recipes).count(name) > 1})
    if twice:
        raise TransfuseError(
            f"compare: recipe {twice[0]!r} stands twice; give it once, and what varies as --axis"
        )
    made_by = {"transfuse": version("transfuse"), "torch": version("torch"), **versions(registry.plugins)}
    runs = []
    for seed, name, values in product(seeds, recipes, product(*axes.values())):
        chosen = dict(zip(axes, values, strict=True))
        told = [*overrides, *(f"{key}={value}" for key, value in chosen.items()), f"train.seed={seed}"]
        recipe = registry.recipe(name, told, identity["name"])
        dump = recipe.dump()
        learnt = _hash(origin(recipe, identity))
        entry = entry_name(name, chosen)
        slug = "".join(c if c.isalnum() or c in "-_.=" else "-" for c in entry)[:80]
        folder = (
            out / "runs" / f"{slug}-seed{seed}-{_hash({'recipe': dump, 'data': identity, 'by': made_by})}"
        )
        runs.append(Run(entry, recipe, folder, out / "codecs" / learnt))
    _check_budgets(runs, axes)
    return runs


def _check_budgets(runs: Sequence[Run], axes: Mapping[str, Sequence[str]]) -> None:
    by_steps = sorted({run.entry for run in runs if run.recipe.train.flops is None})
    if by_steps:
        raise TransfuseError(
            f"compare: {by_steps[0]} has a budget of steps, and steps of different recipes cost different "
            f"compute; give every recipe the same one with --set train.flops=2e12"
        )
    budgets = {run.recipe.train.flops for run in runs}
    if len(budgets) > 1 and "train.flops" not in axes:
        raise TransfuseError(
            f"compare: the recipes have unequal budgets of {sorted(b or 0 for b in budgets)} FLOPs; "
            f"give them one with --set train.flops=2e12, or make it an axis"
        )


def _hash(value: Any) -> str:
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=5).hexdigest()


def compare_command(
    recipes: tuple[str, ...],
    data: str,
    seeds: tuple[int, ...],
    out: Path,
    overrides: tuple[str, ...],
    axes: dict[str, tuple[str, ...]],
    registry: Path | None,
) -> None:
    """Leaves ``compare.json`` and ``report.html`` in ``out``."""
    opened = Registry.open(registry)
    section = data_section(data, opened.plugins)
    identity = opened.plugins.choose("dataset", section, "data").build().identity()
    chosen = recipes or tuple(opened.recipes())
    make_folder(out)
    runs = plan(opened, chosen, section, identity, seeds, out, overrides, axes)
    missing = [run for run in runs if not run.record.is_file()]
    say(f"compare {', '.join(dict.fromkeys(run.entry for run in runs))} on {identity['name']}, seeds "
        f"{', '.join(map(str, seeds))}: {len(missing)} of {len(runs)} runs to do, {cores()} at once")  # fmt: skip
    common = {"data": section, "registry": str(registry) if registry else None}
    _fit_codecs(missing, common)
    _train(missing, common)
    records = [load_record(run.record) for run in runs]
    command = _command(recipes, data, seeds, out, overrides, axes)
    write_comparison(out / "compare.json", records, identity, command)
    write_report(out / "report.html", records, identity, list(_masks(runs)), command)
    for line in table(records):
        say(line)
    say(f"figures: {out / 'compare.json'}")
    say(f"report:  {out / 'report.html'}")


def _fit_codecs(runs: Sequence[Run], common: Mapping[str, Any]) -> None:
    jobs = {
        run.codecs: Job(
            f"the codecs of {run.entry}",
            run.codecs,
            {**common, "kind": "fit", "recipe": run.recipe.dump(), "folder": str(run.codecs)},
        )
        for run in runs
        if not (run.codecs / "codecs.json").is_file()
    }
    if jobs:
        with bar("codecs") as progress:
            run_all(
                list(jobs.values()), lambda active, done: progress.update(done / len(jobs), _last(active))
            )


def _train(runs: Sequence[Run], common: Mapping[str, Any]) -> None:
    if not runs:
        return
    jobs = [
        Job(
            f"{run.entry}, seed {run.recipe.train.seed}",
            run.folder,
            {
                **common,
                "kind": "run",
                "recipe": run.recipe.dump(),
                "folder": str(run.folder),
                "codecs": str(run.codecs),
                "entry": run.entry,
            },
        )
        for run in runs
    ]
    with bar("train and evaluate") as progress:
        run_all(jobs, lambda active, done: progress.update(_share(jobs, active, done), _last(active)))


def _share(jobs: Sequence[Job], active: Sequence[Job], done: int) -> float:
    """The share of all runs that is done; an active one counts by its budget, evaluation as the last fifth."""
    return (done + sum(0.8 * _spent(job) for job in active)) / len(jobs)


def _spent(job: Job) -> float:
    log = job.folder / "metrics.jsonl"
    try:
        last = json.loads(log.read_text().splitlines()[-1])
        return min(1.0, last["flops"] / job.work["recipe"]["train"]["flops"])
    except (OSError, IndexError, ValueError, KeyError):
        return 0.0


def _last(active: Sequence[Job]) -> str:
    return " | ".join(job.name for job in active)


def _masks(runs: Sequence[Run]) -> Iterator[MaskPicture]:
    """Each mask once, with the entries that use it."""
    drawn: dict[tuple, list[str]] = {}
    for run in runs:
        made = read_json(run.folder / "mask.json", "mask")
        key = (made["expression"], tuple(made["drawing"]), tuple(made["labels"]))
        entries = drawn.setdefault(key, [])
        if run.entry not in entries:
            entries.append(run.entry)
    for (expression, drawing, labels), entries in drawn.items():
        yield MaskPicture(tuple(entries), expression, drawing, labels)


def table(records: Sequence[RunRecord]) -> Iterator[str]:
    """The figures as lines: one a metric, a column an entry, with intervals from 3 seeds on."""
    by_entry: dict[str, list[RunRecord]] = {}
    for record in records:
        by_entry.setdefault(record.entry, []).append(record)
    found = {entry: summaries(rows) for entry, rows in by_entry.items()}
    yield f"{'':26}" + "".join(f"{entry:>28}" for entry in found)
    for name in ordered(sorted({name for each in found.values() for name in each})):
        one, cells = figure(name), []
        for each in found.values():
            summary = each.get(name)
            if summary is None or summary.mean is None:
                cells.append("–")
            elif summary.low is None:
                cells.append(f"{one.show(summary.mean)} ({', '.join(one.show(v) for v in summary.values)})")
            else:
                cells.append(f"{one.show(summary.mean)} [{one.show(summary.low)}, {one.show(summary.high)}]")
        yield f"{name:26}" + "".join(f"{cell:>28}" for cell in cells)


def _command(
    recipes: Sequence[str],
    data: str,
    seeds: Sequence[int],
    out: Path,
    overrides: Sequence[str],
    axes: Mapping[str, Sequence[str]],
) -> str:
    """What does it again."""
    import shlex

    words = [
        "transfuse",
        "compare",
        *recipes,
        "--data",
        data,
        "--seeds",
        ",".join(map(str, seeds)),
        "--out",
        str(out),
    ]
    words += [word for override in overrides for word in ("--set", override)]
    words += [word for key, values in axes.items() for word in ("--axis", f"{key}={','.join(values)}")]
    return shlex.join(words)
