"""The first weights of a default model, drawn one by one here: what a seed gives may not change unnoticed."""

import pytest
import torch
from torch import nn
from transfuse.config.recipe import ModelSettings
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.vocabulary import vocabulary_for

from tests.tiny.models import TRANSFUSION, Kit


def test_the_default_backbone_draws_as_it_always_did(kit: Kit) -> None:
    """Each part by its own name: embedding, blocks (qkv, out, up, down), output layer; std D^-1/2, less by depth."""
    s = ModelSettings(dim=32, layers=2, heads=2)
    modalities = kit.modalities("text", "image")
    vocabulary = vocabulary_for(modalities)
    model = Model(s, modalities, vocabulary, TRANSFUSION, seed=5)
    draw = lambda part: torch.manual_seed(Key(5).number(f"weights {part}"))  # noqa: E731
    draw("tokens")
    nn.Embedding(vocabulary.size, 32)
    tokens = torch.empty(vocabulary.size, 32).normal_(std=32**-0.5)
    shapes = {"attention.qkv": (96, 32), "attention.out": (32, 32)}
    shapes |= {"feedforward.up": (2 * s.swiglu_width, 32), "feedforward.down": (32, s.swiglu_width)}
    draw("backbone")
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
    draw("unembed")
    unembed = nn.Linear(32, vocabulary.size, bias=False).weight
    assert torch.equal(model.tokens.weight, tokens)
    assert torch.equal(model.unembed.weight, unembed)
    own = dict(model.backbone.named_parameters())
    assert all(torch.equal(own[name], weight) for name, weight in drawn.items())
    assert all((own[name] == 1).all() for name in own.keys() - drawn.keys())


def first_weights(kit: Kit, *roles: str) -> dict[str, torch.Tensor]:
    s, modalities = ModelSettings(dim=32, layers=2, heads=2), kit.modalities(*roles)
    model = Model(s, modalities, vocabulary_for(modalities), TRANSFUSION, seed=5)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def alike(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    """Whether two models' backbones are, to the bit."""
    own, other = ({n: p for n, p in each.items() if n.startswith("backbone.")} for each in (one, two))
    return bool(own) and own.keys() == other.keys() and all(torch.equal(own[n], other[n]) for n in own)


def test_weights_that_are_drawn_one_after_another_are_found(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one generator, so that a patcher's draws move those of the backbone behind it."""
    monkeypatch.setattr(torch, "manual_seed", lambda number: None)
    torch.default_generator.manual_seed(5)
    one, two = (first_weights(kit, *roles) for roles in (("text", "image"), ("text", "image_vq")))
    assert not alike(one, two)


def test_models_of_other_modalities_have_the_same_backbone_and_the_same_of_what_they_share(kit: Kit) -> None:
    """So that two arms differ in nothing but what sets them apart, whichever modalities come first."""
    drawn = {}
    for roles in (("text", "image"), ("image", "text"), ("text", "image_vq"), ("text",)):
        drawn[roles] = first_weights(kit, *roles)
    first = drawn["text", "image"]
    assert all(alike(own, first) for own in drawn.values())
    patcher = {name for name in first if name.startswith("modality_modules.image.")}
    assert patcher
    assert all(torch.equal(drawn["image", "text"][name], first[name]) for name in patcher)


def test_another_seed_draws_another_backbone(kit: Kit) -> None:
    s = ModelSettings(dim=32, layers=1, heads=2)
    one, two = (
        Model(s, kit.modalities("text"), vocabulary_for(kit.modalities("text")), TRANSFUSION, seed=seed)
        for seed in (0, 1)
    )
    pairs = zip(one.backbone.parameters(), two.backbone.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
