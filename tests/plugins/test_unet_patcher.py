"""The U-Net patcher: its block against diffusers', skips past the transformer, time, FLOPs, every grid, cached."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transfuse import checkpoints
from transfuse.config.recipe import ModelSettings
from transfuse.documents import Document, Item, View
from transfuse.errors import TransfuseError
from transfuse.generation.decoding import generate
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join
from transfuse.training.counts import flops, parameter_counts
from transfuse.training.trainer import Trainer
from transfuse_image.patchers.unet import ResBlock, UNetPatcher
from transfuse_lab.datasets.digits import Digits
from transfuse_lab.runs.dry_run import describe
from transfuse_lab.runs.training import train
from transfuse_llama.llama import Llama, LlamaSettings

from tests.tiny.strange_modalities import Probe

UNET = ("image.patcher.name=unet", "image.patcher.patch=2", "image.patcher.width=8", "image.patcher.blocks=1")
GRIDS = [
    (1, 1, (4, 4)), (2, 1, (8, 8)), (2, 4, (8, 8)), (2, 4, (4, 12)), (4, 4, (16, 16)), (4, 3, (8, 4)),
    (8, 8, (32, 32)), (8, 2, (8, 24)), (16, 1, (16, 16)),
]  # fmt: skip


@pytest.fixture
def make(installed: Plugins) -> Callable[..., UNetPatcher]:
    """A small one of which no layer is zero, as it is once trained."""

    def build(
        patch: int = 2,
        channels: int = 1,
        grid: tuple[int, int] = (8, 8),
        dim: int = 16,
        trained: bool = True,
        **more: Any,
    ) -> UNetPatcher:
        torch.manual_seed(0)
        section = {"name": "unet", "patch": patch, "width": 8, **more}
        built = installed.choose("patcher", section, "patcher").build(shape=(channels, *grid), dim=dim)
        if trained:
            for own in built.modules():
                if isinstance(own, nn.Conv2d) and not own.weight.any():
                    nn.init.normal_(own.weight, std=0.1)
                    nn.init.normal_(own.bias, std=0.1)
        return built

    return build


def noised(channels: int, grid: tuple[int, int], images: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(images, channels, *grid, generator=generator), torch.linspace(20.0, 900.0, images)


# -- what it computes


@pytest.mark.parametrize("width", [8, 24])
def test_a_block_is_diffusers_resnet_block(width: int) -> None:
    """With the time embedding's SiLU, which we take once an image, inside."""
    from diffusers.models.resnet import ResnetBlock2D

    torch.manual_seed(0)
    ours = ResBlock(width, embedding=12)
    nn.init.normal_(ours.conv2.weight, std=0.1)
    theirs = ResnetBlock2D(
        in_channels=width, out_channels=width, temb_channels=12, groups=width // 8, eps=1e-5
    )  # fmt: skip
    names = {"time": "time_emb_proj"}
    weights = {}
    for key, value in ours.state_dict().items():
        layer, kind = key.split(".")
        weights[f"{names.get(layer, layer)}.{kind}"] = value
    theirs.load_state_dict(weights)
    x, time = torch.randn(3, width, 6, 4), torch.randn(3, 12)
    torch.testing.assert_close(ours(x, F.silu(time)), theirs(x, time))


def test_two_levels_by_hand(make: Callable) -> None:
    """Patch 2, two blocks a level, written out: the last kept activation meets the first block up."""
    unet = make(patch=2, channels=3, grid=(4, 8), blocks=2)
    x_t, t = noised(3, (4, 8))
    hidden = torch.randn(2, 8, 16)
    time = F.silu(unet.time(t))
    (top, low), (up, lowest) = unet.downs, unet.ups
    a = top.blocks[0](top.enter(x_t), time)
    b = top.blocks[1](a, time)
    c = low.blocks[0](F.conv2d(b, low.enter.weight, low.enter.bias, stride=2, padding=1), time)
    d = low.blocks[1](c, time)
    normed = F.group_norm(d, 2, unet.norm_down.weight, unet.norm_down.bias)
    vectors = torch.einsum("bchw,dc->bhwd", normed, unet.into.weight[:, :, 0, 0]) + unet.into.bias
    y = torch.einsum("bhwd,cd->bchw", hidden.view(2, 2, 4, 16), lowest.enter.weight[:, :, 0, 0])
    y = lowest.blocks[0]((y + lowest.enter.bias[:, None, None] + d) / 2**0.5, time)
    y = lowest.blocks[1]((y + c) / 2**0.5, time)
    y = up.enter(y.repeat_interleave(2, 2).repeat_interleave(2, 3))
    y = up.blocks[1]((up.blocks[0]((y + b) / 2**0.5, time) + a) / 2**0.5, time)
    y = unet.out(F.silu(F.group_norm(y, 1, unet.norm_up.weight, unet.norm_up.bias)))
    made, state = unet.down(x_t, t)
    torch.testing.assert_close(made, vectors.flatten(1, 2))
    torch.testing.assert_close(unet.up(hidden, state, t), y)


