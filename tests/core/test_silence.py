"""No silence: what would train or decode wrongly without a word is refused, or said once, by name."""
# ruff: noqa: E501 (a mistake and what is said of it stand on one line)

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transfuse import masks
from transfuse.config.parts import Part, Settings
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.generation import generate
from transfuse.modalities.loss import Loss
from transfuse.modalities.modality import Column, Modality, Span
from transfuse.model.model import Model
from transfuse.plugin import hookimpl
from transfuse.randomness import Key
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join
from transfuse.sequences.vocabulary import vocabulary_for
from transfuse.testing.modalities import Blob, Letters, document, layout
from transfuse.training import Trainer
from transfuse.training.stream import IDS, Stream

from tests.tiny.models import Kit
from tests.tiny.recipes import MODEL
from tests.tiny.strange_modalities import Twins


class Copies(Blob):
    """A noised copy that is predicted, and a clean one, shorter by two, of the same payload: both are embedded.

    heard: what embed, head and objective were told, with how many positions there were.
    """

    def __init__(self, name: str = "blob") -> None:
        super().__init__(name, (4,), inside=True)
        self.heard: list[tuple[str, str, int]] = []

    def connect(self, dim: int) -> None:
        super().connect(dim)
        self.clean = nn.Linear(4, 2 * dim)

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        clean = Span(payload, 2, "4", inside=True, loss=False, copy="clean")
        noised = Span(payload, 4, "4", inside=True, noised=True, loss=item.loss, copy="noised")
        return [noised, clean] if item.noised else [clean]

    def positions(self, span: Span, cursor: int) -> tuple[np.ndarray, int]:
        return np.full(span.positions, cursor), cursor + (0 if span.noised else 1)

    def embed(self, x_t: Tensor, t: Tensor, copy: str = "") -> tuple[Tensor, Any]:
        vectors = self.clean(x_t).unflatten(1, (2, -1)) if copy == "clean" else super().embed(x_t, t)[0]
        self.heard.append(("embed", copy, vectors.shape[1]))
        return vectors, None

    def head(self, hidden: Tensor, state: Any, t: Tensor, *, copy: str) -> Tensor:
        self.heard.append(("head", copy, hidden.shape[1]))
        return super().head(hidden, state, t)

    def objective(self, prediction: Tensor, target: Tensor, t: Tensor, copy: str = "") -> Loss:
        self.heard.append(("objective", copy, prediction.shape[1]))
        return super().objective(prediction, target, t)


NUMBERS = [1.0, 2.0, 3.0, 4.0]


def copies(kit: Kit) -> tuple[Model, Copies]:
    blob = Copies()
    return kit.model(modalities={"letters": Letters(), "blob": blob}), blob


# -- copies


def test_spans_of_another_length_or_copy_are_a_group_of_their_own(kit: Kit) -> None:
    """And each group's vectors stand at its own positions, not over the markers behind a shorter copy."""
    model, _ = copies(kit)
    row = join([model.layout.sequence(document("a", NUMBERS, "b", id=i)) for i in range(2)])
    groups = collate(row, model.modalities, Key(0)).groups
    assert [(group.copy, tuple(group.index.shape)) for group in groups] == [
        ("noised", (2, 4)),
        ("clean", (2, 2)),
    ]
    written = torch.cat([group.index.flatten() for group in groups]).tolist()
    assert sorted(written) == np.flatnonzero(row.columns["blob"]).tolist()
    assert len(set(written)) == len(written)


@pytest.mark.parametrize("field", [{"copy": "other"}, {"payload": np.ones(2, np.int64)}, {"length": 1}])
def test_copy_dtype_and_length_each_part_two_groups(field: dict[str, Any]) -> None:
    class One(Blob):
        def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
            usual = Span(payload, 2, "2")
            return [replace(usual, **field)] if payload[0] else [usual]

    lay = layout(Letters(), One())
    row = join([lay.sequence(document([float(i), 2.0])) for i in (0, 1, 0)])
    groups = collate(row, lay.modalities, Key(0), clean=True).groups
    assert [len(group.index) for group in groups] == [2, 1]


