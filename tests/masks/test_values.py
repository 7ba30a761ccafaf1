"""Masks as values: equal, combined, refused; each atom as a picture a person checks by eye."""

import subprocess
import sys

import pytest
from transfuse import masks
from transfuse.errors import TransfuseError
from transfuse.masks import Mask


def test_masks_combine_with_masks_only() -> None:
    for other in (True, "full", None):
        with pytest.raises(TypeError):
            masks.full & other  # type: ignore[operator]
        with pytest.raises(TypeError):
            masks.full | other  # type: ignore[operator]


def test_flags_are_what_any_name_says_but_pythons_own() -> None:
    assert (
        type(masks.k)("k").image == masks.k.image == Mask(masks.Flag("k", "image")) == masks.parse("k.image")
    )
    assert not hasattr(masks.q, "__wrapped__")
    with pytest.raises(AttributeError, match="__wrapped__"):
        masks.q.__wrapped__  # noqa: B018


def test_masks_compare_by_structure_and_name_their_columns() -> None:
    assert masks.le("a") != masks.lt("a")
    assert masks.le("a") == masks.delta("a", lo=0)
    rule = masks.parse("same(doc) & delta(a, hi=1, key=b) & q.c & k.d & table(t, [[1]])")
    assert rule.columns == {"doc", "a", "b", "c", "d", "t"}
    assert rule.query_columns == {"doc", "a", "c", "t"}
    assert rule.key_columns == {"doc", "b", "d", "t"}
    with pytest.raises(AttributeError):
        masks.same("doc").column = "x"  # type: ignore[attr-defined]
    with pytest.raises(
        TransfuseError, match=r"^a mask is neither true nor false: combine .* not and, or, not$"
    ):
        bool(masks.full and masks.none)


@pytest.mark.parametrize(
    ("text", "columns", "picture"),
    [
        ("same(a)", {"a": [0, 0, -1, 1]}, ["##..", "##..", "....", "...#"]),
        ("le(a)", {"a": [2, 0, -1]}, ["###", ".##", "..#"]),
        ("lt(a)", {"a": [2, 0, -1]}, [".##", "..#", "..."]),
        ("delta(a, lo=1, hi=2)", {"a": [0, 1, 2, 3]}, ["....", "#...", "##..", ".##."]),
        ("delta(a, hi=0)", {"a": [0, 1, 2]}, ["###", ".##", "..#"]),
        ("delta(a, lo=-1, key=b)", {"a": [0, 1], "b": [1, 2]}, ["#.", "##"]),
        ("q.a", {"a": [0, 1, -1]}, ["...", "###", "###"]),
        ("k.a", {"a": [0, 1, -1]}, [".##", ".##", ".##"]),
        ("table(a, [[0, 1], [0, 0]])", {"a": [0, 1, -1]}, [".#.", "...", "..."]),
        ("full", {"a": [0, 0]}, ["##", "##"]),
        ("none", {"a": [0, 0]}, ["..", ".."]),
    ],
)
def test_atom_by_eye(text: str, columns: dict, picture: list[str]) -> None:
    mask = masks.parse(text)
    assert mask.draw(columns) == picture
    assert mask.pairs(columns) == "".join(picture).count("#")


def test_transfusion_by_eye() -> None:
    rule = masks.parse("same(doc) & (le(idx) | same(span))")
    columns = {"doc": [0, 0, 0, 0, 1, -1], "span": [-1, 0, 0, -1, -1, -1], "idx": range(6)}
    assert rule.draw(columns) == ["#.....", "###...", "###...", "####..", "....#.", "......"]
    assert rule.intervals(columns)[1] == [(0, 3)]
    assert rule.intervals(columns)[-1] == []
    assert len(rule.slices(columns)) == 4
    with pytest.raises(IndexError):
        rule.intervals(columns)[6]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: masks.same("a b"), "named by letters"),
        (lambda: masks.same(3), "named by letters"),  # type: ignore[arg-type]
        (lambda: masks.delta("a"), "for no condition write full"),
        (lambda: masks.delta("a", lo=0.5), "not 0.5"),  # type: ignore[arg-type]
        (lambda: masks.delta("a", lo=2**41), "below 2.40"),
        (lambda: masks.table("a", [["x"]]), "lists of 0 and 1"),  # type: ignore[list-item]
        (lambda: masks.table("a", 3), "lists of 0 and 1"),  # type: ignore[arg-type]
        (lambda: masks.parse(3), "a string, not int"),  # type: ignore[arg-type]
        (lambda: masks.Flag("x", "a"), "'q' or 'k'"),
    ],
)
def test_wrong_arguments_are_errors(make: object, message: str) -> None:
    with pytest.raises(TransfuseError, match=message):
        make()  # type: ignore[operator]


def test_masks_import_errors_and_numpy_only() -> None:
    code = "import sys; from transfuse import masks; masks.le('a').pairs({'a': [1]}); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = run.stdout.split()
    assert not {"torch", "pydantic", "pluggy"} & set(imported)
    ours = {name for name in imported if name.startswith("transfuse.")}
    assert {name for name in ours if not name.startswith("transfuse.masks")} == {"transfuse.errors"}


def test_what_is_no_expression_is_refused_in_every_form() -> None:
    wrong = Mask("le(idx)")  # type: ignore[arg-type]
    row = {"idx": [0, 1]}
    for use in (str, lambda mask: mask.allowed(row), lambda mask: mask.slices(row)):
        with pytest.raises(TypeError, match=r"^no expression of a mask: 'le\(idx\)'$"):
            use(wrong)


def test_a_mask_is_the_value_of_its_expression() -> None:
    assert masks.same("doc").expression == masks.Same("doc")
    assert Mask(masks.Not(masks.Delta("idx", None, 3, "pos"))) == ~masks.delta("idx", hi=3, key="pos")
    a, b, c = masks.q.a, masks.k.b, masks.le("c")
    terms = tuple(mask.expression for mask in (a, b, c))
    assert (a & b & c).expression == (a & (b & c)).expression == masks.And(terms)
    assert (a | b | c).expression == (a | (b | c)).expression == masks.Or(terms)
    assert (a & b | c).expression == masks.Or((masks.And(terms[:2]), terms[2]))
