"""Codes drawn from a model whose distribution is known: a Markov chain written into its tables."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transfuse.documents import Document, Item
from transfuse.generation.decoding import generate
from transfuse.model.backbone import Backbone
from transfuse.model.model import Model

from tests.tiny.models import CAUSAL, Kit

COUNT = 800  # pictures


class Passing(Backbone):
    """Each position's output is its own embedding: the next id rests on the last one alone.

    heeding: or its sum with the mean of all that the position sees, so that it rests on the prompt too.
    """

    def __init__(self, model: Model, heeding: bool) -> None:
        super().__init__()
        self.weight, self.heads = nn.Parameter(torch.zeros(1, 1)), model.settings.heads
        self.heeding = heeding

    def prepare(self, row) -> None:
        return None

    def forward(self, x: Tensor, prepared, t, attend) -> Tensor:
        if not self.heeding:
            return x
        by_head = x.unflatten(-1, (self.heads, -1)).transpose(0, 1).contiguous()
        nothing = torch.zeros_like(by_head)
        return x + attend[0](nothing, nothing, by_head).transpose(0, 1).flatten(1)


def chain(kit: Kit, heeding: bool = False, **settings) -> tuple[Model, np.ndarray]:
    """A model that draws each code from a row of a table, by the code before it; the table ``[codes, codes]``.

    heeding: words, where they are seen, make some codes likelier.
    """
    made = {"text": kit.modality("text"), "image": kit.modality("image_vq", **settings)}
    size = 512
    model = kit.model(mask=CAUSAL, modalities=made, dim=size, heads=2, layers=1, hidden=8)
    model.backbone = Passing(model, heeding)
    own = model.vocabulary.range("image")
    codes = model.modalities["image"].codes
    table = np.random.default_rng(0).dirichlet(np.full(codes, 0.5), codes)
    with torch.no_grad():
        model.tokens.weight.copy_(torch.eye(size)[: model.vocabulary.size])
        model.unembed.weight.zero_()
        where = slice(own.start, own.start + codes)
        model.unembed.weight[where, where] = torch.from_numpy(np.log(table + 1e-9).T).float()
        if heeding:
            words = model.vocabulary.range("text")
            model.unembed.weight[where, words.start : words.stop] = torch.linspace(-20, 20, codes)[:, None]
    model.predictable[:] = True
    return model.eval(), table


def pictures(model: Model, count: int = COUNT) -> np.ndarray:
    """Codes ``[count, n]`` of pictures drawn for one prompt."""
    prompt = Document((Item("text", "a", droppable=True),))
    label = model.modalities["image"].labels()[0]
    image = model.modalities["image"]
    kept: list[np.ndarray] = []
    image.decode, decode = (lambda payload: kept.append(payload.reshape(-1)) or decode(payload)), image.decode
    made = generate(model, [prompt] * count, want="image", label=label, seed=3)
    assert len(made) == count
    return np.stack(kept)


def distance(codes: np.ndarray, table: np.ndarray) -> float:
    """χ² a degree of freedom of the transitions that were drawn, by the table."""
    counts = np.zeros_like(table)
    np.add.at(counts, (codes[:, :-1].ravel(), codes[:, 1:].ravel()), 1)
    wanted = counts.sum(1, keepdims=True) * table
    asked = wanted > 5
    return float(((counts - wanted) ** 2 / np.maximum(wanted, 1e-9))[asked].sum() / max(1, asked.sum()))


def test_codes_have_the_frequencies_of_the_table(kit: Kit) -> None:
    model, table = chain(kit, guidance={"scale": 1})
    assert distance(pictures(model), table) == pytest.approx(1, abs=0.5)


def test_at_another_temperature_they_have_not(kit: Kit) -> None:
    """What a fault in drawing would do, such as a temperature that is not the one said."""
    model, table = chain(kit, guidance={"scale": 1}, temperature=0.6)
    assert distance(pictures(model), table) > 2


def test_guidance_of_one_changes_nothing(kit: Kit) -> None:
    """A scale of 1 in a view that is evaluated is the same, draw by draw, as no view; another scale, the planted fault,
    is not, since this model heeds its prompt."""
    plain, viewed, other = (
        pictures(chain(kit, heeding=True, guidance=guidance)[0], 20)
        for guidance in ({"scale": 1}, {"views": [{"scale": 1}]}, {"views": [{"scale": 1.5}]})
    )
    np.testing.assert_array_equal(plain, viewed)
    assert (plain != other).mean() > 0.05