def test_embed_head_and_objective_are_told_the_copy_and_others_are_called_as_ever(kit: Kit) -> None:
    model, blob = copies(kit)
    row = join([model.layout.sequence(document("a", NUMBERS, "b"))])
    model.losses(collate(row, model.modalities, Key(0)))
    calls = [("embed", "noised", 4), ("embed", "clean", 2), ("head", "noised", 4), ("objective", "noised", 4)]
    assert blob.heard == calls
    blob.heard.clear()
    model.predictable[:] = True
    (made,) = generate(model.eval(), [document("a")], want="blob")
    assert len(made.items[-1].data) == 4
    assert {call for call in blob.heard if call[0] == "embed"} == {
        ("embed", "noised", 4),
        ("embed", "clean", 2),
    }
    assert {copy for name, copy, _ in blob.heard if name == "head"} == {"noised"}


def test_a_clean_copy_has_an_encoder_of_its_own_that_is_trained(kit: Kit) -> None:
    model, blob = copies(kit)
    row = join([model.layout.sequence(document("a", NUMBERS, "b"))])
    sum(loss.sum for loss in model.losses(collate(row, model.modalities, Key(0))).values()).backward()
    assert blob.clean.weight.grad is not None
    assert blob.clean.weight.grad.abs().sum() > 0


# -- an item ends alike, noised and clean


def ends(**of_clean: Any) -> Callable[..., list[Span]]:
    """One span; clean, it differs in these fields."""

    def spans(self: Any, item: Item, payload: np.ndarray) -> list[Span]:
        usual = Span(payload, len(payload), str(len(payload)), noised=item.noised)
        return [usual if item.noised else replace(usual, **of_clean)]

    return spans


def several(*noised: dict[str, Any], clean: dict[str, Any] | None = None) -> Callable[..., list[Span]]:
    """Spans with these fields where the item is noised; clean, one."""

    def spans(self: Any, item: Item, payload: np.ndarray) -> list[Span]:
        usual = Span(payload, len(payload), str(len(payload)))
        return [replace(usual, **each) for each in (noised if item.noised else [clean or {}])]

    return spans


def frames(value: int) -> dict[str, np.ndarray]:
    return {"frame": np.full(4, value)}


ENDINGS: Mapping[str, tuple[dict[str, Any], str]] = {
    "length": ({"spans": ends(length=1)}, "'2' ends otherwise noised than clean: the length of its last span is 2 and 1"),
    "label": ({"spans": ends(label="3")}, r"blank\('2'\) is laid out with the label '3'"),
    "inside": ({"spans": ends(inside=True)}, "the inside of its last span is False and True"),
    "grouped": ({"spans": ends(grouped=False)}, "the grouped of its last span is True and False"),
    "columns": (
        {"spans": lambda self, i, x: [Span(x, 2, "2", columns=frames(int(i.noised)))], "extra": {"frame": Column.ID}},
        r"the column 'frame' of its last span is \[1, 1, 1, 1\] and \[0, 0, 0, 0\]",
    ),
    "a column only clean": (
        {"spans": ends(columns=frames(1)), "extra": {"frame": Column.ID}},
        r"the column 'frame' of its last span is \[\] and \[1, 1, 1, 1\]",
    ),
    "cursor": (
        {"positions": lambda self, span, at: (np.arange(at, at + 4), at + (0 if span.noised else 4))},
        "the cursor after it is 1 and 5",
    ),
    "the last copy": (
        {"spans": several({"noised": True}, {"copy": "b"}, clean={"copy": "a"})},
        "the copy of its last span is b and a",
    ),
    "the last is noised": (
        {"spans": several({"noised": True}, {"noised": True})},
        "the noised of its last span is True and False",
    ),
    "a clean copy first": (
        {"spans": several({}, {"noised": True})},
        "its first span, which sampling fills in, is not noised",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ENDINGS)
def test_an_item_that_ends_otherwise_clean_than_noised_is_refused_when_a_model_is_built(
    kit: Kit, what: str
) -> None:
    methods, message = ENDINGS[what]
    blob = type("Uneven", (Blob,), methods)()
    blob.sizes, blob.extra = (2,), methods.get("extra", {})
    with pytest.raises(TransfuseError, match=f"^modality 'blob': .*{message}"):
        kit.model(modalities={"letters": Letters(), "blob": blob})


def test_what_ends_alike_is_built(kit: Kit) -> None:
    even = several({"noised": True}, {"copy": "clean"}, clean={"copy": "clean"})
    for blob in (Blob(), Twins(), Copies(), type("Even", (Twins,), {"spans": even})()):
        kit.model(modalities={"letters": Letters(), "blob": blob})


# -- shapes that training had not


def test_a_length_that_only_the_held_out_split_has_is_named_with_those_there_are() -> None:
    lay = layout(Letters(), Blob(sizes=(2, 3)))
    with pytest.raises(
        TransfuseError,
        match=r"series 9: item 1 \(blob\): .*spans returned '4' as a label, and labels\(\) had \('2', '3'\)",
    ):
        lay.sequence(document("a", NUMBERS, source="series 9"))


def test_a_prediction_that_would_broadcast_with_its_target_is_said(kit: Kit) -> None:
    class Column(Blob):
        def head(self, hidden: Tensor, state: Any, t: Tensor) -> Tensor:
            return self.out(hidden)

        def objective(self, prediction: Tensor, target: Tensor, t: Tensor) -> Loss:
            return Loss((prediction - target).square().mean(), float(len(target)))

    model = kit.model(modalities={"letters": Letters(), "blob": Column()})
    row = join([model.layout.sequence(document("a", [1.0, 2.0]))])
    with pytest.warns(
        UserWarning, match=r"head returned \[1, 2, 1\] for targets \[1, 2\], with which it would broad"
    ):
        model.losses(collate(row, model.modalities, Key(0)))


# -- ids, losses, weights, masks: in training


class Plain(Settings):
    pass


def named(make: Callable[[], Modality]) -> Callable[..., Modality]:
    return lambda settings, name: make()


class Pairs(DataSet):
    """Letters and a blob, ten documents in training; ``change`` spoils them by number."""

    name = "pairs"

    def __init__(
        self, change: Callable[[Document], Document] = lambda document: document, train: int = 10
    ) -> None:
        self.change, self.train = change, train

    def size(self, split: str) -> int:
        return self.train if split == "train" else 2

    def document(self, split: str, index: int, rng: Any = None) -> Document:
        return self.change(document("ab", [float(index), 2.0], id=index, source=f"pair {index}"))

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}


