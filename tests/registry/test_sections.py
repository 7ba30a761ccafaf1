"""Laying sections over each other: its laws, and what replaces rather than merges."""

import doctest
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from transfuse.config import parts, yaml_text
from transfuse.config import validation as sections
from transfuse.config.merge import lay
from transfuse.config.validation import Misfit, dotted

leaves = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b"])
keys = st.sampled_from(["x", "y", "steps", "flops"])
plain = st.recursive(
    st.dictionaries(st.sampled_from(["x", "y", "z"]), leaves), lambda inner: st.dictionaries(keys, inner)
)
named = st.recursive(
    st.dictionaries(st.sampled_from(["name", "x", "y"]), st.sampled_from(["a", "b"])),
    lambda inner: st.dictionaries(st.sampled_from(["name", "x", "y"]), inner | st.sampled_from(["a", "b"])),
)


def test_the_examples_hold() -> None:
    for module in (sections, yaml_text):
        assert doctest.testmod(module).failed == 0


@settings(deadline=None, derandomize=True)
@given(named | plain)
def test_nothing_laid_over_or_under_changes_nothing(a: Any) -> None:
    assert lay(a, {}) == a
    assert lay({}, a) == a
    assert lay(a, a) == a


numbers = st.integers(0, 3)
layer = st.fixed_dictionaries(
    {}, optional={"x": numbers, "y": numbers, "z": st.dictionaries(st.sampled_from("uv"), numbers)}
)


@settings(deadline=None, derandomize=True)
@given(layer, layer, layer)
def test_without_names_layers_can_be_grouped_either_way(a: Any, b: Any, c: Any) -> None:
    assert lay(lay(a, b), c) == lay(a, lay(b, c))


@settings(deadline=None, derandomize=True)
@given(named, named)
def test_inputs_are_never_changed(a: Any, b: Any) -> None:
    before = repr(a), repr(b)
    lay(a, b)
    assert (repr(a), repr(b)) == before


def test_another_name_replaces_and_no_name_keeps() -> None:
    base = {"name": "linear", "patch": 1}
    assert lay(base, {"name": "unet"}) == {"name": "unet"}
    assert lay(base, {"name": "linear", "bias": True}) == {"name": "linear", "patch": 1, "bias": True}
    assert lay({"kind": "image", "codec": "kl"}, {"kind": "vq"}) == {"kind": "vq"}
    assert lay({"kind": "image", "codec": "kl"}, "vq") == {"kind": "vq"}
    assert lay(base, "linear") == base


def test_the_budget_chosen_above_clears_the_one_below() -> None:
    assert lay({"steps": 4, "seed": 1}, {"flops": 2}) == {"seed": 1, "flops": 2}
    assert lay({"flops": 2.0}, {"steps": 4}) == {"steps": 4}
    assert lay({"steps": 4}, {"flops": None}) == {"steps": 4, "flops": None}


def test_a_misfit_says_its_places() -> None:
    error = Misfit([(("codec", "x", 0), "is odd"), ((), "is empty")]).error("modalities.image")
    assert str(error) == "modalities.image.codec.x[0]: is odd\nmodalities.image: is empty"
    assert dotted(("a", 1, "b")) == "a[1].b"


def test_every_kind_has_a_noun() -> None:
    assert {parts.noun(kind) for kind in parts.KINDS} >= {"codec", "attention backend", "data set"}