@pytest.mark.parametrize(("patch", "channels", "grid"), GRIDS)
def test_any_grid_that_divides(make: Callable, patch: int, channels: int, grid: tuple[int, int]) -> None:
    unet = make(patch, channels, grid)
    x_t, t = noised(channels, grid)
    vectors, state = unet.down(x_t, t)
    assert vectors.shape == (2, grid[0] * grid[1] // patch**2, 16)
    assert unet.up(vectors, state, t).shape == x_t.shape
    alone, state = unet.down(x_t[1:], t[1:])  # images of a batch do not meet
    torch.testing.assert_close(alone, vectors[1:], rtol=0, atol=1e-5)


def test_one_patcher_serves_several_sizes(make: Callable) -> None:
    unet = make(patch=2, channels=4, grid=(8, 8))
    for grid in ((8, 8), (16, 16), (2, 6)):
        x_t, t = noised(4, grid)
        vectors, state = unet.down(x_t, t)
        assert unet.up(vectors, state, t).shape == x_t.shape


def test_positions_are_in_row_major_order(make: Callable) -> None:
    """Changed pixels move the position they lie in, or the next, the most; a changed position, its own pixels."""
    unet = make(patch=4, channels=1, grid=(32, 64), blocks=1, growth=1)
    x_t, t = noised(1, (32, 64), images=1)
    vectors, state = unet.down(x_t, t)
    before = unet.up(vectors, state, t)
    for row, column in ((0, 0), (3, 5), (7, 15), (6, 2)):
        index = 16 * row + column
        changed = x_t.clone()
        changed[0, 0, 4 * row + 1 : 4 * row + 3, 4 * column + 1 : 4 * column + 3] += 4
        near((unet.down(changed, t)[0] - vectors).abs().sum(-1), row, column)
        other = vectors.clone()
        other[0, index] += 2 * torch.randn(16)
        near(F.avg_pool2d((unet.up(other, state, t) - before).abs(), 4), row, column)


def near(moved: Tensor, row: int, column: int) -> None:
    """The most moved of 8×16 positions is this one or touches it."""
    at = divmod(int(moved.argmax()), 16)
    assert max(abs(at[0] - row), abs(at[1] - column)) <= 1


def test_the_first_prediction_is_zero(make: Callable) -> None:
    unet = make(trained=False)
    x_t, t = noised(1, (8, 8))
    vectors, state = unet.down(x_t, t)
    assert float(unet.up(vectors, state, t).detach().abs().max()) == 0
    assert float(vectors.detach().std()) > 0.1


# -- where its information flows


def moved_without_the_transformer(patcher: nn.Module, dim: int) -> float:
    """How far the first predictions move where nothing comes from the transformer: the root mean square, as a share."""
    torch.manual_seed(1)
    for own in patcher.modules():  # an output layer that starts at zero predicts nothing yet
        if isinstance(own, nn.Conv2d) and own.out_channels == 4 and not own.weight.any():
            nn.init.normal_(own.weight, std=0.1)
    x_t, t = noised(4, (8, 8), images=8)
    with torch.no_grad():
        vectors, state = patcher.down(x_t, t)
        hidden = torch.randn(*vectors.shape[:2], dim)  # as norms leave it
        whole, alone = (patcher.up(x, state, t) for x in (hidden, torch.zeros_like(hidden)))
    return float((whole - alone).square().mean().sqrt() / whole.square().mean().sqrt())


def test_no_patchers_first_prediction_does_without_the_transformer(installed: Plugins) -> None:
    """Of every patcher that is offered: else it learns to denoise by itself, and the caption is heeded late."""
    assert {"linear", "unet"} <= set(installed.parts("patcher"))
    for name in installed.parts("patcher"):
        torch.manual_seed(0)
        section = {"name": name, "patch": 2}
        patcher = installed.choose("patcher", section, "patcher").build(shape=(4, 8, 8), dim=64)
        assert moved_without_the_transformer(patcher, 64) > 0.3, name


def test_a_patcher_that_hardly_listens_to_the_transformer_is_found(make: Callable) -> None:
    """Where its output comes in small beside the skips."""
    unet = make(patch=2, channels=4, grid=(8, 8), dim=64)
    with torch.no_grad():
        unet.ups[-1].enter.weight.mul_(0.05)
    assert moved_without_the_transformer(unet, 64) < 0.15


def test_skips_bypass_the_transformer(make: Callable) -> None:
    """With nothing from the transformer the prediction still follows x_t, to every level's every block."""
    unet = make(patch=4, grid=(16, 16))
    x_t, t = noised(1, (16, 16))
    x_t.requires_grad_()
    vectors, state = unet.down(x_t, t)
    nothing = torch.zeros_like(vectors)
    (gradient,) = torch.autograd.grad(unet.up(nothing, state, t).square().sum(), x_t, retain_graph=True)
    assert float(gradient.abs().min()) > 0
    _, kept = state
    assert [len(level) for level in kept] == [2, 2, 2]
    assert [tuple(level[0].shape[1:]) for level in kept] == [(8, 16, 16), (16, 8, 8), (32, 4, 4)]
    before = unet.up(nothing, state, t)
    for level in range(3):
        for block in range(2):
            changed = [list(own) for own in kept]
            changed[level][block] = changed[level][block] + torch.randn_like(changed[level][block])
            assert not torch.allclose(unet.up(nothing, (state[0], changed), t), before, atol=1e-4)


def test_the_transformer_matters_everywhere(make: Callable) -> None:
    unet = make(patch=4, grid=(16, 16))
    x_t, t = noised(1, (16, 16))
    vectors, state = unet.down(x_t, t)
    vectors = vectors.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(unet.up(vectors, state, t).square().sum(), vectors)
    assert float(gradient.abs().sum(-1).min()) > 0


def test_time_conditions_down_and_up(make: Callable) -> None:
    unet = make()
    x_t, _ = noised(1, (8, 8))
    early, late = torch.full((2,), 30.0), torch.full((2,), 700.0)
    (vectors, state), (moved, other) = unet.down(x_t, early), unet.down(x_t, late)
    assert not torch.allclose(vectors, moved, atol=1e-3)
    before = unet.up(vectors, state, early)
    after = unet.up(vectors, (other[0], state[1]), late)  # the same activations, only the time differs
    assert not torch.allclose(before, after, atol=1e-3)


def test_gradients_reach_every_parameter(make: Callable) -> None:
    unet = make(patch=4, channels=4, grid=(16, 16), dim=24)
    x_t, t = noised(4, (16, 16), images=3)
    vectors, state = unet.down(x_t, t)
    (unet.up(vectors.tanh(), state, t) - x_t).square().mean().backward()
    idle = [n for n, p in unet.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert idle == []


# -- what it costs


@pytest.mark.parametrize("settings", [{}, {"blocks": 1}, {"growth": 1}, {"growth": 3, "width": 16}])
@pytest.mark.parametrize(("patch", "channels", "grid"), GRIDS[:6])
def test_flops_are_those_torch_counts(
    make: Callable, patch: int, channels: int, grid: tuple[int, int], settings: dict[str, int]
) -> None:
    unet = make(patch, channels, grid, **settings)
    x_t, t = noised(channels, grid)
    with FlopCounterMode(display=False) as counter:
        vectors, state = unet.down(x_t, t)
        unet.up(vectors, state, t)
    assert 2 * unet.flops(vectors.shape[1]) == counter.get_total_flops()


def test_at_its_defaults_it_costs_less_than_a_small_transformer(installed: Plugins) -> None:
    """8×8×4 latents in 16 positions of width 256, against six layers' matrices at those positions."""
    unet = installed.choose("patcher", "unet", "patcher").build(shape=(4, 8, 8), dim=256)
    backbone = Llama(LlamaSettings(), ModelSettings(dim=256, layers=6, heads=4))
    matrices = sum(p.numel() for p in backbone.parameters() if p.dim() == 2)
    assert unet.flops(16) == 90_537_984
    assert unet.flops(16) < 2 * 16 * matrices
    assert sum(p.numel() for p in unet.parameters()) == 1_977_604


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"patch": 3}, "patch: the U-Net halves the grid: a power of 2, not 3"),
        ({"patch": 64, "width": 128}, "the lowest level would have 8192 channels, more than 4096"),
        ({"width": 12}, "width: .*multiple of 8"),
        ({"blocks": 0}, "blocks: .*1"),
        ({"depth": 2}, "depth: unknown key"),
    ],
)
def test_settings_that_cannot_be(installed: Plugins, section: dict, message: str) -> None:
    with pytest.raises(TransfuseError, match=message):
        installed.choose("patcher", {"name": "unet", **section}, "patcher")


