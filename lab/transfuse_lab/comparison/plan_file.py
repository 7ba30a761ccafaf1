"""A plan: what is compared, what is asked of it, and what would answer, written down before anything is run.

A YAML file; `docs/comparing.md` explains each part. Paths in it begin at the file's own folder.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator
from transfuse.config.located import Located
from transfuse.config.parts import Settings
from transfuse.config.validation import InvalidSettings, Loc
from transfuse.errors import TransfuseError, did_you_mean

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=60)]
Sets = tuple[str, ...]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Share = Annotated[float, Field(gt=0, le=1)]


class Arm(Settings):
    """One side of a comparison."""

    recipe: str
    """By the registry's name."""
    set: Sets = ()
    """``key=value``, laid over the recipe."""
    like: Name | None = None
    """The arm whose tuned settings it takes; None: its own, if it is tuned."""


class Size(Settings):
    """A model's size, and its budget."""

    set: Sets = ()
    """Such as ``model.dim=128``."""
    flops: Positive
    """Training FLOPs of a run, by the group's lens."""
    speed: Positive | None = None
    """FLOPs a CPU-second that are counted on; only told, and what a check of speed compares with."""
    evaluation: Positive = 60.0
    """CPU-seconds of an evaluation that are counted on until one is measured."""


class Schedule(Settings):
    """The learning rate: rising, constant, and falling at the end, so that shorter runs branch off a longer one."""

    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the whole budget."""
    cooldown: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each branch's budget."""


Lens = Literal["total", "without output layer", "documents"]


class Group(Settings):
    """Runs that belong together: arms × sizes × axes × seeds."""

    arms: tuple[Name, ...] | None = None
    """None: all."""
    sizes: tuple[Name, ...] | None = None
    """None: all."""
    seeds: tuple[Seed, ...] = Field(min_length=1)
    """A run each, paired over arms."""
    shares: tuple[Share, ...] = (1.0,)
    """Of the budget, at which a run is cooled down and measured; 1 is always there."""
    axes: dict[str, list[str]] = Field(default={})
    """Settings with the values that are crossed."""
    lens: Lens = "total"
    """What is equal over arms: all FLOPs, those without the output layer, or documents; in the first arm the size's
    FLOPs."""
    set: Sets = ()
    """Laid over all else."""
    data: str | None = None
    """Instead of the plan's."""
    also: tuple[Name, ...] = ()
    """Further splits of the data that full runs are measured on, as ``figure@split``."""

    @model_validator(mode="after")
    def _whole(self) -> "Group":
        if len({*self.seeds}) < len(self.seeds):
            raise InvalidSettings([(("seeds",), "has one twice")])
        return self


class Hypothesis(Settings):
    """A difference between two arms in a figure, over seeds that both have."""

    figure: str
    """By name."""
    arms: tuple[Name, Name]
    """The first is said to be the better one."""
    margin: Positive
    """A difference within it, to either side, does not matter."""
    primary: bool = False
    """Whether its p is corrected with those of the other primary ones (Holm)."""
    groups: tuple[Name, Name] | None = None
    """Of the two arms; None: both of the first group."""
    size: Name | None = None
    """None: the last."""
    share: Share = 1.0
    """Of the budget."""
    relative: bool = False
    """Differences, margin and all are shares of the second arm's mean."""
    better: Literal["higher", "lower"] | None = None
    """None: as the figure says."""
    chance: float | None = None
    """What a run that diverged scores; None: with such a run there is no answer."""
    axis: str | None = None
    """``key=value`` of the runs that are meant, where their group has axes."""

    @model_validator(mode="after")
    def _two(self) -> "Hypothesis":
        one, other = self.groups or ("", "")
        if self.arms[0] == self.arms[1] and one == other:
            raise InvalidSettings([(("arms",), "are one and the same: name another arm, or two groups")])
        return self


