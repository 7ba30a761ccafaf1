"""Masks of other people's: any form becomes all pairs, differences are shown small, what must never be is named."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from transfuse import masks
from transfuse.errors import TransfuseError
from transfuse.testing import PUBLISHED, as_dense, audit, next_tokens, same_mask, strategies
from transfuse_lab.commands.audit import audit_command, load
from transfuse_lab.drawing.mask_layout import columns as columns_of

from tests.masks.test_oracles import FILES
from tests.masks.test_oracles import load as oracle

WRONG = Path(__file__).parents[1] / "data" / "masks" / "wrong.py"
RULE = "same(doc) & (le(idx) | same(span))"
LAYOUT = "text:2 image:3 text:2 / image:2 text:3"
PADDED = "text:2+prefix image:2 text:1 / text:3 image:2 pad:2+pad"


def function(name: str) -> Callable:
    return load(f"{WRONG}:{name}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_published_rules_are_those_of_the_systems_own_code(path: Path) -> None:
    rule, *_ = oracle(path)
    assert PUBLISHED[path.stem].mask == rule


# -- any form


@pytest.mark.parametrize("name", ["right", "mask_mod", "additive"])
def test_functions_of_columns_arrays_and_mask_mods_are_one(name: str) -> None:
    columns = columns_of(LAYOUT)
    same_mask(function(name), RULE, columns)
    same_mask(masks.parse(RULE).dense(columns), function(name), columns)


def test_padding_masks_are_of_keys_or_of_documents() -> None:
    columns = columns_of("a:2 / b:2")
    same_mask(function("documents_by_number"), "same(doc)", columns)
    same_mask(np.array([1, 1, 0, 1]), lambda idx: (idx[None] != 2).expand(4, 4), columns)
    same_mask(np.array([1, 1, 2, 0]), "same(seg)", {**columns, "seg": [0, 0, 1, -1]})


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (lambda dok: dok, "mine has a parameter 'dok', which is no column here; did you mean 'doc'"),
        (
            lambda idx: idx.float()[:3],
            r"mine gave \[3\] of float32 for 4 positions; a mask is a \[T, T\] array",
        ),
        (lambda idx: 1 / 0, "mine raised ZeroDivisionError: division by zero; a mask returns"),
    ],
)
def test_what_is_no_mask_is_told(mask: Callable, text: str) -> None:
    with pytest.raises(TransfuseError, match=text):
        as_dense(mask, columns_of("a:2 / b:2"), "mine")


def test_a_mask_mod_by_itself() -> None:
    same_mask(lambda b, h, q_idx, kv_idx: q_idx >= kv_idx, "le(idx)", columns_of("a:5"))


@settings(max_examples=30)
@given(strategies.masks(), strategies.columns(size=6))
def test_a_rule_equals_its_own_pairs(mask: masks.Mask, columns: dict) -> None:
    same_mask(mask, mask.dense(columns), columns)
    same_mask(str(mask), mask.allowed(columns), columns)


# -- differences


def test_a_difference_is_shown_on_the_fewest_positions() -> None:
    with pytest.raises(AssertionError) as told:
        same_mask(
            "same(doc) & le(idx)", function("packed_without_documents"), columns_of("a:9 b:4 / a:4 b:9")
        )
    text = str(told.value)
    assert text.splitlines()[0].startswith("the masks differ in ")
    assert "       mine  theirs\n    0  #.    #.\n    1  .#    !#\n" in text
    assert re.search(r"\n  doc +0 +1\n", text)


def test_a_difference_of_arrays_is_cut_out_of_them() -> None:
    mine = np.tril(np.ones((40, 40), bool))
    theirs = mine.copy()
    theirs[30, 7] = False
    with pytest.raises(AssertionError, match="position 30 sees position 7 by mine and not by theirs") as told:
        same_mask(mine, theirs, {"idx": np.arange(40)})
    assert "    1  ##    o#" in str(told.value)


@settings(max_examples=30)
@given(strategies.rows())
def test_a_difference_that_two_positions_show_is_shown_on_two(columns: dict) -> None:
    same = masks.equivalent(masks.parse(RULE), masks.parse("same(doc) & le(idx)"), columns)
    with nullcontext() if same else pytest.raises(AssertionError, match="in 1 of 4:"):
        same_mask(RULE, "same(doc) & le(idx)", columns)


# -- audits


def told(name: str, layout: str = PADDED) -> tuple[str, bool]:
    lines, well = audit_command(f"{WRONG}:{name}", None, layout, None, None)
    return "\n".join(lines), well


def test_a_right_mask_is_found_right_and_named() -> None:
    text, well = told("right", LAYOUT)
    assert well
    assert "no leak, no crossing of documents" in text
    assert "transfusion (Transfusion, LMFusion, Tuna-2)" in text
    assert "slices" in text
    assert "##" in text


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        (
            "images_both_ways_where_text_has_no_span",
            ["leak: position 0 sees position 1"],
        ),
        ("images_that_see_padding", ["padding: position 2 sees position 10, which holds nothing"]),
        (
            "prefix_of_the_first_row_for_all",
            ["leak: position 5 sees position 6, whose token it is to predict"],
        ),
        (
            "packed_without_documents",
            ["crossing: document 1 sees document 0 in 35 pairs, first position 5 position 0"],
        ),
        ("shifted_by_one", ["leak: position 3 sees position 4"]),
    ],
)
def test_what_was_wrong_in_public_code_is_named(name: str, faults: list[str]) -> None:
    text, well = told(name)
    assert not well
    assert [fault for fault in faults if fault not in text] == []


def test_leaks_over_layers_are_named_too() -> None:
    columns = columns_of("text:3")
    seen = np.array([[1, 0, 1], [0, 1, 0], [0, 1, 1]], bool)
    assert audit(seen, columns, next_tokens(columns)).leaks == ((0, 1, False),)


def test_the_command_audits_a_layout_and_a_recipe_and_compares(cli: Callable) -> None:
    right = cli("mask", "--audit", f"{WRONG}:right", "--layout", LAYOUT, "bidirectional")
    assert right.exit_code == 0, right.stderr
    assert "it equals bidirectional here" in right.stdout
    wrong = cli("mask", "causal", "--audit", f"{WRONG}:right", "--layout", LAYOUT)
    assert wrong.exit_code == 1
    assert "!" in wrong.stdout
    own = cli("mask", "--audit", f"{WRONG}:shifted_by_one", "--recipe", "transfusion", "--data", "digits")
    assert own.exit_code == 1
    assert "leak: position" in own.stdout


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("wrong.py", "write FILE.py:FUNCTION"),
        ("none.py:f", "there is no file none.py"),
        (f"{WRONG}:rigth", "has no function 'rigth', did you mean 'right'"),
    ],
)
def test_what_is_no_function_of_a_file_is_told(target: str, text: str) -> None:
    with pytest.raises(TransfuseError, match=text):
        audit_command(target, None, "text:2", None, None)


def test_the_page_shows_what_its_code_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    names: dict[str, object] = {}
    for source in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(compile(source, "docs/testing.md", "exec"), names)
    assert f"```\n{capsys.readouterr().out}```" in page
