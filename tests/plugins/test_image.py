"""The image modality: several sizes in one modality, what is trained, what it saves and refuses."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.generation.decoding import generate
from transfuse.registry.plugins import Plugins
from transfuse.sequences.packing import Packer
from transfuse.testing.unpacking import unpack
from transfuse.training.counts import parameter_counts
from transfuse.training.trainer import Trainer


def test_its_own_layers_are_few_and_trained(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    data = shapes()
    recipe = small_recipe()
    trainer = Trainer(recipe, fitted(recipe, data), data)
    assert parameter_counts(trainer.model)["image"] > 0
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.step()
    trainer.step()
    idle = [n for n, p in trainer.model.named_parameters() if p.requires_grad and torch.equal(p, before[n])]
    assert idle == []


def test_codecs_weights_are_never_trained(small_recipe: Callable, fitted: Callable, shapes: Callable) -> None:
    for recipe in (small_recipe("transfusion", pixels=False), small_recipe("chameleon")):
        data = shapes()
        trainer = Trainer(recipe, fitted(recipe, data), data)
        codec = trainer.model.modalities["image"].codec
        before = {key: value.clone() for key, value in codec.state_dict().items()}
        payload = codec.encode(data.document("test", 0).items[1].data)
        trainer.step()
        for key, value in codec.state_dict().items():
            assert torch.equal(value, before[key]), key
        np.testing.assert_array_equal(codec.encode(data.document("test", 0).items[1].data), payload)


class TestTwoSizes:
    """One modality, images of 8×8 and of 4×4: each size has its begin marker."""

    @pytest.fixture
    def trainer(self, small_recipe: Callable, fitted: Callable, shapes: Callable) -> Trainer:
        data = shapes(sides=(8, 4))
        recipe = small_recipe("transfusion", "train.budget=100")
        return Trainer(recipe, fitted(recipe, data), data)

    def test_labels_and_markers(self, trainer: Trainer) -> None:
        image = trainer.model.modalities["image"]
        assert image.labels() == ("2x2", "4x4")
        assert [image.blank(label).shape for label in image.labels()] == [(1, 4, 4), (1, 8, 8)]
        vocabulary = trainer.model.vocabulary
        assert vocabulary.range("image_markers").labels == ("<image 2x2>", "<image 4x4>", "</image>")

    def test_packing_keeps_each_whole(self, trainer: Trainer) -> None:
        layout, data = trainer.model.layout, trainer.data
        sequences = [layout.sequence(data.document("train", i)) for i in range(12)]
        assert {s.spans[0].span.length for s in sequences} == {4, 16}
        rows = list(Packer(50).rows(sequences))
        for one, two in zip(unpack(rows), sequences, strict=True):
            np.testing.assert_array_equal(one.tokens, two.tokens)
            np.testing.assert_array_equal(one.spans[0].span.payload, two.spans[0].span.payload)

    def test_a_row_of_both_trains(self, trainer: Trainer) -> None:
        batch = trainer.batch(next(trainer.rows))
        assert {tuple(group.x_t.shape[1:]) for group in batch.groups} == {(1, 8, 8), (1, 4, 4)}
        assert batch.counts["image"] == sum(len(group.x_t) for group in batch.groups)
        measured = [trainer.step() for _ in range(3)]
        assert all(np.isfinite(list(line.values())).all() for line in measured)

    def test_a_size_it_was_not_fit_to(self, trainer: Trainer) -> None:
        document = Document((Item("image", np.zeros((1, 6, 6), np.float32)),), source="mine")
        with pytest.raises(TransfuseError, match=r"^mine: item 0 \(image\): .* 6x6, .* fit to 4x4, 8x8"):
            trainer.model.layout.sequence(document)

    @pytest.mark.parametrize(("chosen", "side"), [("<image 2x2>", 4), ("<image 4x4>", 8)])
    def test_sampling_draws_the_size_the_model_chose(self, trainer: Trainer, chosen: str, side: int) -> None:
        trainer.step()
        model = trainer.model
        with torch.no_grad():  # a model that always wants this marker
            model.backbone.norm.weight.fill_(1)
            model.unembed.weight.zero_()
        prompts = [Document((Item("text", word, droppable=True),)) for word in ("up", "down")]
        ids = {label: model.vocabulary.marker(label) for label in ("<image 2x2>", "<image 4x4>")}
        own = model.logits

        def biased(hidden: torch.Tensor) -> torch.Tensor:
            logits = own(hidden)
            logits[:, ids[chosen]] += 5
            return logits

        model.logits = biased
        made = generate(model, prompts, want="image")
        assert [document.items[-1].data.shape for document in made] == [(1, side, side)] * 2

    def test_documents_that_choose_differently(self, trainer: Trainer) -> None:
        trainer.step()
        model = trainer.model
        ids = [model.vocabulary.marker(label) for label in ("<image 2x2>", "<image 4x4>")]
        own = model.logits

        def each_its_own(hidden: torch.Tensor) -> torch.Tensor:
            logits = own(hidden).clone()
            logits[::2, ids[0]] += 50
            logits[1::2, ids[1]] += 50
            return logits

        model.logits = each_its_own
        made = generate(model, [Document((Item("text", "up", droppable=True),))] * 3, want="image")
        assert [document.items[-1].data.shape[-1] for document in made] == [4, 8, 4]


def test_facts_restore_it(
    installed: Plugins, fitted: Callable, small_recipe: Callable, shapes: Callable
) -> None:
    import json

    recipe = small_recipe("transfusion")
    image = fitted(recipe, shapes(sides=(8, 4))).modalities["image"]
    again = recipe.modalities["image"].build(name="image")
    again.restore(json.loads(json.dumps(image.facts())))
    again.connect(32)
    assert again.labels() == image.labels()
    assert again.facts() == image.facts()
    payload = image.encode(np.full((1, 4, 4), 0.5, np.float32))
    (one,), (two,) = (m.spans(Item("image", None), payload) for m in (image, again))
    assert (one.length, one.label, one.positions) == (two.length, two.label, two.positions) == (4, "2x2", 6)
    again.load_state_dict(image.state_dict())


def test_context_and_clean_images_carry_no_loss(
    fitted: Callable, small_recipe: Callable, shapes: Callable
) -> None:
    image = fitted(small_recipe(), shapes()).modalities["image"]
    payload = np.zeros((1, 8, 8), np.float32)
    plain = Item("image", None)
    flags = {
        (True, True): plain,
        (True, False): replace(plain, loss=False),
        (False, False): replace(plain, noised=False),
    }
    for (noised, loss), item in flags.items():
        (span,) = image.spans(item, payload)
        assert (span.noised, span.loss) == (noised, loss)


def test_patchers_are_told_a_thousand_shares_of_noise(installed: Plugins) -> None:
    """DDPM's times with T = 1000, to the bit; a flow's times a thousand."""

    class Told(torch.nn.Module):
        def down(self, x_t: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, None]:
            return t, None

        def up(self, hidden: torch.Tensor, state: None, t: torch.Tensor) -> torch.Tensor:
            return t

    for section, t, told in (
        ({"name": "ddpm"}, torch.arange(1000.0), torch.arange(1000.0)),
        ({"name": "ddpm", "steps": 50}, torch.arange(50.0), 20 * torch.arange(50.0)),
        ({"name": "flow"}, torch.tensor([0.0, 0.25, 1.0]), torch.tensor([0.0, 250.0, 1000.0])),
    ):
        chosen = installed.choose(
            "modality", {"kind": "image", "codec": "pixel", "objective": section}, "image"
        )
        image = chosen.build(name="image")
        image.patcher = Told()
        assert torch.equal(image.embed(t, t)[0], told)
        assert torch.equal(image.head(t, None, t), told)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"codec": {"name": "vq"}}, "codec 'vq' gives codes, not latents; use codec kl or pixel"),
        (
            {"objective": {"name": "next-token"}},
            "objective 'next-token' builds .*, and here must be SpanObjective; use ddpm or flow",
        ),
    ],
)
def test_parts_that_do_not_fit(installed: Plugins, section: dict, message: str) -> None:
    with pytest.raises(TransfuseError, match=f"^{message}"):
        installed.choose("modality", {"kind": "image", **section}, "image").build(name="picture")


def test_grids_that_do_not_divide_into_patches(installed: Plugins) -> None:
    section = {"kind": "image", "codec": "pixel", "patcher": {"patch": 3}}
    built = installed.choose("modality", section, "image").build(name="image")
    with pytest.raises(
        TransfuseError, match="'image': a latent grid of 8x8 does not divide into patches of 3"
    ):
        built.fit([np.zeros((1, 8, 8), np.float32)], 0, lambda line: None)
    with pytest.raises(TransfuseError, match="'image': the data hold nothing of it to train the codec on"):
        built.fit([], 0, lambda line: None)
