"""Pictures of every format that is read: by content, the first frame, turned as they say, made squares as asked."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features
from transfuse import TransfuseError
from transfuse_pictures import files
from transfuse_pictures.files import FORMATS, SUFFIXES, image_size, read_image

LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {},
    "PPM": {},
}
NEEDED = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
ORIENTATION = 0x0112


def written(path: Path, format: str, image: Image.Image, **options: Any) -> Path:
    if format in NEEDED and not features.check(NEEDED[format]):
        pytest.skip(f"this Pillow writes no {format}")
    image.save(path, format, **options)
    return path


def noise(width: int = 6, height: int = 4) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a"])
def test_every_format_is_read_whatever_its_file_is_called(tmp_path: Path, format: str, name: str) -> None:
    path = written(tmp_path / name, format, Image.new("RGB", (16, 8), (200, 100, 50)))
    read = read_image(path, 3)
    assert image_size(path) == read.shape[1:] == (8, 16)
    assert (
        np.abs(read.astype(int) - np.array([200, 100, 50])[:, None, None]).max() <= 12
    )  # some lose a little


@pytest.mark.parametrize("format", LOSSLESS)
def test_what_loses_nothing_is_read_level_for_level(tmp_path: Path, format: str) -> None:
    path = written(tmp_path / "a", format, noise(), **LOSSLESS[format])
    np.testing.assert_array_equal(read_image(path, 3), np.asarray(noise()).transpose(2, 0, 1))


def test_every_suffix_belongs_to_the_format_that_pillow_says() -> None:
    Image.init()
    known = Image.registered_extensions()
    assert {suffix: known[suffix] for suffix in SUFFIXES if suffix in known} == {
        suffix: format for format, suffixes in FORMATS.items() for suffix in suffixes if suffix in known
    }


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_read(tmp_path: Path, format: str) -> None:
    frames = [Image.new("RGB", (4, 4), shade) for shade in ("red", "blue", "lime")]
    path = written(tmp_path / "a", format, frames[0], save_all=True, append_images=frames[1:])
    red, green, blue = read_image(path, 3).astype(int)
    assert (red > 240).all()
    assert (green < 15).all()
    assert (blue < 15).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_a_header_is_that_of_the_picture_as_it_is_turned(
    tmp_path: Path, format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = written(tmp_path / "a", format, noise(), exif=exif)
    assert image_size(path) == read_image(path, 3).shape[1:] == ((6, 4) if orientation >= 5 else (4, 6))


@pytest.mark.parametrize("format", FORMATS)
def test_too_many_pixels_are_told_by_the_header(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a", format, noise(16, 16))
    monkeypatch.setattr(files, "LARGEST_IMAGE", 255)
    for read in (image_size, lambda path: read_image(path, 3)):
        with pytest.raises(TransfuseError, match="a: 16 x 16 pixels, more than 255: make it smaller"):
            read(path)


@pytest.mark.parametrize("format", FORMATS)
def test_every_truncation_is_named_or_read(tmp_path: Path, format: str) -> None:
    body = written(tmp_path / "whole", format, noise(16, 16)).read_bytes()
    for end in range(0, len(body), max(1, len(body) // 40)):
        (tmp_path / "cut.png").write_bytes(body[:end])
        try:
            assert read_image(tmp_path / "cut.png", 3).shape == (3, 16, 16)
        except TransfuseError as error:
            assert "cut.png" in str(error)  # noqa: PT017


@pytest.mark.parametrize("format", ["ICO", "PCX", "TGA", "EPS", "PDF"])
def test_other_formats_are_refused_under_any_name(tmp_path: Path, format: str) -> None:
    path = written(tmp_path / "a.png", format, noise(16, 16))
    with pytest.raises(TransfuseError, match=r"a\.png: not a readable image \(PNG, JPEG, WEBP"):
        read_image(path, 3)


def test_a_palette_and_a_grey_picture_with_transparency_are_laid_on_white(tmp_path: Path) -> None:
    Image.new("LA", (2, 2), (0, 0)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", 1) == 255).all()
    Image.new("P", (2, 2), 0).save(tmp_path / "b.gif", transparency=0)
    assert (read_image(tmp_path / "b.gif", 3) == 255).all()


def test_pixels_that_are_fractions_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(TransfuseError, match=r"a\.tiff: .*save it with 8 or 16 bits a channel"):
        read_image(tmp_path / "a.tiff", 1)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_square_is_stretched_cut_or_padded(tmp_path: Path, wide: bool, channels: int) -> None:
    """A black picture, twice as long as it is short, its middle half grey."""
    levels = np.zeros((8, 16, 3), np.uint8)
    levels[:, 4:12] = 128
    Image.fromarray(levels if wide else levels.transpose(1, 0, 2)).save(tmp_path / "a.png")

    def line(fit: Any) -> list[int]:
        read = read_image(tmp_path / "a.png", channels, (4, 4), fit)
        assert read.shape == (channels, 4, 4)
        return (read[0] if wide else read[0].T)[1].astype(int).tolist()

    assert min(line("crop")) > 120
    stretched = line("stretch")
    assert max(stretched[0], stretched[3]) < 40 < 100 < min(stretched[1:3])
    padded = read_image(tmp_path / "a.png", channels, (4, 4), "pad")[0]
    padded = padded if wide else padded.T
    assert (padded[[0, 3]] == 255).all()  # white beside it
    assert padded[1:3].max() < 160
    assert padded[1:3, 0].max() < 40


def test_a_stream_is_read_as_a_file_is() -> None:
    buffer = BytesIO()
    noise().save(buffer, "BMP")
    np.testing.assert_array_equal(files.decode_image(buffer, "a", 3), np.asarray(noise()).transpose(2, 0, 1))
