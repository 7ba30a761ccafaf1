"""The interface carries three awkward modalities without a change in core: each trains and is decoded."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from transfuse import masks
from transfuse.documents import Document, Item
from transfuse.generation.decoding import generate
from transfuse.modalities.modality import Evaluate
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import Row, join
from transfuse.testing.modalities import Blob, Letters, document, layout, show
from transfuse.training.combiner import Combiner

from tests.tiny.models import TRANSFUSION, Kit
from tests.tiny.strange_modalities import MaskedIds, Probe, Scripted, Skip, Twins

BAGEL = masks.parse("same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))")


def numbers(seed: int, n: int) -> list[float]:
    return np.random.default_rng(seed).normal(size=n).astype(np.float32).tolist()


def ids(seed: int, n: int) -> list[int]:
    return [(seed + i) % MaskedIds.codes for i in range(n)]


TOYS: dict[str, tuple[Callable[[], Blob], masks.Mask, Callable[[int, int], list], int]] = {
    "skip": (Skip, TRANSFUSION, numbers, 4),
    "twins": (Twins, BAGEL, numbers, 3),
    "masked ids": (MaskedIds, TRANSFUSION, ids, 3),
}


def model_of(kit: Kit, toy: str, letters: Letters | None = None) -> Model:
    make, mask, _, _ = TOYS[toy]
    return kit.model(modalities={"letters": letters or Letters(), "blob": make()}, mask=mask)


def row_of(model: Model, toy: str, visit: int = 0, documents: int = 6, first: int = 0) -> Row:
    _, _, raw, n = TOYS[toy]
    stream = [
        document("abc"[i % 3], raw(i, n), "ab") if i % 2 else document(raw(i, n), "cab"[i % 3])
        for i in range(first, first + documents)
    ]
    return join([model.layout.sequence(Document(d.items, id=i), visit=visit) for i, d in enumerate(stream)])


def total(model: Model, toy: str, visit: int, documents: int = 6, first: int = 0) -> torch.Tensor:
    batch = collate(row_of(model, toy, visit, documents, first), model.modalities, Key(0))
    return Combiner({"letters": 1.0, "blob": 1.0}).combine(model.losses(batch), batch.counts).total


@pytest.mark.parametrize("toy", TOYS)
def test_it_trains(kit: Kit, toy: str) -> None:
    model = model_of(kit, toy).train()
    optimizer = torch.optim.AdamW(model.trained(), lr=1e-2)
    before = float(total(model, toy, visit=0).detach())
    for visit in range(30):
        loss = total(model, toy, visit)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.trained())
        optimizer.step()
    assert float(total(model, toy, visit=0).detach()) < 0.7 * before


@pytest.mark.parametrize("toy", TOYS)
def test_it_is_decoded_wanted_or_chosen(kit: Kit, toy: str) -> None:
    _, _, raw, n = TOYS[toy]
    probe = model_of(kit, toy)
    begin = probe.vocabulary.marker(f"<blob {n}>")
    model = model_of(kit, toy, Scripted([2, begin, 3, 1]))
    model.predictable[begin] = True
    (wanted,) = generate(model, [document("a", raw(0, n))], want="blob")
    assert [item.modality for item in wanted.items] == ["letters", "blob", "blob"]
    assert np.shape(wanted.items[-1].data) == (n,)
    (free,) = generate(model, [document("a")])
    assert [item.modality for item in free.items] == ["letters", "letters", "blob", "letters"]
    assert free.items[1].data == "a"  # id 2 of the vocabulary is the first letter


# -- (a) a skip around the transformer


def test_the_head_gets_its_encoders_state_and_gradients_flow_through_it(kit: Kit) -> None:
    model = model_of(kit, "skip").train()
    total(model, "skip", visit=0).backward()
    detail = model.get_parameter("modality_modules.blob.detail.weight").grad
    assert detail is not None
    assert detail.abs().sum() > 0  # these weights reach the loss by the state alone


def test_the_model_uses_what_only_the_state_holds(kit: Kit) -> None:
    model = model_of(kit, "skip").train()
    optimizer = torch.optim.AdamW(model.trained(), lr=1e-2)
    for visit in range(60):
        optimizer.zero_grad()
        total(model, "skip", visit, documents=20, first=20 * visit).backward()
        optimizer.step()
    batch = collate(row_of(model, "skip", documents=40, first=9000), model.modalities, Key(0))
    with torch.no_grad():
        hidden, states = model(batch)
        (group,) = batch.groups
        errors = [
            (model.predict(hidden, group, state) - group.target).square().mean()
            for state in (states[0], states[0].roll(1, dims=0))
        ]
    assert errors[0] < 0.5 * errors[1]


# -- (b) two copies at shared positions


def test_twins_by_eye() -> None:
    lay = layout(Letters(), Twins())
    lines = show(lay.sequence(document("a", [1.0, 2.0], "b")), lay).splitlines()
    assert [line for line in lines if line.split()[0] in ("token", "target", "noised", "pos", "span")] == [
        "token   <document> a        <blob 2> ~ ~ </blob> <blob 2> ~ ~ </blob> b           </document>",
        "target  a          <blob 2> .        . . .       .        . . b       </document> .",
        "noised  0          0        1        1 1 1       0        0 0 0       0           0",
        "pos     0          1        2        2 2 2       2        2 2 2       3           4",
        "span    .          .        0        0 0 0       1        1 1 1       .           .",
    ]


def test_only_the_noised_twin_is_corrupted_and_predicted(kit: Kit) -> None:
    model = model_of(kit, "twins")
    row = join([model.layout.sequence(document("a", [1.0, 2.0], "b"))])
    (group,) = collate(row, model.modalities, Key(0)).groups
    assert group.loss.tolist() == [True, False]
    assert group.x_t[1].tolist() == [1.0, 2.0]
    assert group.t[1] == 0
    assert group.x_t[0].tolist() != [1.0, 2.0]


def test_twins_decoded_with_the_cache_equal_the_training_pass(kit: Kit) -> None:
    """The noised twin's prediction, and the text after the clean one, though the cache never held the noised."""
    script = Scripted([])
    model = model_of(kit, "twins", script).eval()
    vocabulary = model.vocabulary
    begin, a = vocabulary.marker("<blob 3>"), vocabulary.range("letters").start
    model.predictable[begin] = True
    clean = numbers(1, 3)
    whole = document("ab", clean, "cd", source="whole")
    row = join([model.layout.sequence(whole)])
    batch = collate(row, model.modalities, Key(0))
    (group,) = batch.groups
    with torch.no_grad():
        hidden, states = model(batch)
        expected = model.predict(hidden, group, states[0])[:1]
        logits = model.logits(hidden)

    script.script = [begin, a + 2, a + 3, vocabulary.marker("</document>")]
    probe = Probe(group.x_t[:1], group.t[:1], torch.tensor([clean]))
    model.modalities["blob"].sample = probe  # type: ignore[assignment]
    (made,) = generate(model, [document("ab")])
    assert made.items[-1].data == "cd"
    torch.testing.assert_close(probe.seen[0][0], expected, rtol=0, atol=1e-5)
    tokens = row.tokens.tolist()
    last = len(tokens) - 1  # </document>; the clean copy's </blob>, c and d stand before it
    for heard, position in zip(script.heard, (2, last - 3, last - 2, last - 1), strict=True):
        allowed = heard.isfinite()
        assert allowed.sum() > 8
        torch.testing.assert_close(heard[allowed], logits[position][allowed], rtol=0, atol=1e-5)


