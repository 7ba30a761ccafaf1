"""The rank of a prompt's own picture: against a loop over all pictures, and where it is easy to get wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse import TransfuseError
from transfuse_lab.evaluation import own_image
from transfuse_lab.evaluation.own_image import own_image_ranks
from transfuse_lab.evaluation.spread import names

REAL = np.random.default_rng(1).integers(0, 256, (9, 3, 2, 2)).astype(np.float32) / 255
NAMES = [f"name {n}" for n in range(9)]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=5), st.integers(0, 1000), st.integers(1, 10))
def test_the_rank_is_the_number_of_strictly_nearer_images(asked: list[int], seed: int, at_once: int) -> None:
    drawn = np.random.default_rng(seed).random((len(asked), 3, 2, 2)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_image, "AT_ONCE", at_once)
        ranks = own_image_ranks(REAL, NAMES, drawn, [NAMES[i] for i in asked])
    for rank, i, one in zip(ranks, asked, drawn, strict=True):
        far = [float(np.square(one.astype(np.float64) - real).sum()) for real in REAL]
        assert rank == sum(distance < far[i] for distance in far)


def test_the_own_image_itself_is_nearest() -> None:
    np.testing.assert_array_equal(own_image_ranks(REAL, NAMES, REAL, NAMES), np.zeros(9))


@pytest.mark.parametrize("at_once", [1, 4, 512])
def test_a_twin_pushes_nothing_back(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(own_image, "AT_ONCE", at_once)
    twins = np.concatenate([REAL, REAL[:1], REAL[:1]])
    drawn = np.random.default_rng(2).random((50, 3, 2, 2)).astype(np.float32)
    for name in ("name 0", "twin", "another"):
        ranks = own_image_ranks(twins, [*NAMES, "twin", "another"], drawn, [name] * 50)
        np.testing.assert_array_equal(ranks % 1, 0)
        alone = own_image_ranks(REAL, NAMES, drawn, ["name 0"] * 50)
        np.testing.assert_array_equal(ranks, alone)


def test_of_several_images_of_a_caption_the_nearest_is_its_own() -> None:
    names = ["both", *NAMES[1:8], "both"]
    assert own_image_ranks(REAL, names, REAL[[8]], ["both"]) == [0]
    assert own_image_ranks(REAL, names, REAL[[0]], ["both"]) == [0]


def test_what_is_drawn_out_of_range_is_seen_as_a_screen_shows_it() -> None:
    black, white = np.zeros((1, 3, 2, 2), np.float32), np.ones((1, 3, 2, 2), np.float32)
    real, names = np.concatenate([black, white, REAL]), ["black", "white", *NAMES]
    drawn = np.concatenate([np.full_like(black, np.nan), black - 9, white + 9, np.full_like(white, np.inf)])
    ranks = own_image_ranks(real, names, drawn, ["black", "black", "white", "white"])
    np.testing.assert_array_equal(ranks, 0)
    assert own_image_ranks(real, names, drawn[:1], ["white"])[0] == len(real) - 1


def test_what_cannot_be_ranked_is_named() -> None:
    with pytest.raises(TransfuseError, match="no real image is captioned 'nobody'"):
        own_image_ranks(REAL, NAMES, REAL[:1], ["nobody"])
    with pytest.raises(TransfuseError, match=r"images \(3, 1, 2\) among real \(3, 2, 2\)"):
        own_image_ranks(REAL, NAMES, REAL[:1, :, :1], NAMES[:1])


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (NAMES, True),
        ([*NAMES, "name 0"], True),
        ([*NAMES, "name 0", "name 1"], False),
        (["a"], False),
        ([], False),
    ],
)
def test_texts_are_names_where_nearly_all_differ(texts: list[str], named: bool) -> None:
    assert names(texts) == named
