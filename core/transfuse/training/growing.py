"""A model that begins from a run, with more roles than the run has: what the run has learnt keeps its place.

Ids of the vocabulary keep their numbers, and new ones follow. What is new is as it was drawn, or begins as the block
says; no new id can be predicted before it was once a target, so that losses of the run's roles are the same bits.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transfuse.checkpoints import Checkpoint, RunFolder
from transfuse.checkpoints.checkpoint import EMA_FILE, MODEL
from transfuse.checkpoints.weights import module_tensors
from transfuse.config.merge import differing
from transfuse.config.recipe import Recipe, TrainSettings
from transfuse.errors import TransfuseError
from transfuse.files import CURE
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality
from transfuse.model.build import build_modalities, build_model
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins
from transfuse.sequences.vocabulary import Vocabulary, vocabulary_for
from transfuse.training.deferred import built
from transfuse.training.pieces import read_into
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
    try:
        return Inherited(roles, Vocabulary.from_dump(run.description["vocabulary"]).size)
    except (LookupError, TypeError, ValueError) as error:
        raise TransfuseError(f"{run.description_file} is damaged ({error!r}): {CURE}") from error


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
    taken = TakenOver(run, there, recipe, plugins)
    modalities = taken.modalities(fit)
    model = build_model(recipe, modalities, plugins, taken.vocabulary(modalities), start=False)
    taken.fill(model)
    return model.train()


class TakenOver:
    """What a model of a recipe takes over from a run, ``there`` the run's recipe. Faults name both sides.

    Of the run's model only shapes are made; its weights are read from the files, a piece at a time, into their places.
    Raises TransfuseError as `inherit`.
    """

    def __init__(self, run: RunFolder, there: Recipe, recipe: Recipe, plugins: Plugins) -> None:
        self.run, self.there, self.recipe = run, there, recipe
        self.inherited = inherit(run, there, recipe)
        self.old, _ = built(lambda: run.build_model(there, plugins))

    def modalities(self, fit: Callable[[Mapping[str, Modality]], Any]) -> dict[str, Modality]:
        """The recipe's, those of the run restored but for their weights; ``fit`` is given those that it has not."""
        modalities = build_modalities(self.recipe)
        for role in self.inherited.roles:
            seam.call(modalities[role], "restore", self.run.description["modalities"][role])
        if new := {role: m for role, m in modalities.items() if role not in self.inherited.roles}:
            fit(new)
        return modalities

    def vocabulary(self, modalities: Mapping[str, Modality]) -> Vocabulary:
        """The run's, with what new roles need at its end."""
        try:
            return vocabulary_for(modalities, self.old.vocabulary)
        except TransfuseError as error:
            before, now = (
                {role: r.modalities[role].dump() for role in self.inherited.roles}
                for r in (self.there, self.recipe)
            )
            raise TransfuseError(
                f"--from {self.run.path}: {error}: {differing(before, now)}; set these as that run does, or begin "
                f"without"
            ) from error

    @torch.no_grad()
    def fill(self, new: Model, checkpoint: Checkpoint | None = None) -> None:
        """Puts all that is taken over into the new model's weights; of those that are divided among ranks, into this
        rank's part. checkpoint: the run's newest, unless ranks have agreed on one."""
        places, checkpoint = self.places(new), checkpoint or self.run.checkpoint
        new.predictable.fill_(False)
        there = module_tensors(self.old)
        read_into(checkpoint.part(MODEL), places, there)
        if self.there.train.ema:
            trained = {name for name, p in self.old.named_parameters() if p.requires_grad}
            read_into(
                checkpoint.part(EMA_FILE), places, {n: t for n, t in there.items() if n in trained}, some=True
            )
        for role in new.modalities:
            if role not in self.inherited.roles:
                new.backbone.begin(role)

    def places(self, new: Model) -> dict[str, list[Tensor]]:
        """Where each tensor of the run's checkpoint goes, by its name there: into the first rows, where a place has
        more. Raises TransfuseError where there is no place for it."""
        stored = {tensor: name for name, tensor in [*self.old.named_buffers(), *self.old.named_parameters()]}
        places: dict[str, list[Tensor]] = {"predictable": [new.predictable]}
        pairs = [(self.old.tokens.weight, new.tokens.weight)]
        if not new.settings.tied:
            pairs.append((self.old.unembed.weight, new.unembed.weight))
        placed: dict[Tensor, Tensor] = {}
        for role in self.inherited.roles:
            pairs += [*self._layers(role, new), *self._block(role, new, placed)]
        for before, now in pairs:
            places.setdefault(stored[before], []).append(now)
        return places

    def _layers(self, role: str, new: Model) -> Iterator[tuple[Tensor, Tensor]]:
        """A role's own layers and buffers, there and here."""
        old, now = self.old.modalities[role], new.modalities[role]
        if fault := _unlike(old.state_dict(), now.state_dict()):
            sections = self.there.modalities[role].dump(), self.recipe.modalities[role].dump()
            raise TransfuseError(
                f"--from {self.run.path}: role {role!r}: {fault}; {differing(*sections) or 'its plugin has changed'}: "
                f"set it as that run does, or begin without"
            )
        sides = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (old, now)]
        return ((sides[0][name], sides[1][name]) for name in module_tensors(now))

    def _block(self, role: str, new: Model, placed: dict[Tensor, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """What a role's positions go through, by the names it has where all roles share it, there and here."""
        before, now = dict(self.old.backbone.weights(role)), dict(new.backbone.weights(role))
        theirs, ours = ({"model": {"block": r.dump()["model"]["block"]}} for r in (self.there, self.recipe))
        blocks = differing(theirs, ours)
        if fault := _unlike(before, now):
            raise TransfuseError(
                f"--from {self.run.path}: {blocks or 'model.block'}: {fault}; say --set model.block as that run does, "
                f"or begin without"
            )
        for name, parameter in now.items():
            first = parameter not in placed
            if placed.setdefault(parameter, before[name]) is not before[name]:
                raise TransfuseError(
                    f"--from {self.run.path}: {blocks}: there {role!r} has weights of its own, and here it shares them "
                    f"with another role of that run: say --set model.block as that run does, or begin without"
                )
            if first:
                yield before[name], parameter


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
