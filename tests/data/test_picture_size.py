"""Pictures of any size become one size that models can take, as near to their own as that goes; and it is said."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transfuse.registry.plugins import Plugins
from transfuse_lab.datasets import open_data
from transfuse_lab.datasets.folder import Folder
from transfuse_lab.datasets.picture_size import FEWEST, LARGEST, MOST, size_for

SIDES = st.integers(16, 512)


def squares(height: int, width: int) -> list[int]:
    """Into how many squares of powers of two it divides."""
    sides = (2**i for i in range(10))
    return [height * width // side**2 for side in sides if not height % side and not width % side]


@given(SIDES, SIDES)
def test_every_size_becomes_one_of_16_to_256_squares_that_hardly_differs(height: int, width: int) -> None:
    made = size_for(height, width)
    assert any(FEWEST <= count <= MOST for count in squares(*made))
    shrunk = min(1, LARGEST / max(height, width))
    square = max(2, max(made) // 8)
    assert all(abs(m - s * shrunk) <= square for m, s in zip(made, (height, width), strict=True))


@given(SIDES, SIDES)
def test_a_size_that_was_made_is_made_no_other(height: int, width: int) -> None:
    made = size_for(height, width)
    if max(made) <= LARGEST:
        assert size_for(*made) == made


@given(st.integers(1, 15), st.integers(1, 15))
def test_small_pictures_stay_nearly_as_they_are(height: int, width: int) -> None:
    made = size_for(height, width)
    assert all(abs(m - s) <= 1 for m, s in zip(made, (height, width), strict=True))


def folder_of(tmp_path: Path, *sizes: tuple[int, int]) -> Path:
    """Pictures of these widths and heights, black on the left and white on the right."""
    for number, (width, height) in enumerate(sizes):
        levels = np.zeros((height, width, 3), np.uint8)
        levels[:, width // 2 :] = 255
        Image.fromarray(levels).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(str(number))
    return tmp_path


@pytest.mark.parametrize(
    ("sizes", "made", "said"),
    [
        ([(64, 64)] * 3, (64, 64), ""),
        ([(512, 512)] * 3, (128, 128), "; pictures of 512 x 512 pixels are made 128 x 128"),
        ([(100, 70)] * 3, (72, 96), "; pictures of 100 x 70 pixels are made 96 x 72"),
        ([(640, 480), (480, 640), (600, 480)], (96, 128), "; pictures of 3 sizes, 600 x 480 to 480 x 640, are made"),
    ],
)  # fmt: skip
def test_a_folders_pictures_have_one_size_and_the_account_says_which(
    tmp_path: Path, sizes: list[tuple[int, int]], made: tuple[int, int], said: str
) -> None:
    data = Folder(folder_of(tmp_path, *sizes))
    found = [*data.raw("train", "image"), *data.raw("test", "image")]
    assert {image.shape for image in found} == {(3, *made)}
    assert all(
        image[..., : made[1] // 3].max() < 0.2 and image[..., -made[1] // 3 :].min() > 0.8 for image in found
    )
    assert said in data.account()
    assert bool(said) == ("are made" in data.account())


def test_size_and_own_say_otherwise(tmp_path: Path, installed: Plugins) -> None:
    folder_of(tmp_path, (300, 200), (300, 200))
    for text, shape in (
        ("size=200", (3, 200, 200)),
        ("size=own", (3, 200, 300)),
        ("channels=1", (1, 80, 128)),
    ):
        data = open_data(f"{tmp_path};{text}", installed)
        assert next(data.raw("train", "image")).shape == shape
        assert ("are made" in data.account()) == (text == "channels=1")
