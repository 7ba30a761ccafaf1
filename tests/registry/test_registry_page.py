"""docs/registry.md has every key, its default, and examples that work as they stand."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import BaseModel
from transfuse.config.parts import Settings
from transfuse.config.recipe import EvalSettings, ModelSettings, TrainSettings
from transfuse.model.build import build
from transfuse.registry import Registry
from transfuse.registry.files import PluginSwitches, RecipeEntry, RegistryFile, packaged_file
from transfuse.registry.overrides import ROOTS
from transfuse.registry.plugins import Plugins
from transfuse.training import Trainer
from transfuse_lab.datasets.digits import Digits

PAGE = (Path(__file__).parents[2] / "docs" / "registry.md").read_text()
TINY = ("model.dim=32", "model.layers=1", "model.heads=2", "train.budget=128", "text.vocab=280")
OWN = ("text", "image", "diffusion", "vq", "llama", "tiles")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def table(heading: str) -> dict[str, list[str]]:
    """The cells of each row of a section's table, by its key."""
    section = re.split(r"^#+ ", PAGE.split(f" {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, flags=re.MULTILINE)
    return {key: cells.split(" | ") for key, cells in rows}


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Top level", RegistryFile),
        ("Recipes", RecipeEntry),
        ("model", ModelSettings),
        ("train", TrainSettings),
        ("eval", EvalSettings),
    ],
)
def test_every_key_is_on_the_page(heading: str, model: type[BaseModel]) -> None:
    assert sorted(table(heading)) == sorted(model.model_fields)


def test_the_switches_are_on_the_page() -> None:
    assert all(f"`plugins.{key}`" in PAGE for key in PluginSwitches.model_fields)


@pytest.mark.parametrize(
    ("heading", "model"), [("model", ModelSettings), ("train", TrainSettings), ("eval", EvalSettings)]
)
def test_defaults_are_the_ones_that_hold(heading: str, model: type[BaseModel]) -> None:
    for key, (shown, _) in table(heading).items():
        default = model.model_fields[key].default
        if default is None:
            assert not re.fullmatch(r"[\d.e-]+", shown)
        elif isinstance(default, bool):
            assert shown == str(default).lower()
        elif isinstance(default, tuple):
            assert shown == f"`[{', '.join(map(str, default))}]`"
        elif isinstance(default, str):
            assert shown == f"`{default}`"
        else:
            assert float(shown) == default


def test_the_roots_of_overrides_are_on_the_page() -> None:
    section = PAGE.split("## Overrides", 1)[1]
    assert all(f"`{root}" in section for root in ROOTS)


def _parts() -> Iterator[tuple[str, str]]:
    for row in Plugins.load(only=OWN).listing():
        for part in row.provides:
            yield tuple(part.split(" ", 1))  # type: ignore[misc]


@pytest.mark.parametrize(("kind", "name"), list(_parts()))
def test_every_setting_of_our_parts_is_on_the_page(kind: str, name: str) -> None:
    (cells,) = re.findall(rf"^\| {kind} `{re.escape(name)}` \| (.*) \|$", PAGE, flags=re.MULTILINE)
    settings = Plugins.load(only=OWN).part(kind, name).settings
    assert [key for key in _keys(settings) if f"`{key}`" not in cells] == []


def _keys(settings: type[BaseModel]) -> Iterator[str]:
    for key, field in settings.model_fields.items():
        yield key
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation)


def _settings(model: type[BaseModel] = Settings) -> Iterator[type[BaseModel]]:
    yield model
    for narrower in model.__subclasses__():
        yield from _settings(narrower)


@pytest.mark.parametrize(
    "package",
    [
        "transfuse",
        "transfuse_text",
        "transfuse_image",
        "transfuse_diffusion",
        "transfuse_llama",
        "transfuse_tiles",
        "transfuse_vq",
        "transfuse_adapters",
        "transfuse_lab",
    ],
)
def test_every_field_has_its_meaning_under_it(package: str) -> None:
    Plugins.load()
    models = [model for model in _settings() if model.__module__.split(".")[0] == package]
    assert models
    for model in models:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
        assert isinstance(tree, ast.ClassDef)
        inherited = {name for base in model.__mro__[1:] for name in getattr(base, "model_fields", {})}
        own = model.model_fields.keys() - inherited  # another default keeps the meaning
        for field, under in pairwise([*tree.body, ast.Pass()]):
            if isinstance(field, ast.AnnAssign) and ast.unparse(field.target) in own:
                has = isinstance(under, ast.Expr) and isinstance(under.value, ast.Constant)
                assert has, f"{model.__module__}.{model.__name__}: {ast.unparse(field.target)}"


def test_the_yaml_is_a_registry(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    path = tmp_path / "registry.yaml"
    path.write_text(text)
    registry = Registry.load(Plugins.load(only=OWN), [packaged_file(), path])
    assert registry.faults() == []
    fine = registry.recipe("fine").dump()["modalities"]["image"]
    assert (fine["codec"]["channels"], fine["patcher"]["patch"]) == (8, 2)
    assert list(registry.recipe("captions").modalities) == ["text"]
    path.write_text(text.replace("channels: 8", "chanels: 8"))
    (fault,) = Registry.load(Plugins.load(only=OWN), [packaged_file(), path]).faults()
    assert str(fault).endswith(re.findall(r"`registry.yaml(:.*channels'\?)`", PAGE)[0])


def test_its_captions_are_trained_on_digits_and_what_is_left_out_is_said_as_on_the_page(
    tmp_path: Path,
) -> None:
    path, plugins, digits, said = tmp_path / "registry.yaml", Plugins.load(only=OWN), Digits(), []
    path.write_text(blocks("yaml")[0])
    recipe = Registry.load(plugins, [packaged_file(), path]).recipe("captions", TINY)
    trainer = Trainer(recipe, build(recipe, digits, plugins, said.append), digits)
    assert trainer.step()["loss_text"] > 0
    (told,) = [line for line in said if "left out" in line]
    assert f"`{told}`" in PAGE


@pytest.mark.parametrize("source", blocks("python"))
def test_the_python_runs(source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRANSFUSE_REGISTRY", raising=False)
    monkeypatch.setenv("TRANSFUSE_PLUGINS", ",".join(OWN))
    exec(compile(source, "docs/registry.md", "exec"), {})