class Scaling(Settings):
    """A figure against compute: power laws or slopes of each arm, and how much compute one saves."""

    figure: str
    """By name."""
    arms: tuple[Name, Name]
    """Whose parity ratio is asked for, and against which."""
    group: Name | None = None
    """None: the first."""
    chance: float | None = None
    """What a run that diverged scores; None: with such a run there is no answer."""


class Check(Settings):
    """A figure of the runs that has to lie within bounds."""

    statistic: Literal[
        "lowest", "mean", "apart", "slope", "sd", "speed", "same", "interior", "false finds", "difference", "sign"
    ]  # fmt: skip
    """``lowest`` of all runs; ``mean`` of each arm; means of arms ``apart``; ``slope`` of each arm an e-fold of
    compute; ``sd`` of a paired difference; ``speed`` over what was planned; how many figures of repeated runs
    are not the ``same``; share of tuned optima that are ``interior``; ``false finds`` among runs of one recipe; mean
    ``difference`` to the same arm of another group; ``sign`` of the arms' difference as in another group."""
    figure: str = ""
    """By name."""
    group: Name | None = None
    """None: the first."""
    other: Name | None = None
    """The group that it is compared with."""
    arms: tuple[Name, ...] | None = None
    """None: all of the group."""
    size: Name | None = None
    """None: all of the group."""
    at_least: float | None = None
    """None: no bound."""
    at_most: float | None = None
    """None: no bound."""
    seeds: int = Field(5, ge=2)
    """Of an arm, in ``false finds``."""
    wanted: Positive | None = None
    """Of ``sd``: the true difference that is to be found, for which the number of seeds is told. Of ``sign``: the
    least difference that has one."""
    level: float = Field(0.05, gt=0, lt=1)
    """Of ``sd``: of the test that is to find it, such as a third of 5 % where Holm has three hypotheses."""


class Knob(Settings):
    """A setting that is searched."""

    key: str
    """Such as ``train.lr``."""
    values: tuple[float, ...] = Field(min_length=3)
    """Rising."""
    extend: bool = True
    """Whether the grid grows while its best value is the first or the last."""

    @model_validator(mode="after")
    def _rising(self) -> "Knob":
        if list(self.values) != sorted({*self.values}) or (self.extend and self.values[0] <= 0):
            raise InvalidSettings([(("values",), "must rise, and be over 0 where the grid may grow")])
        return self


class TunedArm(Settings):
    """What is searched of an arm, one knob after another, each at the best of those before."""

    trained: tuple[Knob, ...] = ()
    """Each value is a run."""
    drawn: dict[str, list[float]] = Field(default={})
    """Of how samples are drawn, such as guidance: all values with all, on the best run."""


class Tune(Settings):
    """The search for each arm's settings, with equal trials, on the split ``tune``, of which nothing is reported."""

    arms: dict[Name, TunedArm] = Field(min_length=1)
    """By name."""
    sizes: tuple[Name, ...] = Field(min_length=1)
    """At which; between and beyond them rates are taken along a line of logarithms."""
    seeds: tuple[Seed, ...] = Field(min_length=1)
    """Of each trial; none of a group's."""
    share: Share = 0.5
    """Of the size's budget."""
    score: dict[str, float] = Field(min_length=1)
    """Weights of the figures, by name, whose sum is to be large."""
    drawn_score: dict[str, float] | None = None
    """The same for how samples are drawn; None: as above."""
    trials: int = Field(12, ge=3, le=1000)
    """The most that a knob is given in an arm."""
    set: Sets = ()
    """Laid over trials, such as ``eval.prompts=256``."""


