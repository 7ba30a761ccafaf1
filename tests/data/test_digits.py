"""The digits are real, split once and for all, and read caption first in four visits of five."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from transfuse import TransfuseError
from transfuse.datasets import content_hash
from transfuse_lab.datasets.digits import NAMES, Digits

DIGITS = Digits()


def test_every_digit_is_in_one_split_once_with_its_own_name_and_pixels() -> None:
    seen: list[int] = []
    real = load_digits()
    for split, size in (("train", 1300), ("tune", 200), ("test", 297)):
        assert DIGITS.size(split) == size
        for index in range(size):
            document = DIGITS.document(split, index)
            caption, image = document.items
            assert caption.data == NAMES[real["target"][document.id]]
            np.testing.assert_array_equal(image.data[0] * 16, real["images"][document.id])
            seen.append(document.id)
    assert sorted(seen) == list(range(1797))


def test_an_image_is_a_read_only_float32_square_between_zero_and_one() -> None:
    image = DIGITS.document("train", 0).items[1].data
    assert (image.dtype, image.shape) == (np.float32, (1, 8, 8))
    assert image.min() >= 0
    assert image.max() <= 1
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0, 0] = 1


def test_the_split_does_not_move() -> None:
    assert [DIGITS.document("train", i).id for i in range(5)] == [1457, 1074, 1038, 1402, 952]
    assert [DIGITS.document("test", i).id for i in range(5)] == [1229, 1538, 1281, 510, 658]


def test_every_digit_is_held_out_often_enough_to_judge_it() -> None:
    captions = list(DIGITS.raw("test", "text"))
    assert min(captions.count(name) for name in NAMES) >= 20


def test_four_visits_in_five_read_the_caption_first_and_only_then_it_is_droppable() -> None:
    rng = np.random.default_rng(0)
    first = []
    for _ in range(2000):
        items = DIGITS.document("train", 3, rng).items
        first.append(items[0].modality == "text")
        assert [item.droppable for item in items] == ([True, False] if first[-1] else [False, False])
    assert abs(np.mean(first) - 0.8) < 0.03


def test_the_plain_form_is_caption_first() -> None:
    assert [item.modality for item in DIGITS.document("test", 5).items] == ["text", "image"]


def test_the_identity_names_content_and_licence() -> None:
    identity = DIGITS.identity()
    assert identity["content"] == content_hash(DIGITS)
    assert "CC BY 4.0" in identity["licence"]


@pytest.mark.parametrize(("split", "index"), [("train", 1300), ("test", -1), ("tune", 200), ("test", 297)])
def test_a_document_outside_the_split_is_an_error_naming_both(split: str, index: int) -> None:
    with pytest.raises(TransfuseError, match=f"digits {split}: no document {index}"):
        DIGITS.document(split, index)


def test_an_unknown_split_is_an_error() -> None:
    with pytest.raises(TransfuseError, match="unknown split 'heldout', the splits are train, tune, test"):
        DIGITS.size("heldout")


def test_naming_the_data_set_imports_no_scikit_learn() -> None:
    code = "import sys, transfuse_lab.datasets.digits as d; d.Digits(); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
