"""Settings cost little to read: a mask is parsed once, and no torch is imported."""

import subprocess
import sys
from collections import Counter

import pytest
from transfuse import attention, masks
from transfuse.config.recipe import BACKENDS, Recipe
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse_lab.cli import app
from typer.testing import CliRunner

WRITTEN_OUT = "same(doc) & le(idx) & le(pos)"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each text is parsed as a mask, from now on."""
    count: Counter[str] = Counter()
    parse = masks.parse

    def counting(text: str) -> masks.Mask:
        count[text] += 1
        return parse(text)

    monkeypatch.setattr(masks, "parse", counting)
    return count


def test_a_registry_parses_each_named_mask_once(parsed: Counter[str], installed: Plugins) -> None:
    registry = Registry.load(installed, [packaged_file()])
    named = {"same(doc) & le(idx)", "same(doc) & (le(idx) | same(span))"}
    for name in registry.names("recipes"):
        assert str(registry.recipe(name).mask) in named
    assert registry.faults() == []
    assert str(registry.mask("causal")) in named
    assert parsed == dict.fromkeys(named, 1)


def test_a_recipe_parses_its_expression_once(parsed: Counter[str], installed: Plugins) -> None:
    registry = Registry.load(installed, [packaged_file()])
    parsed.clear()
    recipe = registry.recipe("transfusion", [f"mask={WRITTEN_OUT}"])
    assert parsed == {WRITTEN_OUT: 1}
    assert Recipe.from_dump(recipe.dump(), installed).mask == recipe.mask
    assert parsed == {WRITTEN_OUT: 2}  # a dump is text again


@pytest.mark.parametrize("mask", ["causal", WRITTEN_OUT])
def test_a_command_parses_each_mask_once(parsed: Counter[str], mask: str) -> None:
    command = ["train", "transfusion", "--data", "digits", "--dry-run", "--set", f"mask={mask}"]
    command += ["--set", "image.codec=pixel", "--set", "image.patcher.patch=4"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert mask != WRITTEN_OUT or mask in parsed
    assert set(parsed.values()) == {1}


@pytest.mark.parametrize(
    "module", ["transfuse", "transfuse.config.recipe", "transfuse.registry", "transfuse.masks"]
)
def test_torch_is_not_imported(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_backends_that_recipes_know_are_those_of_core() -> None:
    assert set(BACKENDS) == {"auto", *attention.BUILT_IN}
