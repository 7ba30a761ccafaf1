"""Merging sections: its laws, and what replaces rather than merges."""

import doctest
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transfuse.config import merge as merging
from transfuse.config import parts, validation, yaml_text
from transfuse.config.located import Located
from transfuse.config.merge import merge
from transfuse.config.validation import InvalidSettings, dotted
from transfuse.errors import TransfuseError
from transfuse.registry.hooks import PARTS_HOOKS

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
    for module in (merging, validation, yaml_text):
        assert doctest.testmod(module).failed == 0


@settings(deadline=None, derandomize=True)
@given(named | plain)
def test_nothing_merged_over_or_under_changes_nothing(a: Any) -> None:
    assert merge(a, {}) == a
    assert merge({}, a) == a
    assert merge(a, a) == a


numbers = st.integers(0, 3)
layer = st.fixed_dictionaries(
    {}, optional={"x": numbers, "y": numbers, "z": st.dictionaries(st.sampled_from("uv"), numbers)}
)


@settings(deadline=None, derandomize=True)
@given(layer, layer, layer)
def test_without_names_layers_can_be_grouped_either_way(a: Any, b: Any, c: Any) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@settings(deadline=None, derandomize=True)
@given(named, named)
def test_inputs_are_never_changed(a: Any, b: Any) -> None:
    before = repr(a), repr(b)
    merge(a, b)
    assert (repr(a), repr(b)) == before


def test_another_name_replaces_and_no_name_keeps() -> None:
    base = {"name": "linear", "patch": 1}
    assert merge(base, {"name": "unet"}) == {"name": "unet"}
    assert merge(base, {"name": "linear", "bias": True}) == {"name": "linear", "patch": 1, "bias": True}
    assert merge({"kind": "image", "codec": "kl"}, {"kind": "vq"}) == {"kind": "vq"}
    assert merge({"kind": "image", "codec": "kl"}, "vq") == {"kind": "vq"}
    assert merge(base, "linear") == base


def test_the_budget_chosen_above_clears_the_one_below() -> None:
    assert merge({"steps": 4, "seed": 1}, {"flops": 2}) == {"seed": 1, "flops": 2}
    assert merge({"flops": 2.0}, {"steps": 4}) == {"steps": 4}
    assert merge({"steps": 4}, {"flops": None}) == {"steps": 4, "flops": None}


def test_invalid_settings_say_their_places() -> None:
    error = InvalidSettings([(("codec", "x", 0), "is odd"), ((), "is empty")])
    with pytest.raises(TransfuseError) as caught, Located.from_source("", {}, ("modalities.image",)).errors():
        raise error
    assert str(caught.value) == "modalities.image.codec.x[0]: is odd\nmodalities.image: is empty"
    assert dotted(("a", 1, "b")) == "a[1].b"


def test_every_kind_has_a_noun() -> None:
    assert {parts.noun(kind) for kind in PARTS_HOOKS} >= {"codec", "attention backend", "data set"}