# -- in a model


@pytest.fixture
def model(small_recipe: Callable, fitted: Callable, shapes: Callable) -> Model:
    """Images of 8×8 and 4×4 in one model, its output layer not zero."""
    made = fitted(small_recipe("transfusion", *UNET), shapes(sides=(8, 4)))
    torch.manual_seed(0)
    nn.init.normal_(made.modalities["image"].patcher.out.weight, std=0.1)
    made.predictable[:] = True
    return made.eval()


@pytest.mark.parametrize("side", [4, 8])
def test_decoding_predicts_what_training_does(model: Model, side: int) -> None:
    """In both of guidance's views, after an image that stays in the context."""
    generator = torch.Generator().manual_seed(3)
    x_t, t = torch.randn(1, 1, side, side, generator=generator), torch.tensor([400.0])
    context = Item("image", np.random.default_rng(0).random((1, 8, 8), dtype=np.float32))
    prompt = Document((context, Item("text", "up", droppable=True)))
    blank = torch.zeros(1, 1, side, side)
    probe = Probe(x_t, t, blank)
    model.modalities["image"].sample = probe  # type: ignore[assignment]
    label = f"<image {side // 2}x{side // 2}>"
    for marker in ("<image 2x2>", "<image 4x4>"):
        model.predictable[model.vocabulary.marker(marker)] = marker == label
    generate(model, [prompt], want="image")
    whole = replace(prompt, items=(*prompt.items, Item("image", np.zeros((1, side, side), np.float32))))
    for seen, document in zip(probe.seen[0], (whole, whole.seen(View())), strict=True):
        torch.testing.assert_close(seen, in_training(model, document, x_t, t), rtol=0, atol=1e-5)
    assert not torch.allclose(*probe.seen[0], atol=1e-4)