def trainer(
    data: DataSet | None = None,
    mask: str = "same(doc) & (le(idx) | same(span))",
    blob: Callable[[], Modality] = Blob,
    loss: Sequence[float] = (1, 1),
    train: Mapping[str, Any] | None = None,
    **more: Any,
) -> Trainer:
    """A trainer of letters and blobs, of 40 positions a row."""
    parts = [Part("letters", Plain, named(Letters)), Part("blob", Plain, named(blob))]
    module = type(
        "module", (), {"hook": staticmethod(hookimpl(lambda: parts, specname="transfuse_modalities"))}
    )
    plugins = Plugins.of({"small": module})
    dump = {
        "name": "small",
        "modalities": {"letters": {"kind": "letters"}, "blob": {"kind": "blob"}},
        "mask": mask,
        "loss": dict(zip(("letters", "blob"), loss, strict=True)),
        "model": MODEL,
        "train": {"steps": 9, "budget": 40, "drop": 0.0, **(train or {})},
        **more,
    }
    recipe = Recipe.from_dump(dump, plugins)
    modalities = {role: chosen.build(name=role) for role, chosen in recipe.modalities.items()}
    model = Model(recipe.model, modalities, vocabulary_for(modalities), recipe.mask)
    return Trainer(recipe, model, data or Pairs())


def test_two_documents_of_one_id_are_named() -> None:
    twice = Pairs(lambda one: replace(one, id=one.id % 5))
    stream = trainer(twice).stream
    message = r"pairs train: documents (\d) \(pair \1\) and (\d) \(pair \2\) have one id, \d, .* its own"
    with pytest.raises(TransfuseError, match=message):
        list(map(stream.sequence, range(10)))


def test_an_id_that_is_no_number_is_named() -> None:
    stream = trainer(Pairs(lambda one: replace(one, id=f"no {one.id}"))).stream
    with pytest.raises(TransfuseError, match=r"pair \d: its id 'no \d' must be a whole number"):
        stream.sequence(0)


def test_a_document_that_comes_again_is_no_other_one() -> None:
    stream = trainer().stream
    for place in range(30):
        stream.sequence(place)