class Plan(Settings):
    """All of it. Arms, sizes and groups are in the order in which they are shown and run."""

    title: str
    """What is asked, in a line."""
    data: str
    """What ``--data`` takes."""
    records: str
    """The folder that keeps the record of each run."""
    result: str
    """The page that is written of them, ``.md``; its figures stand beside it in ``.json``."""
    registry: str | None = None
    """A registry laid over all others."""
    set: Sets = ()
    """Laid over every recipe, below what arms and sizes say."""
    arms: dict[Name, Arm] = Field(min_length=1)
    """By name."""
    sizes: dict[Name, Size] = Field(min_length=1)
    """By name."""
    schedule: Schedule = Schedule()
    """Of every run."""
    groups: dict[Name, Group] = Field(min_length=1)
    """By name; the first is the main one."""
    hypotheses: dict[Name, Hypothesis] = Field(default={})
    """By name."""
    scaling: dict[Name, Scaling] = Field(default={})
    """By name."""
    checks: dict[Name, Check] = Field(default={})
    """What has to hold for the instrument to be trusted, by name."""
    tune: Tune | None = None
    """What ``transfuse tune`` does."""
    tuned: str | None = None
    """The file that ``transfuse tune`` writes, and whose settings are laid over arms."""
    requires: tuple[str, ...] = ()
    """Results whose checks have to hold before this is begun."""
    hours: Positive
    """Core-hours, tuning and evaluation included, after which no run is started."""

    @model_validator(mode="after")
    def _named(self) -> "Plan":
        faults = [*self._strangers(), *self._tuning()]
        if not self.result.endswith(".md"):
            faults.append((("result",), "should be the name of a page, such as pilot.md"))
        if self.tune is not None and self.tuned is None:
            faults.append((("tuned",), "is missing: the file that `transfuse tune` is to write"))
        if faults:
            raise InvalidSettings(faults)
        return self

    def _strangers(self) -> Iterator[tuple[Loc, str]]:
        """Names that are nowhere said."""
        known: dict[str, Mapping[str, object]] = {
            "arms": self.arms,
            "sizes": self.sizes,
            "groups": self.groups,
        }
        kinds = {
            "arms": "arms",
            "sizes": "sizes",
            "size": "sizes",
            "groups": "groups",
            "group": "groups",
            "like": "arms",
            "other": "groups",
        }
        sections = {
            name: getattr(self, name) for name in ("arms", "groups", "hypotheses", "scaling", "checks")
        }
        for section, parts in [*sections.items(), ("tune", {"": self.tune} if self.tune else {})]:
            for name, part in parts.items():
                place = (section, name) if name else (section,)
                for field in kinds.keys() & type(part).model_fields.keys():
                    said = getattr(part, field)
                    for one in [said] if isinstance(said, str) else said or ():
                        if one not in known[kinds[field]]:
                            yield (*place, field), f"names {one!r}, {did_you_mean(one, known[kinds[field]])}"

    def _tuning(self) -> Iterator[tuple[Loc, str]]:
        """Seeds that chose settings may not judge them."""
        choosing = {*self.tune.seeds} if self.tune else set[int]()
        for name, group in self.groups.items():
            if both := sorted({*group.seeds} & choosing):
                yield (
                    ("groups", name, "seeds"),
                    f"has {both[0]}, which tuning uses: a seed that chose may not judge",
                )

    @property
    def main(self) -> str:
        """The first group's name."""
        return next(iter(self.groups))


@dataclass(frozen=True)
class PlanFile:
    """A plan and where it stands. digest: SHA-256 of the file's bytes, as ``sha256sum`` says it."""

    path: Path
    plan: Plan
    digest: str

    def at(self, name: str) -> Path:
        """A path that the plan names."""
        return self.path.parent / name

    @property
    def out(self) -> Path:
        """Where runs are kept unless somebody says otherwise."""
        return Path("runs") / self.path.stem


def read_plan(path: Path) -> PlanFile:
    """Raises TransfuseError with the line of each fault."""
    if not path.is_file():
        raise TransfuseError(
            f"{path} is not there: name the file of a plan, such as docs/results/pilot-plan.yaml"
        )
    plan = Located.from_file(path).validate(Plan)
    return PlanFile(path, plan, hashlib.sha256(path.read_bytes()).hexdigest())
