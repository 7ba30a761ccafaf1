"""Every recipe's loss and gradients, and every sampler, with the weights on a device that is only pretended.

The device is named ``meta``: where torch is built without CUDA, its autograd and its indexing know no CUDA device
even to pretend, and to FakeTensorMode meta is a device as any other. Attention is `dense`, and `tiles` where
that is said: FlexAttention and xformers bring kernels of their own, which only a GPU shows (tests/gpu).
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transfuse.config.recipe import Recipe
from transfuse.documents import Document, Item
from transfuse.generation import generate
from transfuse.model.build import build
from transfuse.model.model import Model
from transfuse.plugin import FitContext
from transfuse.randomness import Key
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.packing import Packer
from transfuse.sequences.vocabulary import begin_marker
from transfuse.training import Combiner, Trainer
from transfuse_image.codecs import quantised
from transfuse_lab.datasets import data_section, open_section

from tests.tiny.datasets import Shapes
from tests.tiny.models import picture, plugins
from tests.tiny.pretended import pretended, put, zeros
from tests.tiny.recipes import overrides

DEVICE = "meta"
LOGGED = {"trainer.Trainer.step": lambda number: 1.0}
"""What a step measured, all in one read, when all of it and the next step's batches are on their way."""
GUIDED = {"guidance.GuidanceSettings.denoiser": lambda inside: True}
"""Whether any span's time lies in guidance's interval: where none does, only the whole documents are evaluated."""
MASKED = ("image=image_masked", "mask=bidirectional", "model.qk_norm=false", "image.codec.codes=16")

RECIPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "transfusion": ("transfusion", ()),
    "transfusion, latents": ("transfusion", ("image.codec=kl", "image.codec.width=8", "image.codec.batch=8")),
    "transfusion, a flow": ("transfusion", ("image.objective=flow", "image.objective.weight=velocity")),
    "transfusion, min-snr": ("transfusion", ("image.objective.weight=min-snr",)),
    "transfusion, places": ("transfusion", ("image.patcher.places=true",)),
    "transfusion, U-Net": ("transfusion", ("image.patcher=unet", "image.patcher.width=8")),
    "transfusion, experts": ("transfusion", ("model.block=per-modality",)),
    "transfusion, tiles": ("transfusion", ("attention=tiles",)),
    "chameleon": ("chameleon", ()),
    "masked": ("chameleon", MASKED),
}  # fmt: skip
EMOJI = {
    "transfusion": ("image.codec.steps=1",),
    "chameleon": ("image.codec.steps=1",),
    "masked": ("image=image_masked", "mask=bidirectional"),
}


@pytest.fixture(scope="module")
def made(installed: Plugins, fitted: Callable) -> Callable[..., tuple[Recipe, Model, Batch]]:
    """A recipe of `RECIPES`, its model and a batch of a few documents: all on the CPU, and real."""
    registry = Registry.load(installed, [packaged_file()])

    def make(name: str, *more: str, emoji: bool = False) -> tuple[Recipe, Model, Batch]:
        if emoji:
            recipe_name = "chameleon" if name == "masked" else name
            recipe = registry.recipe(recipe_name, [*EMOJI[name], "attention=dense", *more], "emoji")
            data = Shapes(sides=(32,), channels=3)
        else:
            recipe_name, own = RECIPES[name]
            recipe = registry.recipe(recipe_name, [*overrides(recipe_name, "attention=dense", *own), *more])
            data = Shapes()
        model = fitted(recipe, data, effort=0.0)
        sequences = (model.layout.sequence(data.document("train", i)) for i in range(4))
        row = next(Packer(recipe.train.budget).rows(sequences))
        return recipe, model, collate(row, model.modalities, Key(0), recipe.model.rope)

    return make


# -- training


@pytest.mark.parametrize(
    ("name", "emoji"), [*((name, False) for name in RECIPES), *((name, True) for name in EMOJI)]
)
def test_losses_and_gradients(made: Callable, name: str, emoji: bool) -> None:
    recipe, model, batch = made(name, emoji=emoji)
    with pretended() as mode:
        put(model, mode, DEVICE)
        model.train()
        moved = batch.to(DEVICE)
        combined = Combiner(recipe.loss).combine(model.losses(moved), moved.counts)
        combined.total.backward()
        assert combined.total.device.type == DEVICE
        for parameter in model.trained():
            assert parameter.grad is None or parameter.grad.device.type == DEVICE
        assert any(parameter.grad is not None for parameter in model.trained())
    assert set(combined.shares) == set(recipe.loss)


