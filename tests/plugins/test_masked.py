"""Masked ids: what is hidden and scored, MaskGIT's rounds, and a Show-o model that trains and draws."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.generation.decoding import generate
from transfuse.randomness import Key
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join
from transfuse.training.counts import flops
from transfuse.training.trainer import Trainer
from transfuse_vq.masked_id import SHOWN, MaskedId
from transfuse_vq.maskgit import MaskGIT

ORACLE = json.loads((Path(__file__).parents[1] / "data/oracles/schedules.json").read_text())
MASK = 9


@pytest.fixture
def make(installed: Plugins) -> Callable[..., MaskedId]:
    return lambda **more: installed.choose("objective", {"name": "masked-id", **more}, "objective").build()


@pytest.fixture
def make_sampler(installed: Plugins) -> Callable[..., MaskGIT]:
    return lambda **more: installed.choose("sampler", {"name": "maskgit", **more}, "sampler").build()


def seeds(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(n)]


def test_the_cosine_schedule_is_show_os(make: Callable) -> None:
    told = ORACLE["showo_mask_schedule_cosine"]
    shares = [make().share(u) for u in told["t"]]
    np.testing.assert_allclose(shares, told["mask_prob"], atol=1e-6)
    assert [make(schedule="linear").share(u) for u in (0, 0.25, 1)] == [1, 0.75, 0]


def test_hidden_ids_are_the_mask_and_the_only_targets(make: Callable) -> None:
    clean = torch.randint(MASK, (400, 4, 4), generator=torch.Generator().manual_seed(0))
    x_t, t, target = make().corrupt(clean, seeds(400), [False] * 400, MASK)
    hidden = x_t == MASK
    assert torch.equal(target, clean.masked_fill(~hidden, SHOWN))
    assert torch.equal(x_t[~hidden], clean[~hidden])
    assert torch.equal(t, hidden.flatten(1).float().mean(dim=1))
    assert t.min() == 1 / 16
    assert float(t.mean()) == pytest.approx(2 / np.pi, abs=4.5 * 0.31 / 20)  # the mean of cos(πu/2)
    np.testing.assert_allclose(hidden.float().mean(dim=0), 2 / np.pi, atol=0.12)  # anywhere alike
    (one, _, _) = make().corrupt(clean[7:8], seeds(8)[7:], [False], MASK)
    assert torch.equal(one[0], x_t[7])
    limited = make().corrupt(clean, seeds(400), [True] * 400, MASK)[1]
    assert limited.max() == 0.5
    assert make(noise_limit=None).corrupt(clean, seeds(400), [True] * 400, MASK)[1].max() == 1


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_the_loss_by_hand(make: Callable, z_loss: float) -> None:
    """A mean over an image's hidden ids, summed over images."""
    objective = make(z_loss=z_loss)
    logits = torch.randn(3, 4, MASK, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor([[[1, SHOWN], [SHOWN, SHOWN]], [[0, 8], [3, 4]], [[SHOWN, 2], [SHOWN, 5]]])
    expected = 0.0
    for row, wanted in zip(logits, target.flatten(1), strict=True):
        each = [
            float(F.cross_entropy(place, id) + z_loss * torch.logsumexp(place, -1) ** 2)
            for place, id in zip(row, wanted, strict=True)
            if id != SHOWN
        ]
        expected += float(np.mean(each))
    loss = objective.score(logits, target)
    assert loss.count == 3
    assert float(loss.sum) == pytest.approx(expected, rel=1e-12)
    certain = F.one_hot(target.flatten(1).clamp(min=0), MASK).double() * 1e4
    assert float(make().score(certain, target).sum) == 0


def knowing(truth: Tensor, seen: list[Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A perfect predictor of grids [B, h, w]; notes what it is shown."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x.clone())
        torch.testing.assert_close(t, (x == MASK).flatten(1).float().mean(dim=1))
        return 100.0 * F.one_hot(truth.flatten(1), MASK).float()

    return denoise


@pytest.mark.parametrize("evaluations", [1, 2, 5, 16, 50])
def test_a_perfect_predictor_gives_the_data_in_so_many_calls(
    make: Callable, make_sampler: Callable, evaluations: int
) -> None:
    truth = torch.randint(MASK, (3, 4, 4), generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    sampler = make_sampler(evaluations=evaluations)
    drawn = sampler.sample(knowing(truth, seen), make(), (4, 4), seeds(3), MASK, torch.device("cpu"))
    assert torch.equal(drawn, truth)
    assert len(seen) == min(evaluations, 16)
    hidden = [int((x == MASK).sum()) // 3 for x in seen]
    assert hidden[0] == 16
    assert (np.diff(hidden) < 0).all()
    if evaluations == 5:  # int(16·cos(π/2·k/5))
        assert hidden == [16, 15, 12, 9, 4]
    for before, after in pairwise(seen):  # what was kept stays
        assert torch.equal(after[before != MASK], before[before != MASK])


def test_the_surest_are_kept_first(make: Callable, make_sampler: Callable) -> None:
    """Without noise in the choice: places in the order of their probability."""
    seen: list[Tensor] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x.flatten().clone())
        return (torch.arange(1.0, 17)[:, None] * F.one_hot(torch.zeros(16).long(), MASK))[None]

    make_sampler(evaluations=5, choice_temperature=0, temperature=0).sample(
        denoise, make(), (4, 4), seeds(1), MASK, torch.device("cpu")
    )
    for x in seen:
        hidden = int((x == MASK).sum())
        assert (x[:hidden] == MASK).all()


def test_ids_are_drawn_from_the_models_distribution_by_the_samples_own_generator(
    make: Callable, make_sampler: Callable
) -> None:
    shares = torch.tensor([0.5, 0.3, 0.2])
    logits = torch.log(torch.cat([shares, torch.full((MASK - 3,), 1e-30)]))
    denoise = lambda x, t: logits.expand(len(x), 4, MASK)  # noqa: E731
    sampler = make_sampler(evaluations=2)
    drawn = sampler.sample(denoise, make(), (2, 2), seeds(1500), MASK, torch.device("cpu"))
    found = np.bincount(drawn.flatten(), minlength=MASK)[:3] / drawn.numel()
    np.testing.assert_allclose(found, shares, atol=4.5 * np.sqrt(0.25 / 6000))
    one = sampler.sample(denoise, make(), (2, 2), seeds(8)[7:], MASK, torch.device("cpu"))
    assert torch.equal(one[0], drawn[7])
    greedy = make_sampler(temperature=0).sample(denoise, make(), (2, 2), seeds(5), MASK, torch.device("cpu"))
    assert not greedy.any()


CODEC = {"name": "vq", "codes": 8, "width": 8, "steps": 2, "batch": 4}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "pixel"}, "codec 'pixel' gives latents, not codes; use codec vq"),
        ({"objective": "ddpm"}, "objective 'ddpm' builds .*, and here must be MaskedId; use masked-id"),
        ({"sampler": "ddim"}, "sampler 'ddim' builds .*, and here must be MaskGIT; use maskgit"),
        ({"guidance": {"rescale": 0.5}}, "guidance.rescale is for latents"),
    ],
)
def test_parts_that_do_not_fit(installed: Plugins, settings: dict, message: str) -> None:
    section = {"kind": "masked_vq", "codec": CODEC, **settings}
    with pytest.raises(TransfuseError, match=f"^{message}"):
        installed.choose("modality", section, "image").build(name="image")


