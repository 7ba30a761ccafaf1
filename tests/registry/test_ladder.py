"""The ladder's recipes: each trains, is evaluated and differs from the one before in what its line says."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import transfuse.datasets
from transfuse import Registry
from transfuse.config.recipe import Recipe
from transfuse.model.build import build_model
from transfuse.registry.files import named_file
from transfuse.training import Trainer
from transfuse_lab.datasets import open_data
from transfuse_lab.evaluation.evaluate import evaluate
from transfuse_lab.runs.survey import survey
from transfuse_lab.runs.training import prepare

from tests.tiny.recipes import RUNGS, rung_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ladder() -> Registry:
    return Registry.open("ladder")


def small(ladder: Registry, name: str) -> Recipe:
    return ladder.recipe(name, [*rung_settings(ladder, name), "train.steps=3"], "scenes")


@pytest.mark.parametrize("name", RUNGS)
def test_each_trains_and_is_evaluated(ladder: Registry, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfuse.datasets, "EXCERPT", 60)
    data, said = open_data("scenes", ladder.plugins), []
    recipe = survey(small(ladder, name), data, said.append).recipe
    model = build_model(recipe, prepare(recipe, data, said.append), ladder.plugins)
    trainer = Trainer(recipe, model, data)
    while not trainer.done:
        measured = trainer.step()
    assert {f"loss_{role}" for role in recipe.modalities} <= measured.keys()
    trainer.model.predictable[:] = True  # after three steps a marker may never have been a target
    sampler = getattr(getattr(trainer.model.modalities.get("image"), "sampler", None), "settings", None)
    if sampler is not None:
        object.__setattr__(sampler, "evaluations", 3)
    found = evaluate(trainer.model, data, 0, recipe.eval.changed(prompts=2, trained=0))
    assert found.evaluations
    assert not found.faults


def test_rungs_differ_in_one_thing(ladder: Registry) -> None:
    recipes = {name: ladder.recipe(name, [], "scenes") for name in RUNGS}
    image = {name: recipe.modalities.get("image") for name, recipe in recipes.items()}
    assert {recipe.model.dim for recipe in recipes.values()} == {128}
    assert {recipe.model.qk_norm for recipe in recipes.values()} == {True}
    assert {recipe.train.flops for recipe in recipes.values()} == {5e12}
    assert image["codes-rows"].settings.changed(order="random") == image["codes-random"].settings
    assert recipes["codes-random"].mask == recipes["codes-next"].mask != recipes["codes-masked"].mask
    codes = [one.settings.codec.settings.codes for name, one in image.items() if one and "codes" in name]
    assert set(codes) == {1024}
    one, two = (image[name].settings for name in ("centres-1", "components-1"))
    assert one.changed(codec=two.codec) == two
    assert image["components-2"].settings.patcher.settings.patch == 2
    assert two.patcher.settings.patch == 1
    assert list(recipes["text-alone"].modalities) == ["text"]
    assert (
        list(recipes["codes-alone"].modalities) == list(recipes["components-alone"].modalities) == ["image"]
    )


def test_a_registry_that_comes_with_transfuse_goes_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable
) -> None:
    """From any folder, and in an installed distribution; a file of that name there is meant before."""
    monkeypatch.chdir(tmp_path)
    assert named_file("ladder").is_file()
    listed = cli("recipes", "--registry", "ladder")
    assert listed.exit_code == 0, listed.output
    assert all(name in listed.output for name in RUNGS)
    (tmp_path / "ladder").write_text("recipes: {}\n")
    assert named_file("ladder") == Path("ladder")
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert included["force-include"]["registries"] == "transfuse/registries"
    assert named_file("laddr") == Path("laddr")
    missing = cli("recipes", "--registry", "laddr")
    assert missing.exit_code == 2
    assert "laddr" in missing.output