@pytest.mark.parametrize("name", ["transfusion", "transfusion, experts", "chameleon"])
def test_a_step_reads_once_when_all_is_on_its_way(
    made: Callable, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AdamW is told on the device by what to divide the gradient, and whether to leave the weights alone."""
    recipe, model, _ = made(name, "train.rows=2")
    real, order = Trainer(recipe, model, Shapes()), []
    batches = iter([real._made() for _ in range(3)])  # noise is drawn on the CPU

    def moved() -> Any:
        order.append("batches")
        drawn = next(batches)
        return replace(
            drawn,
            ids=drawn.ids.to(DEVICE),
            batches=[(batch.to(DEVICE), weight) for batch, weight in drawn.batches],
        )

    with pretended(LOGGED) as mode:
        put(model, mode, DEVICE)
        trainer = Trainer(recipe, model, Shapes())
        trainer.optimizer.defaults["fused"] = True  # as it is where a device is really there
        trainer.device = Cuda()
        monkeypatch.setattr(trainer.optimizer, "step", lambda: order.append("weights"))
        monkeypatch.setattr(trainer, "_made", moved)
        monkeypatch.setattr(trainer.guard, "finite", lambda *given: not order.append("read"))
        for _ in range(2):
            assert trainer.step().keys() == {*(f"loss_{role}" for role in recipe.loss), "lr", "grad_norm"}
        marks: Any = trainer.optimizer
        assert {mark.device.type for mark in (marks.grad_scale, marks.found_inf)} == {DEVICE}
    assert order == ["batches", *["weights", "batches", "read"] * 2]


class Cuda:
    """What a trainer asks of its device."""

    type = "cuda"


# -- sampling


@pytest.mark.parametrize(
    ("objective", "target", "sampler", "guided"),
    product(("ddpm", "flow"), ("eps", "v", "x0", "velocity"), ("ddim", "ancestral", "euler", "heun"), (False, True)),
)  # fmt: skip
def test_every_sampler_of_latents(
    made: Callable, objective: str, target: str, sampler: str, guided: bool
) -> None:
    _, model, _ = made(
        "transfusion", f"image.objective={objective}", f"image.objective.target={target}",
        f"image.sampler={sampler}", "image.sampler.evaluations=4",
        f"image.guidance={{scale: {3 if guided else 1}, rescale: 0.5}}",
    )  # fmt: skip
    modality = model.span_modalities["image"]

    def evaluate(x_t: Tensor, t: Tensor, guided: bool = True) -> list[Tensor]:
        assert (x_t.device.type, t.device.type) == (DEVICE, DEVICE)
        return [x_t * t.reshape(-1, 1, 1, 1)] * (1 + guided * len(modality.views))

    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    with pretended(GUIDED if guided else {}) as mode, torch.inference_mode():
        put(model, mode, DEVICE)
        made_of = modality.sample(evaluate, modality.labels()[0], generators)
    assert made_of.device.type == DEVICE
    assert made_of.shape == (3, *modality.blank(modality.labels()[0]).shape)


@pytest.mark.parametrize("guided", [False, True])
def test_the_sampler_of_masked_ids(made: Callable, guided: bool) -> None:
    _, model, _ = made("masked", f"image.guidance.scale={3 if guided else 1}")
    modality = model.span_modalities["image"]
    blank = modality.blank(modality.labels()[0])

    def evaluate(x_t: Tensor, t: Tensor, guided: bool = True) -> list[Tensor]:
        assert (x_t.device.type, t.device.type) == (DEVICE, DEVICE)
        logits = torch.zeros(len(x_t), blank.size, modality.codec.codes, device=x_t.device)
        return [logits] * (1 + guided * len(modality.views))

    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    with pretended(GUIDED if guided else {}) as mode, torch.inference_mode():
        put(model, mode, DEVICE)
        made_of = modality.sample(evaluate, modality.labels()[0], generators)
    assert (made_of.device.type, made_of.shape) == (DEVICE, (3, *blank.shape))


# -- generation, from a prompt to raw data


# What generation must read: which token comes next, since that decides what is laid out; and what was made of it.
DRAWN = {"seam.sample": zeros}
DRAWN_IN_TURN = {"seam.choose": lambda forbidden: False}  # whether the id that was drawn may stand there
DECODED = {"autoencoder_codec.Autoencoder._image": zeros}
READ = {
    "transfusion": {**DRAWN, **GUIDED},
    "transfusion, latents": {**DRAWN, **GUIDED, **DECODED},
    "transfusion, U-Net": {**DRAWN, **GUIDED},
    "transfusion, experts": {**DRAWN, **GUIDED},
    "transfusion, tiles": {**DRAWN, **GUIDED},
    "chameleon": {**DRAWN_IN_TURN, **DECODED},
    "masked": {**DRAWN, **GUIDED, **DECODED},
}


def next_is(model: Model, role: str) -> dict[str, Callable[[Tensor], Any]]:
    """What the likeliest token is answered to be: the role's first begin marker; and it was trained."""
    begin = model.vocabulary.marker(begin_marker(role, model.modalities[role].labels()[0]))
    return {
        "asked.Asked.__init__": lambda read: True,
        "asked.Asked.next_ids": lambda read: np.full(tuple(read.shape), begin),
    }


@pytest.mark.parametrize("name", READ)
def test_an_image_for_a_prompt(made: Callable, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, _ = made(name)
    if "image" in model.token_modalities:  # which draws an id on the CPU, from logits copied there
        first = model.vocabulary.range("image").start
        monkeypatch.setattr(model.modalities["image"], "choose", lambda logits, generator, left: first)
    prompts = [Document((Item("text", text, droppable=True),)) for text in ("up", "down")]
    allowed = {**READ[name], **next_is(model, "image")}
    with pretended(allowed) as mode:
        put(model, mode, DEVICE)
        documents = generate(model, prompts, want="image")
    for document in documents:
        assert [item.modality for item in document.items] == ["text", "image"]
        assert document.items[-1].data.shape == (1, 8, 8)


CODECS = {
    "kl": {"kl.KLCodec.encode": zeros},
    "vq": {
        "quantised.QuantisedAutoencoder.encode": zeros,
        "vq.VQCodec.codes_of": lambda begun: True,  # the library asks whether its codebook was ever begun
    },
    "fsq": {"quantised.QuantisedAutoencoder.encode": zeros},
}


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_goes_where_its_weights_are(name: str) -> None:
    codec = plugins().choose("codec", {"name": name, "width": 8}, "codec").build()
    codec.fit([picture(i, side=8) for i in range(4)], 0, lambda line: None, effort=0.0)
    with pretended({**CODECS[name], **DECODED}) as mode:
        put(codec, mode, DEVICE)
        payload = codec.encode(picture(0, side=8))
        assert isinstance(payload, np.ndarray)
        assert codec.decode(payload).shape == (1, 8, 8)


TERMS = {"l1": 1, "l2": 1, "perceptual": 1, "gan": 0.5}
COUNTED = (
    dict.fromkeys(  # AdamW counts its steps on the CPU, which is pretended too; and what is told at the end
        (
            f"autoencoder_training.AutoencoderTraining.{name}"
            for name in ("_learn_features", "_learn_codec", "_heed_critic")
        ),
        lambda step: 1.0,
    )
)
TOLD = {**COUNTED, "terms.Means.dump": lambda total: 1.0}  # five times in a training
LIBRARY = lambda asked: 0 if asked.dtype.is_floating_point or asked.dtype == torch.int64 else False  # noqa: E731
FIT = {
    "kl": {"kl.KLCodec.settle": lambda bound: 1.0, **CODECS["kl"]},
    "vq": {
        "autoencoder_training._OnCPU.__torch_function__": LIBRARY,
        **CODECS["vq"],
    },
    "fsq": {"fsq.FSQCodec.make": lambda codes: 8 * 6 * 5, **CODECS["fsq"]},
}


@pytest.mark.parametrize("name", FIT)
def test_a_codec_is_fit_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a context that keeps nothing; in a step itself nothing is read of the device."""
    small = {"width": 8, "batch": 4, "steps": 5, "features": {"width": 8, "steps": 2}, "critic": {"width": 8}}
    section = {"name": name, "loss": TERMS, **small}
    codec = plugins().choose("codec", section, "codec").build()
    monkeypatch.setattr(
        quantised, "codebook_use", lambda codes, size: {}
    )  # how many codes occur is of the values
    with pretended({**TOLD, **FIT[name], **DECODED}) as mode:

        def to(module: torch.nn.Module, *device: Any, **how: Any) -> torch.nn.Module:
            for one in device:
                put(module, mode, str(one))
            return module

        monkeypatch.setattr(torch.nn.Module, "to", to)  # torch's own swaps no tensors that are pretended
        codec.fit([picture(i, side=8) for i in range(6)], 0, lambda line: None, context=FitContext(DEVICE))
        assert {weights.device.type for weights in codec.state_dict().values()} == {DEVICE}


# -- a stranger's modality


def test_a_strangers_modality_is_trained_and_drawn_there(series_plugins: Plugins) -> None:
    data = open_section(data_section("series;train=20;heldout=4", series_plugins), series_plugins)
    registry = Registry.load(series_plugins, [packaged_file()])
    recipe = registry.recipe("series-flow", ["model.dim=32", "model.layers=1", "attention=dense"], data.name)
    model = build(recipe, data, series_plugins, lambda line: None)
    row = next(Packer(256).rows(model.layout.sequence(data.document("train", i)) for i in range(4)))
    batch = collate(row, model.modalities, Key(0), recipe.model.rope)
    prompts = [Document((Item("text", "wave", droppable=True),))]
    with pretended({**DRAWN, **GUIDED, **next_is(model, "series")}) as mode:
        put(model, mode, DEVICE)
        combined = Combiner(recipe.loss).combine(model.train().losses(batch.to(DEVICE)), batch.counts)
        combined.total.backward()
        assert {p.grad.device.type for p in model.trained() if p.grad is not None} == {DEVICE}
        label = model.modalities["series"].labels()[0]
        (document,) = generate(model, prompts, want="series", label=label)
    assert document.items[-1].data.shape == (int(label),)
