"""Losses of a trained model on documents, by modality, with noise that is the same each time it is asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from transfuse.documents import Document
from transfuse.metrics import Figure
from transfuse.modalities import seam
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.packing import Packer

NOISE = Key(20240822)  # of every evaluation, whatever the run's seed
LEVELS = 4  # parts of equal width that the share of noise, 0 to 1, is divided into
BUDGET = 4096  # positions a row, at least


def level_of(shares: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Which of the parts each share of noise lies in, 0 … LEVELS - 1."""
    return np.minimum((np.asarray(shares) * LEVELS).astype(int), LEVELS - 1)


@dataclass
class Losses:
    """A modality's losses over documents.

    total, count: of all of them: nats and ids, or losses and spans. by_document: each document's own two.
    levels: of spans, the share of noise and the loss of each.
    """

    documents: int
    total: float = 0.0
    count: float = 0.0
    levels: list[tuple[float, float]] = field(default_factory=list)
    by_document: Float[np.ndarray, "documents 2"] = field(init=False)

    def __post_init__(self) -> None:
        self.by_document = np.zeros((self.documents, 2))

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else float("nan")

    def by_level(self) -> Iterator[tuple[int, str, float]]:
        """(1, ``0 to 25 %``, the mean loss of spans with so much noise), … of levels that have any."""
        shares, losses = np.array(self.levels).reshape(-1, 2).T
        at = level_of(shares)
        for level in range(LEVELS):
            if (at == level).any():
                low, high = (100 * side // LEVELS for side in (level, level + 1))
                yield level + 1, f"{low} to {high} %", float(losses[at == level].mean())


def losses(model: Model, documents: Sequence[Document]) -> dict[str, Losses]:
    """Of each modality: cross-entropy in nats an id, whatever its objective adds, or its objective a span.

    Items that are not noised are clean. Begin markers and the documents' ends count as ids of the modality that
    predicts them, as in training: a text that is scored is so with its end, without which the probabilities of all
    texts would add up to more than 1.
    """
    found = {name: Losses(len(documents)) for name in model.modalities}
    sequences = [model.layout.sequence(document) for document in documents]
    budget = max([BUDGET, *map(len, sequences)])
    with torch.inference_mode():
        for row in Packer(budget).rows(sequences):
            batch = collate(row, model.modalities, NOISE, model.settings.rope)
            batch = batch.to(model.tokens.weight.device)
            hidden, states = model(batch)
            of_document = np.asarray(row.arrivals)[row.columns["doc"]]
            _ids(model, batch, hidden, of_document, found)
            _spans(model, batch, hidden, states, of_document, found)
    return found


def _ids(model: Model, batch: Batch, hidden, of_document, found: dict[str, Losses]) -> None:
    for number, name in enumerate(model.modalities):
        if name not in model.token_modalities:
            continue
        chosen = torch.from_numpy(batch.scored == number).to(hidden.device)
        if not chosen.any():
            continue
        logits = model.logits(hidden[batch.predicted[chosen]])
        each = torch.log_softmax(logits.double(), dim=-1).gather(1, batch.targets[chosen][:, None])
        one = found[name]
        one.total -= float(each.sum())
        one.count += int(chosen.sum())
        where = of_document[batch.predicted[chosen].cpu().numpy()]
        np.subtract.at(one.by_document[:, 0], where, each[:, 0].cpu().numpy())
        np.add.at(one.by_document[:, 1], where, 1)


def _spans(model: Model, batch: Batch, hidden, states, of_document, found: dict[str, Losses]) -> None:
    for group, state in zip(batch.groups, states, strict=True):
        if not group.loss.any():
            continue
        modality, one = model.span_modalities[group.modality], found[group.modality]
        prediction = model.predict(hidden, group, state)
        shares = seam.call(modality, "noise_share", group.t).tolist()
        for i in np.flatnonzero(group.loss).tolist():
            part = slice(i, i + 1)
            loss = seam.score(modality, prediction[part], group.target[part], group.t[part], copy=group.copy)
            value, where = float(loss.sum), of_document[int(group.index[i, 0])]
            one.total += value
            one.count += loss.count
            one.by_document[where] += (value, loss.count)
            one.levels.append((shares[i], value / loss.count))


# -- as figures


def loss_figures(model: Model, documents: Sequence[Document]) -> Iterator[tuple[Figure, float]]:
    """Each modality's loss on documents as they stand; of texts by byte too, of spans by the share of noise too."""
    for role, one in losses(model, documents).items():
        if not one.count:
            continue
        ids = role in model.token_modalities
        what = "nats an id" if ids else "loss a span"
        yield (
            Figure(f"heldout_loss_{role}", f"Held-out loss, {role}", what, "lower", detail=True,
                   meaning=f"the mean loss of {role} in held-out documents as training lays them out"
                           + ("" if ids else ", with noise that is the same for every model")),
            one.mean,
        )  # fmt: skip
        if ids and (written := _written(documents, role)):
            yield (
                Figure(f"heldout_loss_{role}_byte", f"Held-out loss, {role}, by byte", "nats a byte", "lower",
                       detail=True,
                       meaning="the same nats over the UTF-8 bytes of the texts: comparable between tokenizers"),
                one.total / written,
            )  # fmt: skip
        for level, span, mean in one.by_level() if not ids else ():
            yield (
                Figure(f"heldout_loss_{role}_noise_{level}_of_{LEVELS}", f"Held-out loss, {role}, {span} noise", what,
                       "lower", detail=True, meaning=f"the same where the share of noise is {span}"),
                mean,
            )  # fmt: skip


def _written(documents: Sequence[Document], role: str) -> int:
    """How many UTF-8 bytes a role's texts have that are scored; 0 where one of them is no text, such as ids."""
    raws = [i.data for document in documents for i in document.items if i.modality == role and i.loss]
    return sum(len(raw.encode()) for raw in raws) if all(isinstance(raw, str) for raw in raws) else 0
