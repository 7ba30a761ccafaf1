"""`transfuse mask`: layouts as text or a recipe's own, the picture in three forms, the counts, and wrong input."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transfuse import masks
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins
from transfuse.sequences.rows import join
from transfuse_lab.commands.arguments import RecipeOnData
from transfuse_lab.commands.mask import mask_command
from transfuse_lab.datasets import open_data
from transfuse_lab.drawing import mask_drawing, mask_layout

from tests.tiny.recipes import overrides, sets

RULE = "same(doc) & (le(idx) | same(span))"


def test_a_layout_becomes_columns() -> None:
    columns = mask_layout.columns("text:2 image:3+noised+frame=4 / text:1")
    expected = {
        "doc": [0, 0, 0, 0, 0, 1],
        "idx": [0, 1, 2, 3, 4, 5],
        "pos": [0, 1, 2, 3, 4, 0],
        "item": [0, 0, 1, 1, 1, 2],
        "block": [0, 0, 1, 1, 1, 0],
        "span": [-1, -1, 1, 1, 1, -1],
        "text": [1, 1, 0, 0, 0, 1],
        "image": [0, 0, 1, 1, 1, 0],
        "noised": [0, 0, 1, 1, 1, 0],
        "frame": [-1, -1, 4, 4, 4, -1],
    }
    assert {name: values.tolist() for name, values in columns.items()} == expected


def test_what_the_command_says() -> None:
    assert mask_command(RULE, "text:2 image:2+noised text:1 / text:1").splitlines() == [
        "   000001",
        "     bb",
        "0  #.....",
        "0  ##....",
        "0b ####..",
        "0b ####..",
        "0  #####.",
        "1  .....#",
        "",
        RULE,
        "17 of 36 pairs (47.2 %), 4 slices",
        "intervals a query: at most 1; a key: at most 1",
        "a KV cache is not exact, which is no mistake: what follows a noised item sees it, so the finished item is "
        "run once more, clean",
    ]
    assert "a KV cache is exact" in mask_command(
        f"{RULE} & (~k.noised | same(span))", "text:1 image:2+noised text:1"
    )
    ahead = "a KV cache is not exact: clean queries see noised keys ahead of them"
    assert ahead in mask_command("same(doc)", "text:1 image:2+noised")
    assert "no mistake" in mask_command("same(doc)", "image:2+noised text:1")
    assert "cache" not in mask_command(RULE, "text:2")


def pixels(path: Path) -> np.ndarray:
    """uint8 [height, width, 3] of a PNG."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_png_and_svg_show_the_mask(tmp_path: Path) -> None:
    layout = "text:2 image:3 / text:2"
    columns, mask = mask_layout.columns(layout), masks.parse(RULE)
    printed = mask_command(RULE, layout, tmp_path / "mask.png")
    assert printed.endswith(f"written to {tmp_path / 'mask.png'}")
    image = pixels(tmp_path / "mask.png")
    assert image.shape == (9 * 24, 9 * 24, 3), "few positions, large cells"
    cells = image[12::24, 12::24][2:, 2:]
    unseen = np.array([int(mask_drawing.UNSEEN[i : i + 2], 16) for i in (1, 3, 5)])
    assert ((cells != unseen).any(2) == mask.allowed(columns)).all()
    span = np.array([int(mask_drawing.SAME_SPAN[i : i + 2], 16) for i in (1, 3, 5)])
    assert ((cells == span).all(2).nonzero()[0] >= 2).all()
    assert (cells == span).all(2).sum() == 9
    line = np.array([int(mask_drawing.LINE[i : i + 2], 16) for i in (1, 3, 5)])
    assert ((image == line).all((1, 2)).nonzero()[0] == [7 * 24]).all(), "one line between two documents"
    assert (image[2 * 24 + 24, 2 * 24 :][1:24] == 255).all(), "a grid"
    mask_command(RULE, layout, tmp_path / "mask.svg")
    drawn = (tmp_path / "mask.svg").read_text()
    assert drawn.startswith("<svg ")
    assert "<title>same(doc) &amp; (le(idx) | same(span))</title>" in drawn
    assert drawn.count('stroke="#212529"') == 1, "one line between two documents"