def in_training(model: Model, document: Document, x_t: Tensor, t: Tensor) -> Tensor:
    """The prediction for the document's last image at (x_t, t), in the pass that training runs."""
    batch = collate(join([model.layout.sequence(document)]), model.modalities, Key(0), clean=True)
    groups = []
    for group in batch.groups:
        if group.x_t.shape[1:] == x_t.shape[1:]:
            group = replace(group, x_t=torch.cat([group.x_t[:-1], x_t]), t=torch.cat([group.t[:-1], t]))
        groups.append(group)
    with torch.no_grad():
        hidden, states = model(replace(batch, groups=tuple(groups)))
        for group, state in zip(groups, states, strict=True):
            if group.x_t.shape[1:] == x_t.shape[1:]:
                return model.predict(hidden, group, state)[-1:]
    raise AssertionError("no such image")


def test_a_row_of_both_sizes_trains_every_parameter(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    recipe, data = small_recipe("transfusion", *UNET), shapes(sides=(8, 4))
    trainer = Trainer(recipe, fitted(recipe, data), data)
    batch = trainer.batch(next(trainer.rows))
    assert {tuple(group.x_t.shape[1:]) for group in batch.groups} == {(1, 8, 8), (1, 4, 4)}
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    for _ in range(3):
        assert all(np.isfinite(list(trainer.step().values())))
    trained = [(n, p) for n, p in trainer.model.named_parameters() if p.requires_grad]
    assert [n for n, p in trained if torch.equal(p, before[n])] == []


def test_the_models_flops_are_those_torch_counts(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    """A row's formula grows by three passes of the U-Net's own when it takes the linear layer's place."""
    data, costs = shapes(), {}
    for name in ("linear", "unet"):
        overrides = UNET if name == "unet" else ()
        recipe = small_recipe("transfusion", *overrides)
        model = fitted(recipe, data)
        row = next(Trainer(recipe, model, data).rows)
        patcher = model.modalities["image"].patcher
        costs[name] = flops(model, row) - 3 * len(row.spans) * patcher.flops(16)
        assert parameter_counts(model)["image"] == sum(p.numel() for p in patcher.parameters())
    assert costs["linear"] == pytest.approx(costs["unet"], rel=1e-12)


def test_digits_end_to_end(
    small_recipe: Callable, installed: Plugins, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Trained a few steps, saved, loaded, sampled: 16 positions an image, the same images from the copy."""
    recipe, data = small_recipe("transfusion", *UNET, "train.steps=12", "train.lr=0.01"), Digits()
    shown = describe(recipe, data, installed)
    trainer = train(recipe, data, {"name": "digits"}, tmp_path, installed, report=lambda line: None)
    model = trainer.model.eval()
    own = sum(p.numel() for p in model.modalities["image"].patcher.parameters())
    assert f"image {own:,}" in shown
    assert "spans of 16 positions, payload (1, 8, 8)" in shown
    prompts = [Document((Item("text", word, droppable=True),)) for word in ("three", "seven")]
    images = [one.items[-1].data for one in generate(model, prompts, want="image")]
    assert [image.shape for image in images] == [(1, 8, 8)] * 2
    assert float(np.abs(images[0] - images[1]).max()) > 1e-3
    again = checkpoints.load(tmp_path)[1].eval()
    for one, two in zip(images, generate(again, prompts, want="image"), strict=True):
        np.testing.assert_array_equal(one, two.items[-1].data)
