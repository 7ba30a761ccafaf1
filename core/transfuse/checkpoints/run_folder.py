"""A run's folder: which files a training run keeps, how they are written, and what they say, each read once.

``recipe.json`` is the resolved recipe; ``modalities.json`` the description: what rebuilds the modalities,
and facts that the run was begun with; ``metrics.jsonl`` the log, a line a step; ``checkpoints/STEP/`` a
`Checkpoint`, and ``checkpoints/latest`` names the newest complete STEP; ``record.json`` is what an
evaluation leaves. No pickle is read or written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transfuse.checkpoints.checkpoint import EMA_FILE, MODEL, Checkpoint
from transfuse.config.recipe import Recipe
from transfuse.errors import TransfuseError
from transfuse.files import CURE, checksum, read_checked, read_json, write_checked, write_json
from transfuse.modalities import seam
from transfuse.model.build import build_modalities, build_model
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins
from transfuse.sequences.vocabulary import Vocabulary, vocabulary_for

FORMAT = 1
CHANGED = ": the modality has changed since; train into another --out"


@dataclass(frozen=True)
class RunFolder:
    """A run's files. A description or state is read when it is first asked for; once written, it is read anew.

    All that reads raises TransfuseError naming the file that is missing, damaged or of another model.
    """

    path: Path

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.json"

    @property
    def description_file(self) -> Path:
        return self.path / "modalities.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def record_file(self) -> Path:
        return self.path / "record.json"

    # -- what the run is

    def recipe(self, plugins: Plugins) -> Recipe:
        """The resolved recipe."""
        if not self.path.is_dir():
            raise TransfuseError(
                f"{self.path} is not there: name the folder of a run (transfuse train ... --out DIR)"
            )
        dump = read_json(self.recipe_file, "run")
        if checksum(dump) not in self.description["recipes"]:
            raise TransfuseError(
                f"{self.recipe_file} is not what this run was trained with: restore it; to draw otherwise say "
                f"`transfuse sample --set`, to train otherwise `transfuse train --set`"
            )
        try:
            return Recipe.from_dump(dump, plugins, source=str(self.recipe_file))
        except TransfuseError as error:  # nobody edited it: who reads it has changed
            now, there = plugins.versions, self.description.get("plugins", {}).items()
            apart = {f"{was} (now {now.get(name, 'none')})" for name, was in there if now.get(name) != was}
            made = ", ".join(sorted(apart)) or "other code of its plugins, of the same versions"
            raise TransfuseError(
                f"{error}\nThis run was made with {made}: install that again, let its plugin take the setting (a "
                f"field with a default), or train again with another --out"
            ) from error

    @cached_property
    def description(self) -> dict[str, Any]:
        """Each modality's facts, the vocabulary, and the facts that the run was begun with."""
        found = read_checked(self.description_file, "run", "format", "recipes", "modalities", "vocabulary")
        if found["format"] != FORMAT:
            raise TransfuseError(
                f"{self.description_file}: format {found['format']} is not this version's {FORMAT}"
            )
        return found

    def build_model(self, recipe: Recipe, plugins: Plugins) -> Model:
        """The model as it was before training, its modalities restored; weights are loaded apart."""
        path, described = self.description_file, self.description
        modalities = build_modalities(recipe)
        try:
            facts = {name: described["modalities"][name] for name in modalities}
            vocabulary = Vocabulary.from_dump(described["vocabulary"])
            size = vocabulary.size
        except (LookupError, TypeError, ValueError) as error:
            raise TransfuseError(f"{path} is damaged ({error!r}): {CURE}") from error
        with seam.at(path):
            for name, modality in modalities.items():
                seam.call(modality, "restore", facts[name])
            if lacks := vocabulary_for(modalities, vocabulary, CHANGED).size - size:
                raise TransfuseError(f"it is damaged (its vocabulary lacks {lacks} ids): {CURE}")
        return build_model(recipe, modalities, plugins, vocabulary, start=False)

    def write_description(self, recipe: Recipe, model: Model, facts: Mapping[str, Any] | None = None) -> None:
        """What rebuilds the model: the recipe, each modality's facts, the vocabulary; and further facts."""
        write_json(self.recipe_file, recipe.dump())
        described = {
            "format": FORMAT,
            "recipes": [checksum(recipe.dump())],
            "modalities": {name: seam.facts(modality) for name, modality in model.modalities.items()},
            "vocabulary": model.vocabulary.dump(),
            **(facts or {}),
        }
        write_checked(self.description_file, described)
        self.read_anew("description")

    # -- checkpoints

    @cached_property
    def latest(self) -> Path | None:
        """The folder of the newest complete checkpoint, None where there is none yet."""
        pointer = self.path / "checkpoints" / "latest"
        if not pointer.is_file():
            return None
        step = pointer.read_text(encoding="utf-8", errors="replace").strip()
        if not step.isdecimal():
            raise TransfuseError(f"{pointer} is damaged: it should hold a step, not {step!r:.40}")
        return pointer.parent / step

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The newest complete checkpoint whose weights are as they were written, where there has to be one.

        Where the newest is damaged and an older one is whole, that is warned about and the older one taken.
        """
        return self.sound_checkpoint(MODEL, EMA_FILE)

    def sound_checkpoint(self, *files: str) -> Checkpoint:
        """The same, of which these files are whole; all, if none is named: training goes on from one."""
        if (newest := self.latest) is None:
            lost = "restore checkpoints/latest" if self.has_trained_steps else "train it first"
            raise TransfuseError(f"{self.path} holds no checkpoint: {lost}, or name the folder of a run")
        # Not where the run began, which knows nothing, nor what a process left that died before ``latest`` moved.
        older = [path for path in self.steps() if 0 < int(path.name) < int(newest.name)]
        try:
            return Checkpoint.newest({newest, *older}, *files)
        except TransfuseError:
            self.read_anew("latest")  # a run that trains may have moved on meanwhile
            if self.latest == newest:
                raise
        return self.sound_checkpoint(*files)

    def steps(self) -> list[Path]:
        """The folders of all checkpoints, in no order."""
        folders = (self.path / "checkpoints").glob("[0-9]*")
        return [path for path in folders if path.name.isdecimal() and path.is_dir()]

    @property
    def has_trained_steps(self) -> bool:
        """Whether checkpoints beyond the one that begins a run lie there, with or without ``latest``."""
        return any(int(path.name) > 0 for path in self.steps())

    def load(self, plugins: Plugins, recipe: Recipe | None = None) -> tuple[Recipe, Model]:
        """The recipe and the trained model, in evaluation mode; with the averaged weights where there are some.

        recipe: instead of the run's own, where it differs in how samples are drawn.
        """
        recipe = recipe or self.recipe(plugins)
        model = self.build_model(recipe, plugins)
        self.checkpoint.load_weights(model)
        if recipe.train.ema:
            self.checkpoint.load_weights(model, averaged=True)
        return recipe, model.eval()

    def read_anew(self, *names: str) -> None:
        """What was read once may have changed."""
        for name in names:
            self.__dict__.pop(name, None)