def test_pictures_of_long_rows_stay_small(tmp_path: Path) -> None:
    mask_command("le(idx)", "text:700", tmp_path / "mask.png")
    assert pixels(tmp_path / "mask.png").shape == (702, 702, 3)
    mask_command("le(idx)", "text:100", tmp_path / "mask.png")
    assert pixels(tmp_path / "mask.png").shape == (102 * 11, 102 * 11, 3)


def test_a_mask_of_the_registry_by_its_name(tmp_path: Path) -> None:
    layout = "text:2 image:2 / text:1"
    assert mask_command("bidirectional", layout) == mask_command(RULE, layout)
    mine = tmp_path / "mine.yaml"
    mine.write_text("masks: {window: 'delta(idx, lo=0, hi=1)'}\n")
    assert mask_command(" window ", layout, registry=mine) == mask_command("delta(idx, lo=0, hi=1)", layout)
    assert "25 of 25 pairs" in mask_command("full", layout), "a constant is no name"
    with pytest.raises(TransfuseError, match=r"unknown mask 'bidirectinal', did you mean 'bidirectional'"):
        mask_command("bidirectinal", layout)


def test_long_rows_are_not_drawn_in_the_terminal() -> None:
    assert "201 positions are too many for a terminal" in mask_command("le(idx)", "text:201")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("", "document 0 is empty"),
        ("text:5 /", "document 1 is empty"),
        ("text5", "'text5' is no item; write name:positions"),
        ("text:0", "is no item"),
        ("text:2+", "is no item"),
        ("text:2+doc=1", "'doc' is a column of its own already"),
        ("text:2+a text:2+a=1", "'a' is a column of its own already"),
        ("text:4097", "4097 positions are too many to draw; 4096 at most"),
        ("text:2048/text:2048 image:1", "4097 positions are too many to draw; 4096 at most"),
        ("text:999999999999999999/text:1", "too many to draw; 4096 at most"),
        (f"text:{'9' * 5000}", "is no item"),
        ("text:1+frame=9999999999999999999", "is no item"),
        ("text:٣", "is no item"),
    ],
)
def test_wrong_layouts(layout: str, message: str) -> None:
    with pytest.raises(TransfuseError, match=message):
        mask_layout.columns(layout)


