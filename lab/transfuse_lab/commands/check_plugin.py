"""`transfuse plugins check NAME`: the kits of `transfuse.testing` over every part that a plugin brings, a line each."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from transfuse.config.parts import Chosen, noun
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, restrict
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.metrics import Evaluation, Metric
from transfuse.modalities.objective import Sampler, SpanObjective, TokenObjective
from transfuse.registry import Registry
from transfuse.registry.plugin_contents import PluginContents
from transfuse.registry.plugins import Plugins
from transfuse.testing.kits.attention import ATTENTION, AttentionCase
from transfuse.testing.kits.block import BLOCK, BlockCase
from transfuse.testing.kits.codec import CODEC
from transfuse.testing.kits.dataset import DATASET, DataSetCase
from transfuse.testing.kits.metric import METRIC, MetricCase
from transfuse.testing.kits.modality import MODALITY
from transfuse.testing.kits.modality_case import ModalityCase
from transfuse.testing.kits.objective import OBJECTIVE, ObjectiveCase
from transfuse.testing.kits.raw_case import RawDataCase
from transfuse.testing.kits.runner import Kit, LeftOut
from transfuse.testing.kits.sampler import SAMPLER, SamplerCase

from transfuse_lab.datasets import open_data
from transfuse_lab.evaluation.measure import may_mean
from transfuse_lab.evaluation.tasks import ask, examples, roles_of, tasks_of
from transfuse_lab.progress import say

RAWS, PROMPTS, LOOKED_AT = 24, 24, 256
"""So many raw data of a role are read, and so many prompts of a task."""
KITS: dict[str, Kit[Any]] = {
    "modality": MODALITY,
    "codec": CODEC,
    "objective": OBJECTIVE,
    "sampler": SAMPLER,
    "attention": ATTENTION,
    "block": BLOCK,
    "dataset": DATASET,
    "metric": METRIC,
}
SAID = {"ok": "holds", "fails": "FAILS", "does not": "declared", "left out": "left out"}
"""How the outcomes of checks are called, in a line and in the sum."""


def check_command(name: str, data: str | None, registry: Path | None) -> bool:
    """Prints a line a check, and a sum a part; returns whether none fails.

    data: whose raw data are tried, what ``--data`` takes; by default a data set of the plugin, else another that has
    some of the role. Raises TransfuseError where no plugin of this name is loaded.
    """
    known = Registry.open(registry)
    plugin = _plugin(known, name)
    material = Material(known, plugin, data)
    well = [_check(material, kind, part) for kind, part in plugin.parts]
    if not well:
        say(
            f"plugin {name!r} brings no parts, and nothing of a registry is checked here: transfuse doctor does"
        )
    return all(well)


def _plugin(registry: Registry, name: str) -> PluginContents:
    for contents in registry.plugins.loaded:
        if contents.plugin.name == name:
            return contents
    for error in registry.plugins.broken:
        if error.plugin.name == name:
            raise error
    hint = did_you_mean(name, (contents.plugin.name for contents in registry.plugins.loaded))
    raise TransfuseError(f"no plugin {name!r} is loaded; {hint} (transfuse plugins list)")


def _check(material: "Material", kind: str, name: str) -> bool:
    """Runs the kit of one part; whether nothing fails."""
    title = f"{noun(kind)} {name}"
    if kind not in KITS:
        say(f"{title}: no kit of its own; what uses it is checked with it")
        return True
    try:
        case, of = material.case(kind, name)
    except LeftOut as reason:
        say(f"{title}: left out, since {reason}")
        return True
    except TransfuseError as error:
        say(f"{title}: FAILS: {error}")
        return False
    say(f"{title}{of}")
    counts: Counter[str] = Counter()
    for outcome in KITS[kind].run(case):
        counts[SAID[outcome.status]] += 1
        text = (
            outcome.text
            if outcome.status == "fails"
            else f"{outcome.check}: {outcome.text}".removesuffix(": ")
        )
        say(f"  {SAID[outcome.status]:8}  {text}")
    say(f"{title}: {', '.join(f'{counts[said]} {said}' for said in SAID.values() if counts[said])}")
    return not counts["FAILS"]


@dataclass(frozen=True)
class Material:
    """What the parts of a plugin are tried with: raw data of the roles, recipes and tasks that there are."""

    registry: Registry
    plugin: PluginContents
    data: str | None

    def case(self, kind: str, name: str) -> tuple[Any, str]:
        """A part, ready for its kit, and of what it is tried. Raises LeftOut where there is nothing to try it with."""
        if kind == "modality":
            return self._modality(name)
        if kind == "codec":
            return self._codec(name)
        if kind == "dataset":
            return self._dataset(name)
        if kind == "block":
            return BlockCase(self._chosen(kind, name)), ", in models of letters and numbers"
        part = self._chosen(kind, name).build()
        if kind == "metric":
            return self._metric(part)
        if kind == "attention":
            return AttentionCase(part), " on the CPU"
        wanted = (SpanObjective, TokenObjective) if kind == "objective" else Sampler
        if not isinstance(part, wanted):
            raise LeftOut(
                f"it is of a kind of its own, {type(part).__name__}; what uses it is checked with it"
            )
        return (ObjectiveCase if kind == "objective" else SamplerCase)(part), ""

    def _chosen(self, kind: str, name: str) -> Chosen[Any]:
        needs = [
            key
            for key, field in self.plugin.parts[kind, name].settings.model_fields.items()
            if field.is_required()
        ]
        if needs:
            raise LeftOut(f"it needs a setting, {needs[0]}: test it by a class of transfuse.testing")
        return self.registry.plugins.choose(kind, name)

    # -- data

    @cached_property
    def sets(self) -> list[DataSet]:
        """The data sets that open: the one given, or the plugin's own and then all others."""
        plugins = self.registry.plugins
        if self.data is not None:
            return [open_data(self.data, plugins)]
        names = [name for kind, name in self.plugin.parts if kind == "dataset"]
        names += [name for name in plugins.parts("dataset") if name not in names]
        return list(opened(names, plugins))

    def raws(self, data: DataSet, role: str) -> list[Any]:
        """Of the first ``LOOKED_AT`` two unlike ones of each shape, where there are two; then others."""
        shapes: dict[Any, list[Any]] = {}
        others: list[Any] = []
        for raw in islice(data.raw("train", role), LOOKED_AT):
            alike = shapes.setdefault(_shape(raw), [])
            unlike = not alike or (len(alike) == 1 and not np.array_equal(raw, alike[0]))
            (alike if unlike else others).append(raw)
        pairs_first = sorted(shapes.values(), key=len, reverse=True)
        return [*chain.from_iterable(pairs_first), *others][:RAWS]

    # -- parts

    def _modality(self, kind: str) -> tuple[ModalityCase, str]:
        for data in self.sets:
            roles = set(roles_of(data))
            for recipe, role in self._recipes(kind, data):
                if role in roles:
                    modality = recipe.modalities[role].build(name=role)
                    case = ModalityCase(modality, self.raws(data, role), recipe.mask, recipe.model.rope)
                    return case, f", as {role!r} of the recipe {recipe.name}, on {data.name}"
        chosen = self._chosen("modality", kind)
        for data in self.sets:
            for role in roles_of(data):
                case = ModalityCase(chosen.build(name=role), self.raws(data, role))
                if _works(case):
                    return case, f", as {role!r}, on {data.name}"
        raise LeftOut("no recipe and data set here have raw data of it: give some by --data")

    def _recipes(self, kind: str, data: DataSet) -> Iterator[tuple[Recipe, str]]:
        """The recipes with a role of this kind, the plugin's own first."""
        own = self.plugin.entries.get("recipes", {})
        for name in sorted(self.registry.names("recipes"), key=lambda name: name not in own):
            try:
                recipe = self.registry.recipe(name, (), data.name)
            except TransfuseError:
                continue
            yield from ((recipe, role) for role, chosen in recipe.modalities.items() if chosen.name == kind)

    def _codec(self, name: str) -> tuple[RawDataCase, str]:
        for data in self.sets:
            for role in roles_of(data):
                case = RawDataCase(self._chosen("codec", name).build(), self.raws(data, role))
                if _works(case):
                    return case, f", on {role!r} of {data.name}"
        raise LeftOut("no data set here has raw data that it takes: give some by --data")

    def _dataset(self, name: str) -> tuple[DataSetCase, str]:
        try:
            one, anew = (self._chosen("dataset", name).build() for _ in range(2))
            return DataSetCase(one, anew), ""
        except TransfuseError as error:  # it has not been fetched, or not been built
            raise LeftOut(f"it does not open: {error}") from error

    def _metric(self, metric: Metric) -> tuple[MetricCase, str]:
        for data in self.sets:
            roles = roles_of(data)
            data = restrict(data, roles)
            for task in tasks_of(data, roles):
                asked = ask(data, "test", task, PROMPTS)
                truth = list(asked.truth)
                given = [item.data for prompt in asked.prompts for item in prompt]
                if len(truth) > 1 and may_mean(metric.applies_to, task, given, truth):
                    evaluation = Evaluation(
                        task, list(asked.prompts), truth, list(truth), rebuilt=truth, nats=10.0, tokens=10,
                        examples=examples(data, task),
                    )  # fmt: skip
                    return MetricCase(metric, evaluation), f", on {task} of {data.name}"
        raise LeftOut("no data set here has a task that it applies to: give one by --data")


def opened(names: Iterable[str], plugins: Plugins) -> Iterator[DataSet]:
    """Those that open and can be read."""
    for name in names:
        try:
            data = open_data(name, plugins)
            roles_of(data)
        except TransfuseError:
            continue  # it needs settings, or has not been built or fetched
        yield data


def _works(case: RawDataCase) -> bool:
    """Whether it takes these raw data at all."""
    try:
        return bool(case.payloads)
    except TransfuseError:
        return False


def _shape(raw: Any) -> Any:
    """What raw data have in common that may be compared by their numbers or letters."""
    return len(raw) if isinstance(raw, str) else raw.shape if isinstance(raw, np.ndarray) else type(raw)