def test_ids_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert IDS < 1_000_000
    monkeypatch.setattr("transfuse.training.stream.IDS", 3)
    one = trainer()
    stream = Stream(one.data, one.model.layout, Key(0), 0.0)
    for place in range(10):
        stream.sequence(place)
    assert len(stream._indices) == 3


def warned(one: Trainer, steps: int) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            one.step()
    return [str(each.message) for each in caught]


def context(one: Document) -> Document:
    """The blob is only shown."""
    letters, blob = one.items
    return replace(one, items=(letters, replace(blob, loss=False, noised=False)))


def test_a_role_with_a_weight_and_no_loss_is_said_once_when_an_epoch_was_read() -> None:
    one = trainer(Pairs(context), loss=(1, 0.5))
    before = warned(one, 1)
    assert one.progress.documents < 10
    assert before == []
    said = [line for line in warned(one, 8) if "role" in line]
    assert len(said) == 1
    assert re.match(r"role 'blob' weighs 0\.5 in the loss and had none in \d+ documents", said[0])
    assert "loss.blob: 0" in said[0]


def test_a_role_without_weight_need_have_no_loss() -> None:
    assert not [line for line in warned(trainer(Pairs(context), loss=(1, 0)), 9) if "role" in line]


def test_weights_that_nothing_trains_are_named_once() -> None:
    class Idle(Blob):
        def connect(self, dim: int) -> None:
            super().connect(dim)
            self.idle, self.frozen = nn.Linear(dim, 3), nn.Linear(dim, 4).requires_grad_(False)

    (said,) = warned(trainer(blob=Idle), 9)
    assert re.match(r"no gradient reached 2 trained weights in \d+ documents", said)
    assert ": modality_modules.blob.idle.weight, modality_modules.blob.idle.bias; they are as" in said


@pytest.mark.parametrize(
    "held", [lambda layer: [layer], lambda layer: {"a": layer}, lambda layer: (layer.weight,)]
)
def test_weights_in_a_plain_list_are_named(held: Callable[[nn.Linear], Any]) -> None:
    class Listed(Blob):
        def connect(self, dim: int) -> None:
            super().connect(dim)
            self.layers = held(nn.Linear(dim, dim))

        def embed(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Any]:
            (one,) = self.layers.values() if isinstance(self.layers, dict) else self.layers
            return super().embed(x_t, t)[0] @ getattr(one, "weight", one), None

    (said,) = warned(trainer(blob=Listed), 9)
    assert said.startswith(
        "the weights in modality_modules.blob.layers have a gradient and are neither trained nor"
    )


def test_all_is_quiet_where_everything_trains() -> None:
    assert warned(trainer(), 9) == []


def test_it_is_said_at_the_end_where_no_epoch_was_read_and_not_of_the_rest_of_a_run() -> None:
    one = trainer(Pairs(context, train=10_000), train={"steps": 2})
    assert len(warned(one, 2)) == 2
    rest = trainer(Pairs(context, train=10_000), train={"steps": 2})
    rest._resumed_at = 1
    assert warned(rest, 2) == []


# -- masks under which documents see each other


@pytest.mark.parametrize(
    "mask", ["le(idx)", "le(idx) | same(span)", "same(doc) & le(idx) | q.marker & le(idx)"]
)
def test_a_mask_that_shows_documents_to_each_other_is_refused_with_the_cure(mask: str) -> None:
    text = str(masks.parse(mask))
    one = trainer(mask=mask)
    for begin in (one.check_mask, one.step):
        with pytest.raises(TransfuseError) as caught:
            begin()
        assert f"mask {text}: documents that are packed into one row see each other" in str(caught.value)
        cure = f"same(doc) & ({text})"
        assert f"mask: {cure}, or say crossing: true" in str(caught.value)
    trainer(mask=cure).check_mask()


def test_it_is_refused_too_where_each_row_holds_one_document() -> None:
    with pytest.raises(TransfuseError, match="see each other"):
        trainer(mask="le(idx)", train={"budget": 9}).check_mask()


def test_a_recipe_may_say_that_documents_cross() -> None:
    one = trainer(mask="le(idx)", crossing=True)
    one.check_mask()
    one.step()


def test_filler_is_no_document() -> None:
    trainer(mask="le(idx) & same(doc)", train={"fill": True}).check_mask()