def test_the_others_do_not_take_its_parts(installed: Plugins) -> None:
    for section, message in (
        (
            {"objective": "masked-id"},
            "objective 'masked-id' builds .*, and here must be SpanObjective; use ddpm or flow",
        ),
        (
            {"sampler": "maskgit"},
            "sampler 'maskgit' builds .*, and here must be Sampler; use ancestral or ddim or ",
        ),
    ):
        with pytest.raises(TransfuseError, match=message):
            installed.choose("modality", {"kind": "image", **section}, "image").build(name="image")


def test_a_show_o_trains_and_draws(small_recipe: Callable, fitted: Callable, shapes: Callable) -> None:
    data = shapes()
    showo = ("image=image_masked", "mask=bidirectional", "train.lr=1e-2", "image.sampler.evaluations=4")
    recipe = small_recipe("chameleon", *showo)
    trainer = Trainer(recipe, fitted(recipe, data), data)
    model = trainer.model
    losses = [trainer.step()["loss_image"] for _ in range(12)]
    assert losses[0] == pytest.approx(np.log(16), rel=0.25)
    assert np.mean(losses[-3:]) < losses[0]
    prompts = [Document((Item("text", "up", droppable=True),))] * 2
    made, again = (generate(model, prompts, want="image", seed=1) for _ in range(2))
    assert [d.items[-1].data.shape for d in made] == [(1, 8, 8)] * 2
    for one, two in zip(made, again, strict=True):
        np.testing.assert_array_equal(one.items[-1].data, two.items[-1].data)
    # Its FLOPs are the head's: a table is looked up.
    row = join([model.layout.sequence(data.document("train", 0))])
    (place,) = row.spans
    head = 2.0 * place.span.length * model.modalities["image"].out.weight.numel()
    assert model.span_modalities["image"].flops(place.span.length) == head
    assert flops(model, row) > 3 * head
    (group,) = collate(row, model.modalities, Key(0)).groups
    assert group.x_t.dtype == group.target.dtype == torch.int64