def test_wrong_expressions_and_files(tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match="did you mean 'same'"):
        mask_command("sme(doc)", "text:1")
    with pytest.raises(TransfuseError, match=r"no column 'nosied' .did you mean 'noised'"):
        mask_command("k.nosied", "image:1+noised")
    with pytest.raises(TransfuseError, match=r"ends in \.png, \.svg$"):
        mask_command("full", "text:1", tmp_path / "mask.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(TransfuseError, match=r"--out .*file is a file; give another"):
        mask_command("nonsense", "text:99999999", tmp_path / "file" / "mask.png")
    mask_command("full", "text:1", tmp_path / "new" / "mask.png")
    assert (tmp_path / "new" / "mask.png").is_file()


def test_the_command_prints_the_picture_and_the_counts() -> None:
    from transfuse_lab.cli import app
    from typer.testing import CliRunner

    told = CliRunner().invoke(app, ["mask", "same(doc) & le(idx)", "--layout", "text:2 / text:1"])
    assert told.exit_code == 0
    assert "##." in told.output
    assert "4 of 9 pairs" in told.output


def drawn(told: str) -> list[str]:
    """The picture's rows."""
    lines = told.split("\n\n")[0].splitlines()[2:]
    return [line[3:] for line in lines]


def test_a_recipes_own_layout_in_both_orders(
    small_recipe: Callable, fitted: Callable, installed: Plugins, data_argument: str
) -> None:
    """The row is what training lays out: the same columns, under the recipe's mask or another."""
    data, recipe = open_data(data_argument, installed), small_recipe()
    model = fitted(recipe, data, effort=0.0)
    first = data.document("train", 0)
    other = replace(first, items=first.items[::-1])
    row = join([model.layout.sequence(document) for document in (first, other)])
    on = RecipeOnData("transfusion", data_argument, overrides())
    told = mask_command(None, on=on)
    assert drawn(told) == [line.rstrip() for line in recipe.mask.draw(row.columns)]
    assert f"{recipe.mask.pairs(row.columns)} of {len(row) ** 2} pairs" in told
    assert f"columns {', '.join(sorted(row.columns))}" in told
    lines = [line for line in told.splitlines() if line[2:].startswith(f"{data.name} train 0")]
    assert len(lines) == 2
    assert lines[0].endswith("<image 4x4> 16 vectors </image> </document>")
    assert "<document> <image 4x4> 16 vectors </image>" in lines[1]
    causal = mask_command("causal", on=on)
    assert drawn(causal) == [line.rstrip() for line in masks.parse("same(doc) & le(idx)").draw(row.columns)]
    assert "not to be trained with" not in told + causal
    leaking = mask_command("same(doc)", on=on)
    assert f"not to be trained with: mask same(doc): {data.name} train 0" in leaking
    with pytest.raises(TransfuseError, match="unknown column 'frame'"):
        mask_command("same(frame)", on=on)


def test_where_data_reverse_nothing_the_first_two_documents_are_drawn(tmp_path: Path) -> None:
    lines = [f'{{"items": [{{"text": "{word}"}}], "split": "train"}}' for word in ("one", "two", "three")]
    (tmp_path / "documents.jsonl").write_text("\n".join(lines))
    chosen = overrides(without="image")
    told = mask_command(None, on=RecipeOnData("transfusion", str(tmp_path), chosen))
    assert [line.split(":")[0] for line in told.splitlines() if " train " in line] == [
        f"{i} {tmp_path.name} train {i} ({tmp_path / 'documents.jsonl'} line {i + 1})" for i in range(2)
    ]


def test_documents_too_long_to_draw(tmp_path: Path) -> None:
    line = f'{{"items": [{{"text": "{"".join(map(chr, range(97, 123)))}"}}, {{"text": "{"xyz" * 2000}"}}]}}'
    (tmp_path / "documents.jsonl").write_text(f"{line}\n{line}")
    on = RecipeOnData("transfusion", str(tmp_path), (*overrides(without="image"), "text.vocab=257"))
    with pytest.raises(TransfuseError, match=r"positions are too many to draw; 4096 at most: .*--layout"):
        mask_command(None, on=on)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a mask with --layout, or --recipe with --data"),
        (("full",), "give a mask with --layout, or --recipe with --data"),
        (("--layout", "text:3"), "EXPR is missing"),
        (("--recipe", "transfusion"), "--data is missing"),
        (("full", "--layout", "text:3", "--data", "digits"), "--recipe is missing: what --data is for"),
        (("full", "--layout", "text:3", "--set", "train.lr=1"), "--recipe is missing: what --set is for"),
        (("--layout", "text:3", "--recipe", "transfusion", "--data", "digits"), "one of the two is drawn"),
    ],
)
def test_options_that_do_not_go_together(cli: Callable, arguments: tuple[str, ...], message: str) -> None:
    told = cli("mask", *arguments)
    assert told.exit_code == 2
    assert f"error: {message}" in told.stderr or message in told.stderr


def test_the_command_draws_a_recipe(cli: Callable, data_argument: str) -> None:
    told = cli("mask", "--recipe", "transfusion", "--data", data_argument, *sets())
    assert told.exit_code == 0, told.stderr
    assert "16 vectors" in told.stdout
