"""Pictures to files and back, as the codec of a modality has them; and drawn as PNGs."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from transfuse import TransfuseError
from transfuse.modalities.codec import GridModality
from transfuse.registry.plugins import Plugins
from transfuse_pictures.files import image_bytes

SHAPES = st.tuples(st.sampled_from([1, 3]), st.integers(1, 6), st.integers(1, 6))
LEVELS = SHAPES.flatmap(lambda shape: hnp.arrays(np.uint8, shape))


def modality(*raws: np.ndarray, kind: str = "image", **settings: Any) -> GridModality:
    plugins = Plugins.load()
    section = {"kind": kind, "codec": {"name": "pixel"}, "patcher": {"patch": 1}, **settings}
    made: GridModality = plugins.choose("modality", section).build(name="image")
    made.fit(raws, 0, lambda line: None)
    return made


def grey(height: int, width: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).random((channels, height, width)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@given(levels=LEVELS, ending=st.sampled_from([".png", ".npy"]))
def test_a_picture_comes_back_level_for_level(folder: Path, levels: np.ndarray, ending: str) -> None:
    raw = levels.astype(np.float32) / 255
    own = modality(raw)
    assert own.suffix_for(raw) == own.suffixes[0] == ".png"
    own.save(raw, folder / f"a{ending}")
    back = own.load(folder / f"a{ending}")
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, raw)


@given(levels=LEVELS)
def test_a_picture_is_drawn_as_the_png_that_it_is(levels: np.ndarray) -> None:
    raw = levels.astype(np.float32) / 255
    drawn = modality(raw).draw(raw)
    assert isinstance(drawn, bytes)
    with Image.open(BytesIO(drawn)) as opened:
        pixels = np.asarray(opened)
    np.testing.assert_array_equal(pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1), levels.squeeze(0)
                                  if len(levels) == 1 else levels)  # fmt: skip


def test_values_beyond_the_range_are_clipped_and_nan_is_black() -> None:
    raw = np.array([[[1.5, -1, np.nan, 0.5]]], np.float32)
    with Image.open(BytesIO(image_bytes(raw))) as opened:
        assert np.asarray(opened).tolist() == [[255, 0, 0, 128]]


def test_where_one_shape_is_known_others_are_resized_to_it_and_channels_are_the_codecs(
    tmp_path: Path,
) -> None:
    modality(grey(9, 5, 3)).save(grey(9, 5, 3), tmp_path / "a.jpg")
    assert modality(grey(4, 4)).load(tmp_path / "a.jpg").shape == (1, 4, 4)
    assert modality(grey(4, 4, 3)).load(tmp_path / "a.jpg").shape == (3, 4, 4)
    assert modality(grey(4, 6)).load(tmp_path / "a.jpg").shape == (1, 4, 6)
    assert modality(grey(4, 4), grey(8, 8)).load(tmp_path / "a.jpg").shape == (1, 9, 5)


def test_pictures_of_other_channels_are_arrays(tmp_path: Path) -> None:
    raw = grey(4, 4, 5)
    own = modality(raw)
    assert own.suffix_for(raw) == ".npy"
    own.save(raw, tmp_path / "a.npy")
    np.testing.assert_array_equal(own.load(tmp_path / "a.npy"), raw)
    assert own.draw(raw) is None, "drawn as any array is"
    with pytest.raises(TransfuseError, match=r"an array \[1 or 3, height, width\], not \(5, 4, 4\)"):
        own.save(raw, tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "none.png", "a.npy", "a\0.png"])
def test_what_is_no_picture_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").write_text("words")
    (tmp_path / "a.npy").write_text("words")
    with pytest.raises(TransfuseError, match=r"not a readable image|is no \.npy file|cannot be read"):
        modality(grey(4, 4)).load(tmp_path / name)


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TransfuseError, match=r"file/a\.png cannot be written"):
        modality(grey(4, 4)).save(grey(4, 4), tmp_path / "file/a.png")
