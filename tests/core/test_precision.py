"""Mixed precision: what is bfloat16 and what is not, and that it computes what float32 does, but for rounding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transfuse import masks
from transfuse.checkpoints import RunFolder
from transfuse.documents import Document, Item
from transfuse.modalities.loss import Loss
from transfuse.model.model import Model
from transfuse.model.precision import computing_in
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.rows import join
from transfuse.testing.modalities import Blob, Letters
from transfuse.training import Trainer

from tests.tiny.datasets import Shapes
from tests.tiny.models import TRANSFUSION, Kit, captioned

ROUNDING = 2**-8
"""Of one number in bfloat16."""


def batch_of(model: Model, *documents: Document) -> Batch:
    row = join([model.layout.sequence(document) for document in documents])
    return collate(row, model.modalities, Key(0), model.settings.rope)


def total(model: Model, batch: Batch) -> Tensor:
    return sum((loss.sum for loss in model.losses(batch).values()), start=torch.zeros(()))


@pytest.mark.parametrize("settings", [{}, {"qk_norm": True}, {"post_norm": True}, {"tied": True},
                                      {"block": "per-modality"}])  # fmt: skip
def test_losses_and_gradients_are_those_of_float32_but_for_rounding(
    kit: Kit, settings: dict[str, Any]
) -> None:
    model = kit.model(**settings)
    batch = batch_of(model, captioned(0), captioned(1, side=8))
    found: dict[str, tuple[Tensor, list[Tensor]]] = {}
    for dtype in ("float32", "bfloat16"):
        with computing_in(model, dtype):
            loss = total(model, batch)
        weights = [p for p in model.trained() if p.dim() > 1]
        found[dtype] = loss, list(torch.autograd.grad(loss, weights, allow_unused=True))
    (full, wanted), (half, got) = found["float32"], found["bfloat16"]
    assert full != half
    torch.testing.assert_close(half, full, rtol=4 * ROUNDING, atol=0)
    for a, b in zip(wanted, got, strict=True):
        if a is not None and a.any():
            assert b.dtype == torch.float32
            assert float((a - b).norm() / a.norm()) < 16 * ROUNDING


class Heard(Blob):
    """Notes the numbers that it is given and computes in."""

    def __init__(self) -> None:
        super().__init__("blob", (2, 3))
        self.heard: set[torch.dtype] = set()

    def embed(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Any]:
        vectors, state = super().embed(x_t, t)
        self.heard |= {x_t.dtype, t.dtype, vectors.dtype}
        return vectors, state

    def head(self, hidden: Tensor, state: Any, t: Tensor) -> Tensor:
        prediction = super().head(hidden, state, t)
        self.heard |= {hidden.dtype, prediction.dtype}
        return prediction


class Reading(Letters):
    def objective(self, logits: Tensor, targets: Tensor) -> Loss:
        assert logits.dtype == torch.float32
        return super().objective(logits, targets)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_modality_computes_in_float32_unless_it_says_otherwise(
    kit: Kit, mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = Heard()
    monkeypatch.setattr(Heard, "mixed_precision", mixed)
    model = kit.model(modalities={"letters": Reading(), "blob": blob}, mask=masks.parse(str(TRANSFUSION)))
    document = Document((Item("letters", "abc"), Item("blob", [1.0, 2.0])))
    with computing_in(model, "bfloat16"):
        losses = model.losses(batch_of(model, document))
    assert blob.heard == ({torch.float32, torch.bfloat16} if mixed else {torch.float32})
    assert {loss.sum.dtype for loss in losses.values()} == {torch.float32}


def test_without_gradients_weights_are_cast_once_and_come_back(kit: Kit) -> None:
    model = kit.model()
    batch, before = batch_of(model, captioned(0)), {n: p.clone() for n, p in model.named_parameters()}
    with computing_in(model, "bfloat16"):
        wanted = total(model, batch).detach()
    with torch.inference_mode(), computing_in(model, "bfloat16"):
        assert model.backbone.blocks[0].attention.qkv.weight.dtype == torch.bfloat16
        assert model.tokens.weight.dtype == torch.float32
        assert model.compute_dtype == torch.bfloat16
        assert torch.equal(total(model, batch), wanted)
    assert model.compute_dtype == torch.float32
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    total(model, batch).backward()  # they are trained on


@pytest.fixture
def trainer(small_recipe: Callable, fitted: Callable) -> Callable[..., Trainer]:
    def make(*more: str) -> Trainer:
        recipe = small_recipe("transfusion", *more)
        return Trainer(recipe, fitted(recipe, Shapes(), effort=0.0), Shapes())

    return make


def test_a_run_in_bfloat16_keeps_all_it_saves_in_float32_and_goes_on_bit_for_bit(
    trainer: Callable, tmp_path: Path
) -> None:
    settings = "train.dtype=bfloat16", "train.ema=0.9", "train.rows=2"
    one, two, run = trainer(*settings), trainer(*settings), RunFolder(tmp_path)
    for _ in range(2):
        one.step()
    one.save(run)
    for name in ("model.safetensors", "optimizer.safetensors", "ema.safetensors"):
        held = run.checkpoint.tensors(name).values()
        assert {tensor.dtype for tensor in held if tensor.is_floating_point()} == {torch.float32}
    two.resume(run.checkpoint)
    assert one.step() == two.step()
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_first_losses_of_a_run_are_those_of_float32_but_for_rounding(trainer: Callable) -> None:
    half, full = (trainer(f"train.dtype={dtype}").step() for dtype in ("bfloat16", "float32"))
    assert half == pytest.approx(full, rel=8 * ROUNDING)
    assert half != full


# -- activation checkpointing


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("block", ["llama", "per-modality"])
def test_what_is_computed_again_gives_the_same_steps(trainer: Callable, dtype: str, block: str) -> None:
    settings = f"train.dtype={dtype}", f"model.block={block}"
    plain, again = trainer(*settings), trainer(*settings, "train.recompute=true")
    assert [plain.step() for _ in range(3)] == [again.step() for _ in range(3)]
    for a, b in zip(plain.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert kept(again) < 0.5 * kept(plain)


def kept(trainer: Trainer) -> int:
    """Bytes that a forward pass keeps for its backward pass, weights apart."""
    model, batch = trainer.model, trainer.batch(next(trainer.rows))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, Any] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        losses = model.losses(batch)
    assert losses
    return sum(storage.nbytes() for place, storage in held.items() if place not in weights)


def test_a_block_that_keeps_its_layers_elsewhere_is_named(trainer: Callable) -> None:
    made = trainer()
    made.model.backbone.layers = made.model.backbone.__dict__["_modules"].pop("blocks")
    recipe = made.recipe.model_copy(
        update={"train": made.recipe.train.model_copy(update={"recompute": True})}
    )
    with pytest.raises(ValueError, match=r"train\.recompute: block Llama has no nn\.ModuleList named blocks"):
        Trainer(recipe, made.model, Shapes())


# -- logits in parts


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_in_parts_give_the_loss_and_gradients_of_the_whole(
    kit: Kit, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = kit.model()
    batch, found, seen = batch_of(model, captioned(0), captioned(2)), [], []
    objective = model.modalities["text"].objective
    monkeypatch.setattr(
        model.modalities["text"], "objective", lambda x, y: (seen.append(len(x)), objective(x, y))[1]
    )
    for rows in (len(batch.predicted), 3):
        monkeypatch.setattr("transfuse.model.model.LOGITS", rows * model.vocabulary.size)
        with computing_in(model, dtype):
            losses = model.losses(batch)
        loss = losses["text"]
        weights = [model.unembed.weight, *model.backbone.parameters()]
        found.append([loss.sum.detach(), *torch.autograd.grad(loss.sum, weights)])
        assert loss.count == len(batch.predicted)
    assert seen[0] == len(batch.predicted)
    assert max(seen[1:]) == 3
    assert sum(seen[1:]) == 2 * len(batch.predicted)  # each part is scored again for the backward pass
    tolerance = 1e-5 if dtype == "float32" else 8 * ROUNDING
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=tolerance, atol=tolerance * float(whole.abs().max()))
