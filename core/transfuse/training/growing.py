"""A model that begins from a run, with more roles than the run has: what the run has learnt keeps its place.

Ids of the vocabulary keep their numbers, and new ones follow. What is new is as it was drawn, or begins as the block
says; no new id can be predicted before it was once a target, so that losses of the run's roles are the same bits.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transfuse.checkpoints import RunFolder
from transfuse.config.merge import differing
from transfuse.config.recipe import Recipe, TrainSettings
from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality
from transfuse.model.build import build_modalities, build_model
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins
from transfuse.sequences.vocabulary import Vocabulary, vocabulary_for
from transfuse.training.sharding import rows_here

INHERITED = "inherited"
"""What ``train.lr_scale`` calls all that a run has from the one that it began from."""
SHAPES = (
    "dim",
    "layers",
    "heads",
    "kv_heads",
    "head_dim",
    "hidden",
    "qk_norm",
    "post_norm",
    "qkv_bias",
    "tied",
)
"""Settings of the backbone under which weights have their shapes and their meaning."""


@dataclass(frozen=True)
class Inherited:
    """What a model has from the run that it began from: the layers of these roles, and the first ids."""

    roles: tuple[str, ...]
    ids: int

    def dump(self) -> dict[str, Any]:
        """JSON, kept with a run; `of` reads it."""
        return asdict(self)

    @staticmethod
    def of(dump: Mapping[str, Any] | None) -> "Inherited | None":
        return None if dump is None else Inherited(tuple(dump["roles"]), dump["ids"])

    def weights(self, model: Model) -> list[nn.Parameter]:
        """What positions of these roles go through in the backbone, and the layers that the roles bring."""
        shared = {p: None for role in self.roles for _, p in model.backbone.weights(role)}
        return [*shared, *(p for role in self.roles for p in model.modalities[role].parameters())]

    def held_rows(self, model: Model, train: TrainSettings) -> "HeldRows | None":
        """What keeps the embedding's and output layer's inherited rows as ``train.lr_scale.inherited`` says."""
        factor = (train.lr_scale or {}).get(INHERITED, 1.0)
        if not isinstance(factor, float | int) or factor == 1:
            return None
        tables = dict.fromkeys((model.tokens.weight, model.unembed.weight))
        return HeldRows(
            [p for p in tables if isinstance(p, nn.Parameter) and p.requires_grad], self.ids, factor
        )


def inherit(run: RunFolder, there: Recipe, recipe: Recipe) -> Inherited:
    """What a model of the recipe takes over from a run, ``there`` its recipe: known before anything costs.

    Raises TransfuseError naming the role whose codec is another, or the setting of the backbone that differs.
    """
    roles = tuple(role for role in recipe.modalities if role in there.modalities)
    if not roles:
        raise TransfuseError(
            f"--from {run.path}: its roles are {', '.join(there.modalities)}, and the recipe has none of them: "
            f"name one of them as it does, or begin without"
        )
    for role in roles:
        before, now = there.modalities[role].learnt(), recipe.modalities[role].learnt()
        if before != now:
            raise TransfuseError(
                f"--from {run.path}: role {role!r}: {differing(before, now)}; its codec is that run's, or begin without"
            )
    for key in SHAPES:
        before, now = getattr(there.model, key), getattr(recipe.model, key)
        if before != now:
            raise TransfuseError(
                f"--from {run.path}: model.{key} is {before} there and {now} here: say --set model.{key}="
                f"{'null' if before is None else str(before).lower()}, or begin without"
            )
    if len(roles) == len(recipe.modalities) and (recipe.train.lr_scale or {}).get(INHERITED) == 0:
        raise TransfuseError(
            f"--from {run.path}: train.lr_scale.{INHERITED}=0 leaves nothing to train, since that run has all roles of "
            f"the recipe: leave it out, or add a role"
        )
    return Inherited(roles, Vocabulary.from_dump(run.description["vocabulary"]).size)


def grow(
    run: RunFolder,
    there: Recipe,
    recipe: Recipe,
    plugins: Plugins,
    fit: Callable[[Mapping[str, Modality]], Any] = lambda modalities: None,
) -> Model:
    """The recipe's model with all that a run has learnt, averaged if it averages its weights.

    fit: is given the modalities that the run has not, to fit them to data. Raises TransfuseError as `inherit`, and
    naming weights that have another place or shape.
    """
    inherited = inherit(run, there, recipe)
    _, old = run.load(plugins)
    modalities = build_modalities(recipe)
    new = {role: modality for role, modality in modalities.items() if role not in inherited.roles}
    for role in inherited.roles:
        seam.call(modalities[role], "restore", run.description["modalities"][role])
    if new:
        fit(new)
    place = _Place(run, there, recipe)
    vocabulary = place.vocabulary(modalities, old.vocabulary, inherited)
    model = build_model(recipe, modalities, plugins, vocabulary, start=False)
    place.all(old, model, inherited)
    return model.train()


@dataclass(frozen=True)
class _Place:
    """Where weights of a run go; faults name both sides."""

    run: RunFolder
    there: Recipe
    recipe: Recipe

    @torch.no_grad()
    def all(self, old: Model, new: Model, inherited: Inherited) -> None:
        tables = {id(new.tokens.weight): (old.tokens.weight, new.tokens.weight)}
        tables[id(new.unembed.weight)] = (old.unembed.weight, new.unembed.weight)
        for before, now in tables.values():
            now[: inherited.ids] = before
        new.predictable.fill_(False)
        new.predictable[: inherited.ids] = old.predictable
        for role in inherited.roles:
            self.role(role, old.modalities[role], new.modalities[role])
        placed: dict[Tensor, Tensor] = {}
        for role in inherited.roles:
            self.block(role, old, new, placed)
        for role in new.modalities:
            if role not in inherited.roles:
                new.backbone.begin(role)

    def vocabulary(
        self, modalities: Mapping[str, Modality], old: Vocabulary, inherited: Inherited
    ) -> Vocabulary:
        """The run's, with what new roles need at its end."""
        try:
            return vocabulary_for(modalities, old)
        except TransfuseError as error:
            before, now = (
                {role: r.modalities[role].dump() for role in inherited.roles}
                for r in (self.there, self.recipe)
            )
            raise TransfuseError(
                f"--from {self.run.path}: {error}: {differing(before, now)}; set these as that run does, or begin "
                f"without"
            ) from error

    def role(self, role: str, old: Modality, new: Modality) -> None:
        """A role's own layers and buffers."""
        before, now = old.state_dict(), new.state_dict()
        if fault := _unlike(before, now):
            sections = self.there.modalities[role].dump(), self.recipe.modalities[role].dump()
            raise TransfuseError(
                f"--from {self.run.path}: role {role!r}: {fault}; {differing(*sections) or 'its plugin has changed'}: "
                f"set it as that run does, or begin without"
            )
        new.load_state_dict(before)

    def block(self, role: str, old: Model, new: Model, placed: dict[Tensor, Tensor]) -> None:
        """What a role's positions go through, by the names it has where all roles share it."""
        before, now = dict(old.backbone.weights(role)), dict(new.backbone.weights(role))
        theirs, ours = ({"model": {"block": r.dump()["model"]["block"]}} for r in (self.there, self.recipe))
        blocks = differing(theirs, ours)
        if fault := _unlike(before, now):
            raise TransfuseError(
                f"--from {self.run.path}: {blocks or 'model.block'}: {fault}; say --set model.block as that run does, "
                f"or begin without"
            )
        for name, parameter in now.items():
            if placed.setdefault(parameter, before[name]) is not before[name]:
                raise TransfuseError(
                    f"--from {self.run.path}: {blocks}: there {role!r} has weights of its own, and here it shares them "
                    f"with another role of that run: say --set model.block as that run does, or begin without"
                )
            parameter.copy_(before[name])


