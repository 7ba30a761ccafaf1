"""What a run will meet, found out before anything that costs: parts that do not go together, documents too long.

What nobody set is chosen on the way (`transfuse_lab.runs.choices`), from the shapes of the data.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, Restriction, restrict
from transfuse.documents import Document, Encoded
from transfuse.errors import RawError, TransfuseError
from transfuse.masks import NONE
from transfuse.modalities import seam
from transfuse.modalities.codec import GridModality
from transfuse.modalities.fit_context import CPU
from transfuse.modalities.modality import Modality, Report
from transfuse.model.build import build_modalities, check_roles, place_of
from transfuse.sequences.item_checks import check_items
from transfuse.sequences.layout import Layout, check_columns
from transfuse.sequences.sequence import DocumentSequence
from transfuse.sequences.vocabulary import Vocabulary, vocabulary_for
from transfuse.training.stream import shortened

from transfuse_lab.progress import bar
from transfuse_lab.runs.choices import as_before, budget, choose, differences
from transfuse_lab.runs.stored import restored, stored_codecs

NAMED = 3  # documents of a kind that are named
MANY = 2000  # documents, from which on it is shown how far it has come
SHAPES = 64  # of a role's raw data, that what nobody set is chosen from


@dataclass(frozen=True)
class Surveyed:
    """A recipe that the data go with, what nobody set chosen to suit them; the data as it reads them.

    modalities: of which codecs are made and not trained, and tokenizers are; all are fit where ``fitted``. shapes: by
    role of a codec, raw data of each shape that there is, values unimportant.
    """

    recipe: Recipe
    data: Restriction
    modalities: Mapping[str, Modality]
    shapes: Mapping[str, Sequence[np.ndarray]]
    fitted: bool = False


def survey(
    recipe: Recipe,
    data: DataSet,
    report: Report,
    codecs: Path | None = None,
    inherited: Mapping[str, Any] = MappingProxyType({}),
) -> Surveyed:
    """All documents are laid out by a recipe with codecs that are made and not trained: what takes a tokenizer and no
    more. Of pictures only the shapes are asked for. codecs: the folder of those that the data were encoded with.
    inherited: by role that is taken from a run, its facts; the data need hold none of it.

    Raises TransfuseError where the recipe's parts do not go together, a training document cannot be laid out, or
    one does not fit a row and ``train.too_long`` is ``error``; it names how many, the first, and what helps. Reports
    what was chosen, training documents that will be skipped or cut, and held-out documents that evaluation will leave
    out.
    """
    return survey_all({"": recipe}, data, report, codecs=codecs, inherited=inherited)[""]


def survey_all(
    recipes: Mapping[str, Recipe],
    data: DataSet,
    report: Report,
    bases: Mapping[str, Recipe] | None = None,
    codecs: Path | None = None,
    inherited: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Surveyed]:
    """The same of recipes that are compared, by their names, which faults and reports begin with.

    Rows that nobody gave a length have one length in all of them. bases: of some, the recipe that they vary; what
    nobody set there is chosen for that, so that values of a setting are compared with all else equal.
    """
    if codecs is None and stored_codecs(data) is not None:
        raise TransfuseError(
            f"data set {data.name!r} is encoded already, and here codecs would be fit to it: give the raw data, or use "
            f"`transfuse train`"
        )
    looks = dict[frozenset[str], _Look]()
    found = dict[str, _Found]()
    for name, recipe in recipes.items():
        with _of(name):
            roles = frozenset(recipe.modalities)
            look = looks.setdefault(roles, _Look(restrict(data, roles)))
            if base := (bases or {}).get(name):
                recipe = as_before(recipe, {"modalities": _chosen(base, look).dump()["modalities"]})
            found[name] = _laid_out(_chosen(recipe, look, codecs, inherited), look, codecs, inherited)
    longest = max(budget(each.recipe, each.lengths) for each in found.values())
    surveyed = {}
    for name, each in found.items():
        if "budget" not in each.recipe.train.model_fields_set and longest != each.recipe.train.budget:
            train = each.recipe.train.changed(budget=longest)
            each.recipe = each.recipe.model_copy(update={"train": train})
        told = (lambda line, name=name: report(f"{name}: {line}")) if name else report
        _say_chosen(recipes[name], each, told)
        with _of(name):
            each.check(told)
        surveyed[name] = Surveyed(
            each.recipe, each.data, each.layout.modalities, each.shapes, codecs is not None
        )
    return surveyed


@contextmanager
def _of(name: str) -> Iterator[None]:
    """What is wrong inside is told with the name, if there is one."""
    try:
        yield
    except TransfuseError as error:
        if not name:
            raise
        raise TransfuseError(f"{name}: {error}") from error


class _Look:
    """What raw data of the training split look like: of each role one for each shape and type, and where it is."""

    def __init__(self, data: Restriction) -> None:
        self.data = data
        self._firsts: dict[frozenset[str], dict[str, dict[Any, tuple[Any, str]]]] = {}

    def firsts(self, outlines: frozenset[str]) -> dict[str, dict[Any, tuple[Any, str]]]:
        """By role and shape, in the order in which they come: all of the roles in ``outlines``, whose values are of no
        matter, and some of the arrays of others."""
        if outlines not in self._firsts:
            found: dict[str, dict[Any, tuple[Any, str]]] = {}
            for document in _documents(self.data, "train", outlines):
                for i, item in enumerate(document.items):
                    of_role = found.setdefault(item.modality, {})
                    if item.modality in outlines or (
                        isinstance(item.data, np.ndarray) and len(of_role) < SHAPES
                    ):
                        place = f"{document.source}: item {i} ({item.modality})"
                        of_role.setdefault(_form(item.data), (item.data, place))
            self._firsts[outlines] = found
        return self._firsts[outlines]


def _form(raw: Any) -> Any:
    return (raw.shape, raw.dtype) if isinstance(raw, np.ndarray) else type(raw)


def _documents(data: Restriction, split: str, outlines: frozenset[str]) -> Iterator[Document]:
    size = data.excerpt(split)
    with bar(f"look at {data.name} {split}") if size >= MANY else nullcontext() as progress:
        for index in range(size):
            yield data.outline(split, index, outlines)
            if progress is not None and not index % 100:
                progress.update(index / size, f"{index:,} of {size:,} documents")


def _grids(modalities: Mapping[str, Modality]) -> frozenset[str]:
    """The roles of which a codec asks no more than a shape to say how many positions there are."""
    return frozenset(role for role, modality in modalities.items() if isinstance(modality, GridModality))


def _chosen(
    recipe: Recipe,
    look: _Look,
    codecs: Path | None = None,
    inherited: Mapping[str, Any] = MappingProxyType({}),
) -> Recipe:
    """The recipe's modalities with what nobody set chosen."""
    modalities = build_modalities(recipe)
    check_columns(recipe.mask, Layout(modalities, Vocabulary()))
    if new := {role: own for role, own in modalities.items() if role not in inherited}:
        check_roles(new, look.data)
    if codecs is None:
        found = look.firsts(_grids(modalities))
        firsts = {role: [raw for raw, _ in list(of.values())[:SHAPES]] for role, of in found.items()}
    else:
        firsts = _decoded_shapes(restored(recipe, codecs))
    chosen = {
        role: choose(role, modality, firsts.get(role, [])) for role, modality in recipe.modalities.items()
    }
    return recipe.model_copy(update={"modalities": chosen})


