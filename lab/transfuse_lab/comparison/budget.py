"""What a plan's runs cost: told before anything is started, and kept to."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transfuse.checkpoints import has_codecs
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins

from transfuse_lab.comparison.compare import names, trained
from transfuse_lab.comparison.jobs import Job
from transfuse_lab.comparison.keeping import PLACE, SECONDS, spent
from transfuse_lab.comparison.plan_file import Plan
from transfuse_lab.comparison.run import Run, short_hash
from transfuse_lab.progress import Bar, say
from transfuse_lab.report.figures import number
from transfuse_lab.runs.forecast import Forecast, in_time, of_codecs, of_training
from transfuse_lab.runs.records import RunRecord, load_record
from transfuse_lab.runs.survey import Surveyed
from transfuse_lab.tables import aligned

SECONDS_APART = 2.0
"""Between looks at how far jobs have come."""
FEW = 0.02
"""Of a budget, that may be overdrawn by what is only expected."""


@dataclass(frozen=True)
class Expected:
    """Core-seconds of training and evaluating one run, what it shares with a longer one left out; bytes on the disk."""

    flops: float
    training: float
    evaluation: float
    size: int = 0

    @property
    def seconds(self) -> float:
        return self.training + self.evaluation


class Costs:
    """What runs are expected to cost: by a trial of a few steps of each kind, and by what evaluations took so far."""

    def __init__(
        self, plan: Plan, surveyed: Mapping[str, Surveyed], plugins: Plugins, records: Sequence[RunRecord]
    ) -> None:
        self.plan, self.surveyed, self.plugins = plan, surveyed, plugins
        self._told: dict[str, tuple[float, int]] = {}
        self._evaluations: dict[str, list[float]] = {}
        for one in records:
            size, seconds = one.facts.get(PLACE, {}).get("size"), float(one.facts.get(SECONDS) or 0.0)
            trained = one.metrics.get("training_seconds", seconds) * self._own_share(one)
            self._evaluations.setdefault(size, []).append(max(0.0, seconds - trained))

    def _own_share(self, record: RunRecord) -> float:
        place = record.facts.get(PLACE, {})
        if "drawn" in place:
            return 0.0
        return 1.0 if place.get("share", 1.0) == 1.0 else self.plan.schedule.cooldown

    def of(self, run: Run) -> Expected:
        """A run's. Raises TransfuseError, naming it, where it could not be trained."""
        size, flops = run.place["size"], 0.0
        if run.drawn is None:
            flops = (run.recipe.train.flops or 0.0) * (run.recipe.train.cooldown if run.branch else 1.0)
        evaluations = self._evaluations.get(size) or [self.plan.sizes[size].evaluation]
        each = sum(evaluations) / len(evaluations) * (1 + len(run.also))
        if not flops:
            return Expected(0.0, 0.0, each)
        speed, size = self._tried(run.trunk)
        return Expected(flops, flops / speed, each, size)

    def _tried(self, run: Run) -> tuple[float, int]:
        """FLOPs a second and bytes of a run, tried once of recipes that compute the same."""
        dump = run.recipe.dump()
        key = short_hash([dump["modalities"], dump["model"], dump["mask"], dump["train"]["budget"]])
        if key not in self._told:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # as jobs have
            try:
                told = of_training(self.surveyed[run.entry], self.plugins)
            except TransfuseError as error:
                raise TransfuseError(f"{run.entry}: {error}") from error
            finally:
                torch.set_num_threads(threads)
            budget = self.surveyed[run.entry].recipe.train.flops or 0.0
            self._told[key] = budget / max(told.core_seconds, 1e-9), told.size
        return self._told[key]

    def codecs(self, runs: Sequence[Run]) -> float:
        """Core-seconds of the codecs that are not fit yet."""
        found: dict[Path, Forecast] = {}
        for run in runs:
            if run.codecs not in found and not has_codecs(run.codecs):
                found[run.codecs] = of_codecs(self.surveyed[run.trunk.entry])
        return sum(one.seconds for one in found.values())


