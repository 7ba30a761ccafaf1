"""Diagnoses: gradients whose angles are known, attention that is even, patchers that need no transformer, runs."""

import json
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transfuse.training.trainer import Trainer
from transfuse_lab.evaluation.attention_mass import MARKERS, attention_mass
from transfuse_lab.evaluation.gradients import (
    ALL,
    compare,
    expected,
    gradients,
    halves,
    jackknifed,
    layers_of,
)
from transfuse_lab.evaluation.interventions import bypasses

from tests.tiny.recipes import sets

ROWS, SIZE = 24, 3000


def known(cosine: float, ratio: float, noise: float, shared: float, seed: int = 0) -> np.ndarray:
    """Products of gradients on rows, whose expected ones have this cosine and ratio of norms; each row's are off by
    noise that is so many times as long, a share of which the two losses have in common."""
    draw = np.random.default_rng(seed)
    basis = np.linalg.qr(draw.standard_normal((SIZE, 2)))[0].T
    means = ratio * basis[0], cosine * basis[0] + np.sqrt(1 - cosine**2) * basis[1]
    common = draw.standard_normal((ROWS, SIZE)) / SIZE**0.5
    rows = [
        mean
        + noise
        * (shared**0.5 * common + (1 - shared) ** 0.5 * draw.standard_normal((ROWS, SIZE)) / SIZE**0.5)
        for mean in means
    ]
    stacked = np.concatenate(rows)
    return (stacked @ stacked.T).reshape(2, ROWS, 2, ROWS).transpose(0, 2, 1, 3)


@pytest.mark.parametrize(("cosine", "ratio"), [(0.0, 1.0), (0.6, 2.0), (-0.4, 0.5)])
def test_the_angle_of_the_expected_gradients_is_found_under_noise(cosine: float, ratio: float) -> None:
    """Also where rows of both losses share their noise, which is most of what one sees; the errors are true to size."""
    found = [expected(known(cosine, ratio, 3.0, 0.5, seed)) for seed in range(60)]
    angles, norms = np.array(found).T
    products = known(cosine, ratio, 3.0, 0.5)
    error = jackknifed(products, 0).error
    assert abs(angles.mean() - cosine) < 4 * angles.std() / 60**0.5
    assert norms.mean() == pytest.approx(ratio, rel=0.05)
    assert error is not None
    assert 0.5 < error / angles.std() < 2


def test_what_looks_like_it_is_not_it() -> None:
    """The cosine of two means over the same rows is that of their shared noise, and half the rows see little."""
    products = known(0.0, 1.0, 8.0, 0.9)
    means = products.mean((2, 3))
    naive = means[0, 1] / np.sqrt(means[0, 0] * means[1, 1])
    assert naive > 0.4
    assert abs(expected(products)[0]) < 0.35
    half = halves(products, np.random.default_rng(0))
    assert abs(half[0, 1]) < 0.2
    assert 0 < half[0, 0] < 0.5
    clear = halves(known(0.6, 1.0, 0.01, 0.0), np.random.default_rng(0))
    assert clear[0, 0] == pytest.approx(1, abs=0.01)
    assert clear[0, 1] == pytest.approx(0.6, abs=0.01)


def test_what_cannot_be_told_from_noise_is_not_told() -> None:
    products = known(0.5, 1.0, 300.0, 0.0)
    products[0, 0] -= np.eye(ROWS) * 0
    products[1, 1] = -abs(products[1, 1]) + 2 * np.diag(np.diag(abs(products[1, 1])))
    assert jackknifed(products, 0).value is None


@pytest.fixture
def trainer(small_recipe: Callable, fitted: Callable, shapes: Callable) -> Trainer:
    recipe, data = small_recipe(), shapes()
    trainer = Trainer(recipe, fitted(recipe, data), data)
    for _ in range(3):
        trainer.step()
    trainer.model.eval()
    return trainer


def test_gradients_are_those_of_training_and_levels_add_up(trainer: Trainer) -> None:
    batches = [trainer.batch(row) for row in islice(trainer.rows, 3)]
    by_layer, names = gradients(trainer.model, batches, trainer.recipe.loss)
    assert {name.partition("@")[0] for name in names} == {"text", "image"}
    layers = layers_of(trainer.model.backbone)
    assert list(by_layer) == list(layers) == ["layer 0", "layer 1", "other"]
    for number, batch in enumerate(batches):
        losses = trainer.model.losses(batch)
        for role in ("text", "image"):
            loss = trainer.recipe.loss[role] * losses[role].sum / losses[role].count
            for layer, own in layers.items():
                by_hand = torch.autograd.grad(loss, own, retain_graph=True)
                flat = torch.cat([g.flatten() for g in by_hand]).numpy()
                np.testing.assert_allclose(by_layer[layer][role][number], flat, atol=1e-6)
        for layer in layers:
            parts = [by_layer[layer][name][number] for name in names if "@" in name]
            whole = sum(part for part in parts if part is not None)
            np.testing.assert_allclose(whole, by_layer[layer]["image"][number], atol=1e-5)
    found = compare(by_layer, names)
    assert {one.layer for one in found} == {*layers, ALL}
    assert all(not all("@" in name for name in one.losses) for one in found)