def _decoded_shapes(modalities: Mapping[str, Modality]) -> dict[str, list[np.ndarray]]:
    """By role of a codec that was fit, raw data of each shape that it was fit to, values unimportant."""
    return {
        role: [seam.call(modality, "decode", modality.blank(label)) for label in modality.labels()]
        for role, modality in modalities.items()
        if isinstance(modality, GridModality)
    }


def _laid_out(
    recipe: Recipe,
    look: _Look,
    codecs: Path | None = None,
    inherited: Mapping[str, Any] = MappingProxyType({}),
) -> "_Found":
    data, modalities = look.data, build_modalities(recipe)
    grids = _grids(modalities)
    if codecs is None:
        firsts = look.firsts(grids)
        for role, modality in modalities.items():
            if role in inherited:
                seam.call(modality, "restore", inherited[role])
            else:
                _fit(role, modality, data, list(firsts.get(role, {}).values()) if role in grids else None)
        shapes = {role: [raw for raw, _ in firsts[role].values()] for role in grids if role in firsts}
    else:
        modalities = restored(recipe, codecs)
        shapes = _decoded_shapes(modalities)
    check_items(modalities)
    found = _Found(recipe, data, Layout(modalities, vocabulary_for(modalities)), grids, shapes)
    found.lay_out("train")
    return found


def _fit(role: str, modality: Modality, data: Restriction, firsts: list[tuple[Any, str]] | None) -> None:
    """A codec made and not trained, from one of each shape where that is enough."""
    raws = data.raw("train", role) if firsts is None else [raw for raw, _ in firsts]
    try:
        seam.fit(modality, raws, 0, lambda line: None, 0.0, CPU)
    except RawError as error:
        place = place_of(data, role, error.number) if firsts is None else firsts[error.number][1]
        raise TransfuseError(f"{place}: {error}") from error


