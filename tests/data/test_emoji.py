"""The real emoji: all of them, each with its own name, at both sizes."""

from pathlib import Path

import numpy as np
import pytest
from transfuse import TransfuseError
from transfuse.datasets import content_hash
from transfuse.registry.plugins import Plugins
from transfuse_lab.datasets import open_data
from transfuse_lab.datasets.emoji.build import build_emoji, halved
from transfuse_lab.datasets.emoji.cache import cache_folder
from transfuse_lab.datasets.emoji.emoji import COUNT, Emoji, emoji_file


@pytest.fixture(scope="module")
def emoji(emoji_cache: Path) -> Emoji:
    return Emoji(32, emoji_file(emoji_cache))


def test_every_emoji_is_in_one_split_once_with_a_name_of_its_own(emoji: Emoji) -> None:
    documents = [
        emoji.document(split, i) for split in ("train", "tune", "test") for i in range(emoji.size(split))
    ]
    assert sorted(document.id for document in documents) == list(range(COUNT))
    assert len({document.items[0].data for document in documents}) == COUNT
    assert emoji.size("test") == 209


def by_name(data: Emoji, name: str) -> np.ndarray:
    captions = list(data.raw("train", "text"))
    return data.document("train", captions.index(name)).items[1].data


def test_names_and_pictures_belong_together(emoji: Emoji) -> None:
    red, blue = by_name(emoji, "red circle"), by_name(emoji, "blue circle")
    assert red[0, 16, 16] > 0.7 > 0.4 > red[2, 16, 16]
    assert blue[2, 16, 16] > 0.7 > 0.4 > blue[0, 16, 16]
    assert (red[:, 0, 0] == 1).all()  # what is transparent is white
    fair, dark = (by_name(emoji, f"thumbs up: {tone} skin tone") for tone in ("light", "dark"))
    assert fair.mean() > dark.mean()
    by_name(emoji, "flag: Norway")


def test_an_image_is_float32_between_zero_and_one(emoji: Emoji) -> None:
    image = emoji.document("test", 0).items[1].data
    assert (image.dtype, image.shape) == (np.float32, (3, 32, 32))
    assert image.min() >= 0
    assert image.max() == 1


def test_the_small_size_is_the_mean_of_two_by_two_of_the_large(emoji: Emoji, emoji_cache: Path) -> None:
    large = Emoji(64, emoji_file(emoji_cache))
    for index in (0, 100, 200):
        big = large.document("test", index).items[1].data
        mean = (big[:, ::2, ::2] + big[:, 1::2, ::2] + big[:, ::2, 1::2] + big[:, 1::2, 1::2]) / 4
        small = emoji.document("test", index)
        np.testing.assert_allclose(small.items[1].data, mean, atol=0.51 / 255)
        assert small.items[0] == large.document("test", index).items[0]
    assert large.identity()["content"] != emoji.identity()["content"]


def test_halving_rounds_to_the_nearest() -> None:
    image = np.array([[0, 1, 255, 255], [1, 0, 255, 254]], np.uint8)[None, None]
    np.testing.assert_array_equal(halved(image), [[[[1, 255]]]])


def test_four_visits_in_five_read_the_name_first_and_only_then_it_is_droppable(emoji: Emoji) -> None:
    rng, first = np.random.default_rng(0), []
    for _ in range(1000):
        items = emoji.document("train", 3, rng).items
        first.append(items[0].modality == "text")
        assert [item.droppable for item in items] == ([True, False] if first[-1] else [False, False])
    assert abs(np.mean(first) - 0.8) < 0.04


def test_the_identity_names_content_and_licences(emoji: Emoji) -> None:
    identity = emoji.identity()
    assert identity["content"] == content_hash(emoji)
    assert "CC BY 4.0" in identity["licence"]
    assert identity["size"] == 32


def test_it_is_opened_by_name_out_of_the_cache(
    emoji_cache: Path, installed: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFUSE_CACHE", str(emoji_cache))
    assert open_data("emoji;size=64", installed).document("train", 0).items[1].data.shape == (3, 64, 64)
    with pytest.raises(TransfuseError, match="size"):
        open_data("emoji;size=16", installed)


def test_what_is_built_is_not_built_again(emoji_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no npm to be found
    assert build_emoji(emoji_cache) == emoji_file(emoji_cache)


def test_before_it_is_built_the_error_says_how(
    tmp_path: Path, installed: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFUSE_CACHE", str(tmp_path))
    with pytest.raises(TransfuseError, match="run `transfuse data build emoji`"):
        open_data("emoji", installed)


@pytest.mark.parametrize("spoil", ["cut", "flipped", "other", "empty", "pickle"])
def test_a_damaged_file_is_named(emoji_cache: Path, tmp_path: Path, spoil: str) -> None:
    whole, path = emoji_file(emoji_cache).read_bytes(), emoji_file(tmp_path)
    if spoil == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif spoil == "flipped":
        middle = len(whole) - len(whole) // 10  # among the small images, written last
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif spoil == "other":
        np.savez(path, about=np.frombuffer(b"[]", np.uint8), size32=np.zeros((2, 3, 32, 32), np.uint8))
    elif spoil == "pickle":
        np.savez(path, about=np.array([{}], dtype=object), size32=np.zeros(3))
    else:
        path.write_bytes(b"")
    with pytest.raises(TransfuseError, match=r"emoji-1\.npz .*run `transfuse data build emoji`"):
        Emoji(32, path)


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TRANSFUSE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "transfuse"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "transfuse"
    monkeypatch.setenv("TRANSFUSE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