def listed(
    plan: Plan, runs: Sequence[Run], todo: Sequence[Run], costs: Costs, used: float, cores: int
) -> Iterator[str]:
    """The budget as lines: a kind of run each, then all of it against what the plan allows.

    used: core-seconds that are spent already. Branches stand with the run that they leave.
    """
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        kinds.setdefault(run.trunk.entry if run.drawn is None else run.entry, []).append(run)
    names, rows, total = {run.name for run in todo}, [], costs.codecs(todo)
    for entry, own in kinds.items():
        left = [run for run in own if run.name in names]
        one = [costs.of(run) for run in own if run.trunk.recipe.train.seed == own[0].trunk.recipe.train.seed]
        hours = sum(costs.of(run).seconds for run in left) / 3600
        total += 3600 * hours
        rows.append([
            entry, f"{len(left)} of {len(own)}", number(sum(each.flops for each in one)),
            f"{sum(each.training for each in one) / 60:.1f}", f"{sum(each.evaluation for each in one) / 60:.1f}",
            f"{hours:.2f}",
        ])  # fmt: skip
    heads = ["kind of run", "to do", "FLOPs", "minutes training", "and evaluating", "core-hours left"]
    yield from aligned([heads, *rows])
    yield (
        f"{len(todo)} of {len(runs)} runs to do: {total / 3600:.2f} core-hours with codecs, as far as a trial of a few "
        f"steps tells, {in_time(total / cores)} on {cores} cores; {used / 3600:.2f} of {plan.hours:g} are spent"
    )
    if used + total > plan.hours * 3600:
        yield (
            f"that is more than the plan allows: it stops starting runs when {plan.hours:g} core-hours are spent, and "
            f"the last runs stay undone"
        )


class Purse:
    """What is left of a plan's core-hours while its jobs go; asked before each."""

    def __init__(self, plan: Plan, expected: Mapping[str, float], folder: Path) -> None:
        self.plan, self.expected, self.folder = plan, expected, folder
        self._started: dict[str, Job] = {}
        self._refused: list[str] = []

    @property
    def used(self) -> float:
        """Core-seconds of all records in the plan's folder, and of what is at it as far as expected."""
        going = sum(self.expected[name] for name, job in self._started.items() if not _ended(job))
        return spent(all_records(self.folder)) + going

    def may_start(self, job: Job) -> bool:
        """Whether there is enough left for it; says so once where there is not."""
        most = self.plan.hours * 3600
        if self.used + self.expected[job.name] > most * (1 + FEW):
            if not self._refused:
                say(f"{job.name} is not started: {self.plan.hours:g} core-hours are all that the plan allows")
            self._refused.append(job.name)
            return False
        self._started[job.name] = job
        return True


def _ended(job: Job) -> bool:
    return all(Path(part["kept"] or part["record"]).is_file() for part in job.work["parts"])


def all_records(folder: Path) -> list[RunRecord]:
    """Of a plan's folder, of tuning too."""
    return [load_record(path) for path in sorted(folder.rglob("*.json"))] if folder.is_dir() else []


class Following:
    """Tells how far a plan's jobs have come: a bar, a line each time one has ended, and the time left.

    expected: core-seconds of each job, by name.
    """

    def __init__(self, jobs: Sequence[Job], expected: Mapping[str, float], places: int, shown: Bar) -> None:
        self.jobs, self.expected, self.places, self.shown = jobs, expected, places, shown
        self.began, self.first, self._told = time.monotonic(), self._share(), 0
        self._looked = 0.0

    def _share(self) -> float:
        """Of all that is expected, by what was trained so far; a job's last tenth is its evaluation."""
        total = sum(self.expected[job.name] for job in self.jobs) or 1.0
        return sum(self.expected[job.name] * _come(job) for job in self.jobs) / total

    def __call__(self, active: Sequence[Job], done: int) -> None:
        now = time.monotonic()
        if now - self._looked < SECONDS_APART and done == self._told:
            return
        self._looked = now
        share = self._share()
        gone, here = time.monotonic() - self.began, share - self.first
        total = sum(self.expected[job.name] for job in self.jobs) / self.places
        left = gone * (1 - share) / here if here > 0.05 else total * (1 - share)
        note = f"{done} of {len(self.jobs)} jobs done, {in_time(left)} left: {names(active)}"
        if done > self._told:
            self._told = done
            say(note)
        self.shown.update(min(1.0, share), note)


def _come(job: Job) -> float:
    return 1.0 if _ended(job) else 0.9 * trained(job)