def _unlike(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> str:
    """The first weights that two sets do not share; empty where they agree."""
    for name in sorted(before.keys() | now.keys()):
        shapes = [str(list(side[name].shape)) if name in side else "missing" for side in (before, now)]
        if shapes[0] != shapes[1]:
            return f"the weights {name!r} are {shapes[0]} there and {shapes[1]} here"
    return ""


class HeldRows:
    """The first rows of tables take ``factor`` of each step, 0 keeps them bit for bit; the others all of it."""

    def __init__(self, tables: Iterable[nn.Parameter], rows: int, factor: float) -> None:
        self.held, self.factor = [(table, rows) for table in tables], factor
        self._before: list[Tensor] = []

    def of_parts(self, parts: Mapping[nn.Parameter, nn.Parameter]) -> "HeldRows":
        """The same of a rank's parts of the tables, which are whole where one process trains."""
        found = HeldRows([], 0, self.factor)
        found.held = [(parts[table], rows_here(table, rows)) for table, rows in self.held]
        return found

    @torch.no_grad()
    def before_step(self) -> None:
        """What is frozen has no gradient, and no part in the norm that is clipped."""
        self._before = [table[:rows].clone() for table, rows in self.held]
        for table, rows in self.held:
            if not self.factor and table.grad is not None:
                table.grad[:rows] = 0

    @torch.no_grad()
    def after_step(self) -> None:
        for (table, rows), before in zip(self.held, self._before, strict=True):
            own = table[:rows]
            own.copy_(before + self.factor * (own - before) if self.factor else before)
