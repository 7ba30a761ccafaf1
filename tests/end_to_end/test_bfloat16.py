"""Chameleon's recipe from data to pictures and captions in bfloat16: codes are learnt, drawn and written."""

import numpy as np
import torch
from transfuse import Document, Item, Registry, Trainer, build, generate

from tests.tiny.datasets import Shapes

SETTINGS = (
    "model.dim=32", "model.layers=2", "model.heads=2", "text.vocab=260", "image.codec.width=8",
    "image.codec.codes=16", "image.codec.steps=20", "image.codec.batch=8", "train.steps=30", "train.budget=160",
    "train.dtype=bfloat16",
    "train.drop=0",
)  # fmt: skip


def test_chameleon_in_bfloat16() -> None:
    data, registry = Shapes(), Registry.open()
    recipe = registry.recipe("chameleon", list(SETTINGS))
    model = build(recipe, data, registry.plugins, report=lambda line: None)
    trainer = Trainer(recipe, model, data)
    losses = [trainer.step() for _ in range(recipe.train.steps or 0)]
    for name in ("loss_text", "loss_image"):
        assert np.mean([step[name] for step in losses[-5:]]) < np.mean([step[name] for step in losses[:5]])
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    caption, picture = sorted(data.document("train", 0).items, key=lambda item: item.modality == "image")
    (drawn,) = generate(model, [Document((caption,))], want="image", dtype="bfloat16")
    assert drawn.items[-1].data.shape == picture.data.shape
    (written,) = generate(model, [Document((Item("image", picture.data),))], want="text", dtype="bfloat16")
    assert isinstance(written.items[-1].data, str)
