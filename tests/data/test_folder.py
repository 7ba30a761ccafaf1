"""A folder of captioned images becomes a data set, or an error that names file and line."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transfuse import TransfuseError
from transfuse.datasets import content_hash
from transfuse_lab.datasets.folder import Folder
from transfuse_pictures.files import read_image


def save(path: Path, shade: int = 100, size: tuple[int, int] = (6, 6), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade if mode == "L" else (shade, 0, 200)).save(path)


def listing(folder: Path, *lines: Any) -> None:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "captions.jsonl").write_text(text)


def line(image: str, caption: str = "a cat", **more: Any) -> dict[str, Any]:
    return {"image": image, "caption": caption, **more}


def test_a_listing_gives_captions_and_splits_in_its_order(tmp_path: Path) -> None:
    for name in ("b.png", "sub/a.jpg", "c.jpeg"):
        save(tmp_path / name)
    listing(
        tmp_path,
        line("c.jpeg", "cé", split="train"),
        line("sub/a.jpg", "a", split="test"),
        line("b.png", "b", split="train"),
    )
    data = Folder(tmp_path)
    assert list(data.raw("train", "text")) == ["cé", "b"]
    assert list(data.raw("test", "text")) == ["a"]
    assert [data.document("train", 1).id, data.document("test", 0).id] == [2, 1]
    image = data.document("train", 1).items[1].data
    assert (image.shape, image.dtype) == ((3, 6, 6), np.float32)
    np.testing.assert_allclose(image[:, 0, 0] * 255, [100, 0, 200], rtol=1e-6)
    assert "b.png" in data.document("train", 1).source


def test_text_files_beside_images(tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f" picture {name}\n")
    data = Folder(tmp_path)
    captions = {*data.raw("train", "text"), *data.raw("test", "text")}
    assert captions == {"picture x", "picture y", "picture z"}


def test_one_in_ten_is_held_out_and_adding_images_moves_none(tmp_path: Path) -> None:
    def held_out(count: int) -> set[str]:
        for number in range(count):
            save(tmp_path / f"{number}.png", size=(1, 1))
            (tmp_path / f"{number}.txt").write_text(str(number))
        return set(Folder(tmp_path).raw("test", "text"))

    few, many = held_out(200), held_out(400)
    assert 20 <= len(many) <= 60
    assert few == {name for name in many if int(name) < 200}


def test_a_few_images_still_hold_one_out(tmp_path: Path) -> None:
    for name in ("k", "l"):
        save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(name)
    data = Folder(tmp_path)
    assert (data.size("train"), data.size("test")) == (1, 1)


def test_all_captions_of_one_image_share_its_split(tmp_path: Path) -> None:
    for number in range(30):
        save(tmp_path / f"{number}.png")
    listing(tmp_path, *[line(f"{n % 30}.png", str(n % 30)) for n in range(90)])
    data = Folder(tmp_path)
    assert not {*data.raw("train", "text")} & {*data.raw("test", "text")}
    ids = [data.document(split, i).id for split in ("train", "tune", "test") for i in range(data.size(split))]
    assert sorted(ids) == list(range(90))


def test_images_that_keep_unlike_sizes_are_an_error_whose_cures_work(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    save(tmp_path / "c.png", size=(9, 4))
    listing(tmp_path, *[line(f"{name}.png", split="train") for name in "abc"])
    with pytest.raises(
        TransfuseError, match=r"c\.png is 9 x 4 pixels, others are 6 x 6; leave size=own out, or .*;size=32'"
    ):
        Folder(tmp_path, side="own")
    for side, size in ((5, (5, 5)), (None, (6, 6))):
        assert {image.shape for image in Folder(tmp_path, side=side).raw("train", "image")} == {(3, *size)}


def test_grey_images(tmp_path: Path) -> None:
    save(tmp_path / "a.png", mode="L", shade=51)
    listing(tmp_path, line("a.png", split="train"))
    image = Folder(tmp_path, channels=1).document("train", 0).items[1].data
    np.testing.assert_allclose(image, np.full((1, 6, 6), 0.2, np.float32))


def test_transparency_is_laid_on_white_and_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(read_image(tmp_path / "clear.png", 3), np.full((3, 2, 2), 255))
    Image.fromarray(np.full((2, 2), 128 * 257, np.uint16)).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", 1), np.full((1, 2, 2), 128))


def test_the_identity_follows_the_content(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    listing(tmp_path, line("a.png", split="train"))
    before = Folder(tmp_path).identity()
    assert before["content"] == content_hash(Folder(tmp_path))
    save(tmp_path / "a.png", shade=101)
    assert Folder(tmp_path).identity()["content"] != before["content"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match="nowhere: not there"):
        Folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(TransfuseError, match="file: not a folder"):
        Folder(tmp_path / "file")


def test_no_images(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(TransfuseError, match="no image"):
        Folder(tmp_path)


BAD_LINES = {
    "not JSON": ('{"image": "a.png", ', "line 2: not JSON"),
    "deep nesting": ("[" * 100_000, "line 2: not JSON"),
    "not an object": ("[1]", "line 2: not an object"),
    "caption missing": ({"image": "a.png"}, "line 2: 'caption' is missing"),
    "image missing": ({"caption": "x"}, "line 2: 'image' is missing"),
    "misspelt key": (line("a.png", splt="train"), "line 2: unknown key 'splt', did you mean 'split'"),
    "unknown split": (line("a.png", split="dev"), "line 2: split must be one of train, tune, test, heldout"),
    "number": (line("a.png", caption=3), "line 2: caption must be a string"),  # type: ignore[arg-type]
    "empty caption": (line("a.png", "  "), "line 2: the caption is empty"),
    "long caption": (line("a.png", "x" * 10_001), "line 2: the caption is longer"),
    "half a surrogate": ('{"image": "a.png", "caption": "\\ud800"}', "line 2: the caption holds half"),
    "absolute path": (line("/etc/a.png"), "line 2: image '/etc/a.png' must be a path inside the folder"),
    "drive": (line("C:/a.png"), "line 2: image 'C:/a.png' must be a path inside"),
    "parent": (line("../a.png"), "line 2: image '../a.png' must be a path inside the folder"),
    "hidden parent": (line("sub/../../a.png"), "line 2: image .* must be a path inside the folder"),
    "not an image": (line("a.svg"), "line 2: image 'a.svg' is not one of"),
    "not there": (line("q.png"), "line 2: image 'q.png' is not in the folder"),
    "endless name": (
        line("q" * 5000 + ".png"),
        "line 2: image 'q+ is not",
    ),
    "null byte": (line("a\0.png"), "line 2: image .* must be a path inside"),
    "two splits": (line("a.png", split="test"), "line 2: a.png is test here but train in .* line 1"),
}


@pytest.mark.parametrize(("bad", "message"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_named(tmp_path: Path, bad: Any, message: str) -> None:
    save(tmp_path / "a.png")
    listing(tmp_path, line("a.png", split="train"), bad)
    with pytest.raises(TransfuseError, match=message):
        Folder(tmp_path)


def test_a_listing_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "captions.jsonl").write_bytes(b'\xff\xfe{"image": "a.png"}')
    with pytest.raises(
        TransfuseError, match=r"captions\.jsonl: is not UTF-8 text \(byte 0\): save it as UTF-8$"
    ):
        Folder(tmp_path)


@pytest.mark.parametrize("listed", [True, False])
def test_an_image_without_a_caption_is_named(tmp_path: Path, listed: bool) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    if listed:
        listing(tmp_path, line("a.png"))
    else:
        (tmp_path / "a.txt").write_text("a")
    with pytest.raises(TransfuseError, match=r"b\.png has no caption"):
        Folder(tmp_path)


def test_only_held_out_images_are_an_error(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    listing(tmp_path, line("a.png", split="heldout"))
    with pytest.raises(TransfuseError, match="no image is left to train on"):
        Folder(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.txt", "captions.jsonl"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    save(outside / "a.png")
    (outside / "a.txt").write_text("secret")
    listing(outside, line("a.png"))
    save(inside / "a.png")
    if name != "captions.jsonl":
        (inside / "a.txt").write_text("a")
    (inside / name).unlink(missing_ok=True)
    (inside / name).symlink_to(outside / name)
    with pytest.raises(TransfuseError, match=f"{name} is a link that leads out of the folder"):
        Folder(inside)


def bomb(side: int) -> bytes:
    """A tiny PNG whose header claims side x side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not a readable image"),
        (b"not an image", "not a readable image"),
        (b"GIF89a", "not a readable image"),
        (bomb(5000), "5000 x 5000 pixels, more than"),
        (bomb(60_000), "pixels"),
        (bomb(64), "not a readable image"),
    ],
    ids=["empty", "text", "gif", "bomb", "huge bomb", "truncated"],
)
def test_a_broken_image_is_named(tmp_path: Path, body: bytes, message: str) -> None:
    (tmp_path / "a.png").write_bytes(body)
    listing(tmp_path, line("a.png"))
    with pytest.raises(TransfuseError, match=rf"a\.png: .*{message}"):
        Folder(tmp_path)


def test_every_truncation_of_a_real_image_is_named_or_read(tmp_path: Path) -> None:
    save(tmp_path / "whole.png", size=(16, 16))
    body = (tmp_path / "whole.png").read_bytes()
    for end in range(len(body)):
        (tmp_path / "cut.png").write_bytes(body[:end])
        try:
            assert read_image(tmp_path / "cut.png", 3).shape == (3, 16, 16)
        except TransfuseError as error:
            assert "cut.png" in str(error)  # noqa: PT017


def test_settings_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match="channels must be 1 or 3, not 4"):
        Folder(tmp_path, channels=4)
    with pytest.raises(TransfuseError, match="size must be from 1 to 4096, not 0"):
        Folder(tmp_path, side=0)
