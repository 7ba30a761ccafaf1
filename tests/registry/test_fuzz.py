"""Whatever a user writes in a registry or after ``--set``: an answer, or a TransfuseError, nothing else."""

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transfuse.config.recipe import Recipe
from transfuse.errors import TransfuseError
from transfuse.registry import Registry
from transfuse.registry.plugins import Plugins

FUZZ = settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
WORDS = """
plugins disabled modalities masks recipes extends loss model train mask attention text image image_vq
kind name kl vq linear unet codec patcher objective sampler guidance scale dim layers heads steps flops
causal full none transfusion chameleon summary same(doc) le(idx) auto dense
"""
words = st.sampled_from(WORDS.split())
leaves = st.one_of(
    words,
    st.text(max_size=5),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(words | st.integers(), max_size=3),
)
trees = st.recursive(leaves, lambda inner: st.dictionaries(words, inner, max_size=4), max_leaves=25)
registries = st.fixed_dictionaries(
    {},
    optional={
        "modalities": st.dictionaries(words, trees, max_size=3),
        "masks": st.dictionaries(words, leaves, max_size=2),
        "recipes": st.dictionaries(words, trees, max_size=3),
        "plugins": trees,
    },
)


SMALL = Path(__file__).with_name("small.yaml")


def use(plugins: Plugins, path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with contextlib.suppress(TransfuseError):
        registry = Registry.load(plugins, [SMALL, path])
        for fault in registry.faults():
            assert str(fault)
        for recipe in registry.names("recipes"):
            with contextlib.suppress(TransfuseError):
                registry.recipe(recipe, ["image.codec.channels=2", "train.steps=3"])


@FUZZ
@given(trees | registries)
def test_any_data_as_a_registry(plugins: Plugins, tmp_path: Path, tree: object) -> None:
    use(plugins, tmp_path / "fuzz.yaml", yaml.safe_dump(tree, allow_unicode=True))


@FUZZ
@given(st.data())
def test_a_registry_with_a_piece_cut_or_doubled(
    plugins: Plugins, tmp_path: Path, data: st.DataObject
) -> None:
    text = SMALL.read_text()
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 40)))
    middle = data.draw(
        st.sampled_from(["", text[start:stop] * 2, ": ", "{", "]", "- ", "\n", "&a", "\t", "3", "'"])
    )
    use(plugins, tmp_path / "fuzz.yaml", text[:start] + middle + text[stop:])


keys = st.lists(words | st.text(max_size=4), min_size=1, max_size=4).map(".".join)
values = st.text(max_size=12) | trees.map(
    lambda tree: yaml.safe_dump(tree, default_flow_style=True, allow_unicode=True)
)
sets = st.lists(st.text(max_size=20) | st.tuples(keys, values).map("=".join), min_size=1, max_size=4)


@FUZZ
@example(["model.dim=1" + "0" * 5000])
@example(["mask=" + "~" * 5000 + "full"])
@example(["mask=" + "(" * 5000])
@example(["mask=\ud800"])
@example(["image=" + "{a: " * 200])
@example([".".join("a" * 500) + "=1"])
@example(["loss={text: {text: 1}}"])
@example(["train.betas=[0.9]", "train.betas=[0.9, 0.9, 0.9]"])
@example(["modalities=3", "modalities.image=3"])
@given(sets)
def test_any_text_after_set(plugins: Plugins, registry: Registry, overrides: list[str]) -> None:
    try:
        recipe = registry.recipe("transfusion", overrides)
    except TransfuseError:
        return
    assert Recipe.from_dump(recipe.dump(), plugins) == recipe


@FUZZ
@given(st.data())
def test_any_dump(plugins: Plugins, registry: Registry, data: st.DataObject) -> None:
    dump = registry.recipe("transfusion").dump()
    key = data.draw(st.sampled_from(sorted(dump)))
    with contextlib.suppress(TransfuseError):
        Recipe.from_dump({**dump, key: data.draw(trees)}, plugins)


@pytest.mark.parametrize("depth", [10, 39, 100, 5000])
def test_deep_nesting_is_no_stack_overflow(plugins: Plugins, tmp_path: Path, depth: int) -> None:
    use(
        plugins, tmp_path / "deep.yaml", "modalities: {image: " + "{codec: " * depth + "x" + "}" * (depth + 1)
    )
