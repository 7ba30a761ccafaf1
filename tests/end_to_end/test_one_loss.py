"""A perfect prediction costs nothing, and a loss is what its definition says, however a batch is cut."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transfuse.modalities.objective import TokenObjective
from transfuse.randomness import Key
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.rows import Row, join
from transfuse.training.combiner import Combiner, add_counts
from transfuse_diffusion.ddpm import DDPM
from transfuse_diffusion.objective import Diffusion


def diffusions(installed: Plugins) -> list[Diffusion]:
    sections = [
        {"name": "ddpm", "target": target, "schedule": schedule}
        for target in ("eps", "v", "x0", "velocity")
        for schedule in ("cosine", "linear")
    ]
    sections += [
        {"name": "flow", "target": target, "loss": loss}
        for target in ("eps", "v", "x0", "velocity")
        for loss in ("mse", "l1")
    ]
    return [installed.choose("objective", section, "objective").build() for section in sections]


def test_a_perfect_prediction_has_loss_0_at_every_time(installed: Plugins) -> None:
    x0 = torch.randn(1000, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    for objective in diffusions(installed):
        t = torch.arange(1000).float() / (1 if isinstance(objective, DDPM) else 1000)
        eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
        perfect = objective.target(x0, eps, t)
        loss = objective.score(perfect, perfect, t)  # a sum of what is never negative
        assert (float(loss.sum), loss.count) == (0.0, 1000.0)
        assert float(objective.score(perfect + 1, perfect, t).sum) == pytest.approx(1000)


def test_the_target_belongs_to_the_noise_that_was_added(installed: Plugins) -> None:
    """Knowing x0, x_t and t, an oracle works out the target; the corruption's own target must be it."""
    x0 = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    for objective in diffusions(installed):
        x_t, t, target = objective.corrupt(x0, [Key(0).generator("noise", i) for i in range(64)], [True] * 64)
        signal, noise = (c.reshape(-1, 1, 1, 1) for c in objective.coefficients(t))
        eps = (x_t - signal * x0) / noise
        oracle = {"eps": eps, "x0": x0, "v": signal * eps - noise * x0, "velocity": eps - x0}[
            objective.settings.target
        ]
        loss = objective.score(oracle, target, t)
        assert float(loss.sum) / loss.count < 1e-10
        constant = objective.score(torch.zeros_like(target), target, t)
        assert float(constant.sum) / constant.count > 0.1


def test_certainty_of_the_right_token_has_loss_0(installed: Plugins) -> None:
    objective = installed.choose("objective", {"name": "next-token"}, "objective").build()
    assert isinstance(objective, TokenObjective)
    targets = torch.tensor([3, 0, 7])
    certain = torch.full((3, 8), -1e4).scatter(1, targets[:, None], 1e4)
    assert float(objective.score(certain, targets).sum) == 0


@pytest.mark.parametrize("shape", [(4, 4, 4), (384, 4, 4), (4, 32, 32), (1, 2, 8)])
def test_a_diffusion_loss_does_not_grow_with_width_or_size(
    installed: Plugins, shape: tuple[int, ...]
) -> None:
    for objective in diffusions(installed):
        target = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
        loss = objective.score(target + 0.5, target, torch.tensor([0.0, 1.0, 0.0]))
        assert loss.count == 3
        expected = 0.5 if objective.settings.loss == "l1" else 0.25
        assert float(loss.sum) / loss.count == pytest.approx(expected, rel=1e-4)


def test_the_share_of_text_does_not_change_the_image_loss(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    """The same images with short and with long captions: as many images counted, each worth as much."""
    from dataclasses import replace

    data = shapes()
    model = fitted(small_recipe(), data)
    for words, tokens in (("up", 1), ("up " * 20, 20)):
        documents = [data.document("train", i) for i in range(4)]
        documents = [replace(d, items=(replace(d.items[0], data=words), d.items[1])) for d in documents]
        batch = collated(model, join([model.layout.sequence(d) for d in documents]))
        assert batch.counts["image"] == 4
        assert batch.counts["text"] >= 4 * (tokens + 2)  # the caption, BOI, the end
        (group,) = batch.groups
        unit = model.span_modalities["image"].objective(group.target + 1, group.target, group.t)
        share = Combiner({"text": 0, "image": 5}).combine({"image": unit}, batch.counts)
        assert float(share.total) == pytest.approx(5, rel=1e-5)


@pytest.mark.parametrize("name", ["transfusion", "chameleon"])
def test_micro_batches_add_up_to_the_batch(
    small_recipe: Callable, fitted: Callable, shapes: Callable, name: str
) -> None:
    data = shapes()
    recipe = small_recipe(name)
    model = fitted(recipe, data)
    rng = np.random.default_rng(0)
    model.predictable[:] = True  # training opens markers as it meets them, micro-batch by micro-batch
    sequences = [model.layout.sequence(data.document("train", i, rng)) for i in range(7)]
    model.double()
    combiner = Combiner(recipe.loss)

    def gradient(parts: list[list]) -> tuple[float, dict[str, float], torch.Tensor]:
        batches = [doubled(collated(model, join(part))) for part in parts]
        counts = add_counts(batch.counts for batch in batches)
        model.zero_grad()
        total, means = 0.0, dict.fromkeys(counts, 0.0)
        for batch in batches:
            combined = combiner.combine(model.losses(batch), counts)
            combined.total.backward()
            total += float(combined.total.detach())
            for modality, mean in combined.means.items():
                means[modality] += mean
        return total, means, torch.cat([p.grad.flatten() for p in model.trained() if p.grad is not None])

    whole = gradient([sequences])
    for parts in ([sequences[:1], sequences[1:]], [[s] for s in sequences], [sequences[3:], sequences[:3]]):
        total, means, gradients = gradient(parts)
        assert total == pytest.approx(whole[0], rel=1e-12)
        assert means == pytest.approx(whole[1], rel=1e-12)
        torch.testing.assert_close(gradients, whole[2], rtol=1e-9, atol=1e-12)


def collated(model, row: Row) -> Batch:
    return collate(row, model.modalities, Key(0), model.settings.rope)


def doubled(batch: Batch) -> Batch:
    from dataclasses import replace

    groups = (replace(g, x_t=g.x_t.double(), target=g.target.double()) for g in batch.groups)
    return replace(batch, groups=tuple(groups))