def test_attention_is_shared_out_and_even_where_nothing_is_asked(trainer: Trainer) -> None:
    model, (batch,) = trainer.model, [trainer.batch(row) for row in islice(trainer.rows, 1)]
    found = attention_mass(model, [batch])
    assert {one.query for one in found} == {"text", "image", MARKERS}
    for one in found:
        assert sum(one.keys.values()) == pytest.approx(1, abs=1e-5)
        assert sum(one.even.values()) == pytest.approx(1, abs=1e-9)
    allowed = model.mask.allowed(batch.columns)
    kind = np.where(batch.columns["marker"] == 1, 2, batch.columns["mod"])
    by_hand = np.mean([allowed[q][kind == 1].sum() / allowed[q].sum() for q in np.flatnonzero(kind == 1)])
    (image,) = [one for one in found if one.query == "image" and one.layer == 0]
    assert image.even["image"] == pytest.approx(by_hand)
    with torch.no_grad():
        for block in model.backbone.blocks:
            block.attention.qkv.weight[:32] = 0  # all queries are 0: every key scores alike
    for one in attention_mass(model, [batch]):
        assert one.keys == pytest.approx(one.even, abs=1e-6)


def test_attention_that_is_watched_gives_what_training_computes(trainer: Trainer) -> None:
    model, (batch,) = trainer.model, [trainer.batch(row) for row in islice(trainer.rows, 1)]
    with torch.no_grad():
        plain = model.transform(batch, model.prepare(batch), model.attend(batch.columns))[0]
        seen, kept = [], model.transform
        model.transform = lambda *given: seen.append(kept(*given)) or seen[-1]
        attention_mass(model, [batch])
    used = batch.columns["doc"] >= 0
    torch.testing.assert_close(seen[0][0][used], plain[used], atol=1e-5, rtol=1e-4)


def test_a_linear_patcher_is_nothing_without_the_transformer_and_one_that_passes_by_is_all(
    trainer: Trainer,
) -> None:
    model = trainer.model
    batches = [trainer.batch(row) for row in islice(trainer.rows, 2)]
    patcher = model.modalities["image"].patcher
    with torch.no_grad():
        nn.init.zeros_(patcher.out.bias)
    (image,) = bypasses(model, batches)
    assert image.moved == pytest.approx(1)
    patcher.up = lambda hidden, state, t: torch.ones(len(hidden), 1, *state) + 0 * hidden.sum()
    (image,) = bypasses(model, batches)
    assert image.moved == pytest.approx(0, abs=1e-6)
    assert image.loss == pytest.approx(image.without)


@pytest.mark.parametrize("recipe", ["transfusion", "chameleon"])
def test_the_command_leaves_figures_and_a_picture(
    trained: Callable, cli: Callable, recipe: str, tmp_path: Path
) -> None:
    run = trained(recipe)
    done = cli("diagnose", run, run, "--rows", "6", "--prompts", "4", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "gradients of" in done.output
    assert "given another prompt" in done.output
    moments = json.loads((tmp_path / "diagnosis.json").read_text())
    assert [moment["step"] for moment in moments] == [8, 8]
    assert moments[0]["gradients"] == moments[1]["gradients"]
    losses = {name for one in moments[0]["gradients"] for name in one["losses"]}
    assert {"text", "image"} <= losses
    assert bool({name for name in losses if "@" in name}) == (recipe == "transfusion")
    assert {one["role"] for one in moments[0]["bypass"]} == ({"image"} if recipe == "transfusion" else set())
    assert {one["task"] for one in moments[0]["effects"]} == {"text->image", "image->text"}
    picture = (tmp_path / "diagnosis.svg").read_text()
    assert "Cosine of gradients, by layer" in picture
    assert "Attention of image by layer" in picture
    assert "over training FLOPs" in picture


def test_every_checkpoint_that_is_there(
    trained: Callable, cli: Callable, data_argument: str, tmp_path: Path
) -> None:
    run = shutil.copytree(trained(), tmp_path / "run")
    more = sets("transfusion", "train.steps=10")
    assert cli("train", "transfusion", "--data", data_argument, "--out", run, *more).exit_code == 0
    done = cli("diagnose", run, "--rows", "4", "--prompts", "4", "--every", "--split", "tune")
    assert done.exit_code == 0, done.output
    assert [one["step"] for one in json.loads((run / "diagnosis.json").read_text())] == [8, 10]


def test_a_run_of_one_loss_says_so(
    small_recipe: Callable, cli: Callable, pictures: Path, tmp_path: Path
) -> None:
    made = cli(
        "train", "transfusion", "--data", f"{pictures};channels=1", "--out", tmp_path, *sets(without="image")
    )
    assert made.exit_code == 0, made.output
    done = cli("diagnose", tmp_path, "--rows", "4")
    assert done.exit_code == 2
    assert "diagnose a run of two modalities that learn" in done.output
