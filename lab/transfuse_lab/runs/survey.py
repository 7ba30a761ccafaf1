"""What a run will meet, found out before anything that costs: parts that do not go together, documents too long."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, restrict
from transfuse.documents import Document
from transfuse.errors import TransfuseError
from transfuse.masks import NONE
from transfuse.modalities.codec import GridModality
from transfuse.modalities.modality import Modality, Report
from transfuse.model.build import build_modalities, fit_modalities
from transfuse.sequences.item_checks import check_items
from transfuse.sequences.layout import Layout, check_columns
from transfuse.sequences.sequence import DocumentSequence
from transfuse.sequences.vocabulary import Vocabulary, vocabulary_for
from transfuse.training.stream import shortened

from transfuse_lab.progress import bar

NAMED = 3  # documents of a kind that are named
MANY = 2000  # documents, from which on it is shown how far it has come


@dataclass
class _Found:
    """Of a split: how many documents there are, which do not fit, and what is wrong with others."""

    documents: int = 0
    too_long: list[tuple[str, int]] = field(default_factory=list)
    longest: int = 0
    largest_role: str = ""
    faults: list[str] = field(default_factory=list)


def survey(recipe: Recipe, data: DataSet, report: Report) -> None:
    """Goes through all documents with codecs that are made and not trained: what takes a tokenizer and no more.

    Raises TransfuseError where the recipe's parts do not go together, a training document cannot be laid out, or
    one does not fit a row and ``train.too_long`` is ``error``; it names how many, the first, and what helps. Reports
    training documents that will be skipped or cut, and held-out documents that evaluation will leave out.
    """
    modalities, data = build_modalities(recipe), restrict(data, recipe.modalities)
    check_columns(recipe.mask, Layout(modalities, Vocabulary()))
    fit_modalities(modalities, data, 0, lambda line: None, effort=0.0)
    check_items(modalities)
    layout, known = Layout(modalities, vocabulary_for(modalities)), {}
    budget, cut = recipe.train.budget, recipe.train.too_long == "cut"
    found = _gone_through(layout, data, "train", budget, cut, known)
    if found.faults:
        more = f" ({len(found.faults)} documents have such a fault)" if len(found.faults) > 1 else ""
        raise TransfuseError(f"{found.faults[0]}{more}")
    if found.too_long:
        _tell(recipe, data, found, modalities, report)
    held = _gone_through(layout, data, "heldout", budget, False, known)
    if held.faults:
        report(
            f"{data.name}: {len(held.faults)} of {held.documents} held-out documents cannot be laid out, and "
            f"evaluation leaves them out; the first: {held.faults[0]}"
        )


def _gone_through(
    layout: Layout, data: DataSet, split: str, budget: int, cut: bool, known: dict[Any, np.ndarray]
) -> _Found:
    found, size = _Found(data.excerpt(split)), data.excerpt(split)
    with bar(f"look at {data.name} {split}") if size >= MANY else nullcontext() as progress:
        for index in range(size):
            document = data.document(split, index)
            try:
                sequence = _laid_out(layout, document, known)
                if cut and len(sequence) > budget:
                    shortened(layout, document, layout.payloads(document), len(sequence) - budget)
            except TransfuseError as error:
                found.faults.append(str(error))
                continue
            if len(sequence) > budget:
                found.too_long.append((document.source, len(sequence)))
            if len(sequence) > found.longest:
                found.longest, found.largest_role = len(sequence), _largest(layout, sequence)
            if progress is not None and not index % 100:
                progress.update(index / size, f"{index:,} of {size:,} documents")
    return found


def _laid_out(layout: Layout, document: Document, known: dict[Any, np.ndarray]) -> DocumentSequence:
    """A document's sequence. Raw data of one shape have one grid: the codec is asked once."""
    payloads = []
    for i, item in enumerate(document.items):
        grid = isinstance(layout.modalities.get(item.modality), GridModality)
        key = (item.modality, np.shape(item.data)) if grid and isinstance(item.data, np.ndarray) else None
        payload = known.get(key) if key else None
        if payload is None:
            payload = layout.payload(document, i)
        if key:
            known[key] = payload
        payloads.append(payload)
    return layout.sequence(document, payloads)


def _largest(layout: Layout, sequence: DocumentSequence) -> str:
    """The role that takes most positions."""
    mod = sequence.columns["mod"]
    return layout.names[int(np.bincount(mod[mod != NONE]).argmax())]


def _tell(
    recipe: Recipe, data: DataSet, found: _Found, modalities: Mapping[str, Modality], report: Report
) -> None:
    train, count = recipe.train, len(found.too_long)
    named = ", ".join(f"{source} ({length:,} positions)" for source, length in found.too_long[:NAMED])
    what = f"{data.name}: {count:,} of {found.documents:,} training documents do not fit a row of {train.budget:,}"
    if train.too_long == "skip" and count == found.documents:
        raise TransfuseError(f"{what}, so none is left: raise train.budget to {found.longest}")
    if train.too_long != "error":
        done = {"skip": "are skipped", "cut": "have their text cut"}[train.too_long]
        report(f"{what} and {done}: {named}{', …' if count > NAMED else ''}")
        return
    grid = found.largest_role if isinstance(modalities[found.largest_role], GridModality) else ""
    fewer = (
        f", give {grid} a larger codec.down or patch, or smaller data (--data '…;size=32')" if grid else ""
    )
    raise TransfuseError(
        f"{what}: {named}{', …' if count > NAMED else ''}; say --set train.budget={found.longest}, or leave them out "
        f"by --set train.too_long=skip, or shorten text by train.too_long=cut{fewer}"
    )
