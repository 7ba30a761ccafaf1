"""Ways to train or judge wrongly in silence, each found once by a reader of the code and shut since."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transfuse.checkpoints import RunFolder
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.randomness import Key
from transfuse.training.stream import Stream
from transfuse_lab.evaluation.evaluate import pairs
from transfuse_lab.runs.training import open_run, prepare
from typer.testing import Result


def spelled(stream: Stream, place: int, text) -> list[str]:
    """The documents' texts, as the tokens of a place of the stream spell them."""
    sequence = stream.sequence(place)
    start = stream.layout.vocabulary.range("text").start
    items = sequence.columns["item"]
    ids = [
        (int(i), int(t) - start) for i, t in zip(items, sequence.tokens, strict=True) if t >= start and i >= 0
    ]
    return [
        text.decode(np.array([t for j, t in ids if j == i]))
        for i in sorted({i for i, _ in ids if sequence.columns["text"][items == i].all()})
    ]


def test_a_dropped_item_does_not_lend_its_payload_to_the_next(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    def three(document: Document) -> Document:
        return replace(document, items=(*document.items, Item("text", "after")))

    data = shapes(train=8, reversed_share=0.0, change=three)
    model = fitted(small_recipe("transfusion"), data)
    text = dict(model.parts())["text"]
    stream = Stream(data, model.layout, Key(0), drop=0.5)
    told = [(stream.document(place)[2], spelled(stream, place, text)) for place in range(40)]
    assert {words[-1] for _, words in told} == {"after"}
    assert {len(words) for dropped, words in told if dropped} == {1}
    assert {len(words) for dropped, words in told if not dropped} == {2}


def test_documents_that_share_a_number_keep_their_own_data(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    data = shapes(train=8, reversed_share=0.0, change=lambda document: replace(document, id=0))
    model = fitted(small_recipe("transfusion"), data)
    stream = Stream(data, model.layout, Key(0), drop=0.0)
    images = {stream.sequence(place).spans[0].span.payload.tobytes() for place in range(8)}
    assert len(images) == 8


@pytest.mark.parametrize("lost", ["checkpoints/latest", "modalities.json"])
def test_a_run_with_a_part_missing_is_not_begun_again(
    trained: Callable,
    tmp_path: Path,
    cli: Callable[..., Result],
    data_argument: str,
    sets: Callable,
    lost: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained("transfusion"), folder)
    (folder / lost).unlink()
    before = sorted(str(path) for path in folder.rglob("*"))
    told = cli("train", "transfusion", "--data", data_argument, "--out", folder, *sets())
    assert told.exit_code == 2
    assert "parts are missing" in told.output
    assert sorted(str(path) for path in folder.rglob("*")) == before


def test_a_mask_of_an_unknown_column_is_refused_before_a_codec_is_trained(
    small_recipe: Callable, shapes: Callable, installed
) -> None:
    said: list[str] = []
    with pytest.raises(TransfuseError, match="unknown column 'dco'; did you mean 'doc'"):
        prepare(small_recipe("transfusion", "mask=same(dco)"), shapes(), installed, said.append)
    assert not said


def test_a_mask_that_leaks_leaves_nothing_behind(
    small_recipe: Callable, shapes: Callable, installed, tmp_path: Path
) -> None:
    with pytest.raises(TransfuseError, match="it is to predict"):
        open_run(
            small_recipe("transfusion", "mask=full"),
            shapes(),
            {},
            RunFolder(tmp_path),
            installed,
            lambda line: None,
        )
    assert not list(tmp_path.iterdir())


def test_an_image_modality_counts_its_own_work(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    image = dict(fitted(small_recipe("transfusion"), shapes()).parts())["image"]
    payload = torch.from_numpy(image.blank(image.labels()[0]))[None]
    with FlopCounterMode(display=False) as counted:
        hidden, state = image.embed(payload, torch.zeros(1))
        image.head(hidden, state, torch.zeros(1))
    assert image.flops(hidden.shape[1]) == counted.get_total_flops()


def test_what_cannot_be_evaluated_says_so(shapes: Callable) -> None:
    with pytest.raises(TransfuseError, match="split 'heldout' is empty"):
        pairs(shapes(heldout=0), "heldout", "text", "image")
    with pytest.raises(TransfuseError, match="images of one shape"):
        pairs(shapes(sides=(8, 4)), "heldout", "text", "image")