@dataclass
class _Found:
    """A recipe, and what became of a data set's documents under it.

    lengths: of each training document, 0 of one that has a fault. longest, largest_role: of the longest document, the
    positions, and the role that takes most of them.
    """

    recipe: Recipe
    data: Restriction
    layout: Layout
    grids: frozenset[str]
    shapes: Mapping[str, Sequence[np.ndarray]]
    lengths: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    longest: int = 0
    largest_role: str = ""
    known: dict[Any, np.ndarray] = field(default_factory=dict)

    def lay_out(self, split: str) -> None:
        self.lengths, self.faults, self.longest = [], [], 0
        for document in _documents(self.data, split, self.grids):
            try:
                sequence = self.layout.sequence(document, self.payloads(document))
            except TransfuseError as error:
                self.faults.append(str(error))
                self.lengths.append(0)
                continue
            self.lengths.append(len(sequence))
            if len(sequence) > self.longest:
                self.longest, self.largest_role = len(sequence), _largest(self.layout, sequence)

    def payloads(self, document: Document) -> list[np.ndarray]:
        """A document's payloads. Raw data of one shape have one grid: the codec is asked once."""
        payloads = []
        for i, item in enumerate(document.items):
            of_grid = item.modality in self.grids and not isinstance(item.data, Encoded)
            key = (item.modality, _form(item.data)) if of_grid else None
            payload = self.known.get(key) if key else None
            if payload is None:
                payload = self.layout.payload(document, i)
            if key:
                self.known[key] = payload
            payloads.append(payload)
        return payloads

    def check(self, report: Report) -> None:
        """Raises and reports what `survey` does."""
        train = self.recipe.train
        too_long = [i for i, length in enumerate(self.lengths) if length > train.budget]
        if train.too_long == "cut":
            self._cut(too_long)
        if self.faults:
            count = len(self.faults)
            more = f" ({count} documents have such a fault)" if count > 1 else ""
            raise TransfuseError(f"{self.faults[0]}{more}")
        if too_long:
            self._tell(too_long, report)
        self.lay_out(self.recipe.eval.split)
        if self.faults:
            report(
                f"{self.data.name}: {len(self.faults)} of {len(self.lengths)} held-out documents cannot be laid out, "
                f"and evaluation leaves them out; the first: {self.faults[0]}"
            )

    def _cut(self, too_long: list[int]) -> None:
        for index in too_long:
            document = self.data.outline("train", index, self.grids)
            excess = self.lengths[index] - self.recipe.train.budget
            try:
                shortened(self.layout, document, self.payloads(document), excess)
            except TransfuseError as error:
                self.faults.append(str(error))

    def _tell(self, too_long: list[int], report: Report) -> None:
        train, name, count = self.recipe.train, self.data.name, len(too_long)
        sources = [self.data.outline("train", i, self.grids).source for i in too_long[:NAMED]]
        named = ", ".join(
            f"{source} ({self.lengths[i]:,} positions)" for i, source in zip(too_long, sources, strict=False)
        )
        named += ", …" * (count > NAMED)
        what = f"{name}: {count:,} of {len(self.lengths):,} training documents do not fit a row of {train.budget:,}"
        if train.too_long == "skip" and count == len(self.lengths):
            raise TransfuseError(f"{what}, so none is left: raise train.budget to {self.longest}")
        if train.too_long != "error":
            done = {"skip": "are skipped", "cut": "have their text cut"}[train.too_long]
            report(f"{what} and {done}: {named}")
            return
        grid = self.largest_role if self.largest_role in self.grids else ""
        fewer = (
            f", give {grid} a larger codec.down or patch, or smaller data (--data '…;size=32')"
            if grid
            else ""
        )
        raise TransfuseError(
            f"{what}: {named}; say --set train.budget={self.longest}, or leave them out "
            f"by --set train.too_long=skip, or shorten text by train.too_long=cut{fewer}"
        )


def _largest(layout: Layout, sequence: DocumentSequence) -> str:
    """The role that takes most positions."""
    mod = sequence.columns["mod"]
    return layout.names[int(np.bincount(mod[mod != NONE]).argmax())]


def _say_chosen(before: Recipe, found: _Found, report: Report) -> None:
    """One line, where anything was chosen: what, as ``--set`` takes it, and how many positions an item then has."""
    if not (chosen := differences(before, found.recipe)):
        return
    for role, modality in found.layout.modalities.items():
        payloads = [payload for (of, _), payload in found.known.items() if of == role]
        if isinstance(modality, GridModality) and payloads:
            lengths = sorted({modality.length_of(payload) for payload in payloads})
            chosen.append(
                f"({role}: {' to '.join(map(str, {lengths[0]: 0, lengths[-1]: 0}))} positions each)"
            )
    report(f"chosen to suit {found.data.name}: {' '.join(chosen)}; another by --set")