def test_a_prompts_image_is_written_clean_and_once() -> None:
    lay = layout(Letters(), Twins())
    given = Document((Item("letters", "a"), Item("blob", [1.0, 2.0])))
    prompt, _ = lay.prompt(given)
    assert [p.span.noised for p in prompt.spans] == [False]
    assert prompt.columns["pos"].tolist() == [0, 1, 2, 2, 2, 2]


# -- (c) nested loops


def test_masked_ids_are_scored_only_where_they_are_hidden(kit: Kit) -> None:
    model = model_of(kit, "masked ids")
    (group,) = collate(row_of(model, "masked ids"), model.modalities, Key(0)).groups
    hidden = group.x_t == MaskedIds.codes
    assert hidden.any(dim=1).all()
    assert torch.equal(hidden, group.target >= 0)


def test_a_nested_sampler_is_answered_as_training_would_at_every_call(kit: Kit) -> None:
    """Each call writes over the last one's, in every document; what it draws is what the last round said."""
    model = model_of(kit, "masked ids").eval()
    model.predictable[model.vocabulary.marker("<blob 3>")] = True
    blob, calls = model.modalities["blob"], []
    own = blob.sample

    def listening(evaluate: Evaluate, label: str, generators: list[torch.Generator]) -> torch.Tensor:
        def heard(x_t: torch.Tensor, t: torch.Tensor) -> list[torch.Tensor]:
            views = evaluate(x_t, t)
            calls.append((x_t.clone(), t.clone(), views[0].clone()))
            return views

        return own(heard, label, generators)

    blob.sample = listening  # type: ignore[assignment]
    made = generate(model, [document(letter) for letter in "abc"], want="blob")
    rounds, n = 2, 3
    assert len(calls) == rounds * n
    assert [int((x_t == MaskedIds.codes).sum(dim=1).max()) for x_t, _, _ in calls] == [3, 2, 1, 1, 1, 1]
    for x_t, t, predicted in calls:
        expected = torch.cat([in_training(model, "abc"[i], x_t[i], t[i]) for i in range(3)])
        torch.testing.assert_close(predicted, expected, rtol=0, atol=1e-5)
        assert not torch.allclose(predicted[0], predicted[1], atol=1e-3)  # the letter before it counts
    assert not torch.allclose(calls[0][2], calls[-1][2], atol=1e-3)  # and what is filled in
    for i, drawn in enumerate(made):
        said = [int(calls[-n + j][2][i, j].argmax()) for j in range(n)]
        assert list(drawn.items[-1].data) == said


def in_training(model: Model, letter: str, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The prediction for a blob after a letter, at (x_t, t), in the pass that training runs."""
    row = join([model.layout.sequence(document(letter, ids(0, len(x_t))))])
    batch = collate(row, model.modalities, Key(0))
    group = replace(batch.groups[0], x_t=x_t[None], t=t[None])
    with torch.no_grad():
        hidden, states = model(replace(batch, groups=(group,)))
        return model.predict(hidden, group, states[0])
