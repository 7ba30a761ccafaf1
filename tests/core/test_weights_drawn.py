"""The first weights of a default model, drawn one by one here: what a seed gives may not change unnoticed."""

import torch
from torch import nn
from transfuse.config.recipe import ModelSettings
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.vocabulary import vocabulary_for

from tests.tiny.models import TRANSFUSION, Kit


def test_the_default_backbone_draws_as_it_always_did(kit: Kit) -> None:
    """Modalities first, then embedding, blocks (qkv, out, up, down), output layer; std D^-1/2, less by depth."""
    s = ModelSettings(dim=32, layers=2, heads=2)
    modalities = kit.modalities("text", "image")
    vocabulary = vocabulary_for(modalities)
    model = Model(s, modalities, vocabulary, TRANSFUSION, seed=5)
    again = kit.modalities("text", "image")
    torch.manual_seed(Key(5).number("weights"))
    for modality in again.values():
        modality.connect(32)
    nn.Embedding(vocabulary.size, 32)
    tokens = torch.empty(vocabulary.size, 32).normal_(std=32**-0.5)
    shapes = {"attention.qkv": (96, 32), "attention.out": (32, 32)}
    shapes |= {"feedforward.up": (2 * s.swiglu_width, 32), "feedforward.down": (32, s.swiglu_width)}
    for _ in range(2):
        for out, into in shapes.values():
            nn.Linear(into, out, bias=False)
    drawn = {
        f"blocks.{layer}.{name}.weight": torch.empty(shape).normal_(
            std=32**-0.5 * (0.5 if name.endswith(("out", "down")) else 1)
        )
        for layer in range(2)
        for name, shape in shapes.items()
    }
    unembed = nn.Linear(32, vocabulary.size, bias=False).weight
    assert torch.equal(model.tokens.weight, tokens)
    assert torch.equal(model.unembed.weight, unembed)
    own = dict(model.backbone.named_parameters())
    assert all(torch.equal(own[name], weight) for name, weight in drawn.items())
    assert all((own[name] == 1).all() for name in own.keys() - drawn.keys())
