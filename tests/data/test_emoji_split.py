"""The rule of the split: what is held out is composed of what is trained on."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse_lab.datasets.emoji.emoji import emoji_file, read_built
from transfuse_lab.datasets.emoji.split import GENDERS, TONES, Cell, cell, heldout


def name(role: str, gender: str, tone: str) -> str:
    return f"{gender} {role}: {tone} skin tone"


def words(caption: str) -> set[str]:
    return set(re.findall(r"[\w-]+", caption))


def pairs(found: Cell) -> set[tuple[str, ...]]:
    return {("rg", *found[:2]), ("rt", found.role, found.tone), ("gt", *found[1:])}


def is_composed_of_what_is_trained_on(captions: Sequence[str], held: set[int]) -> bool:
    train = [caption for place, caption in enumerate(captions) if place not in held]
    trained_words = set().union(*map(words, train))
    trained_pairs = set().union(*(pairs(found) for caption in train if (found := cell(caption))))
    trained_cells = {cell(caption) for caption in train}
    return all(
        (found := cell(captions[place])) is not None
        and words(captions[place]) <= trained_words
        and pairs(found) <= trained_pairs
        and found not in trained_cells
        for place in held
    )


CELLS = [
    name(*parts) for parts in itertools.product(("cook", "running", "in tuxedo", "judge"), GENDERS, TONES)
]
OTHERS = ["grinning face", "flag: Norway", "cook", "man cook", "thumbs up: dark skin tone", "man: beard"]


@given(st.sets(st.sampled_from(CELLS), max_size=10), st.floats(0, 1), st.floats(0, 1))
def test_words_and_pairs_of_what_is_held_out_are_trained_on(
    lacking: set[str], test: float, tune: float
) -> None:
    captions = [*OTHERS, *(caption for caption in CELLS if caption not in lacking)]
    held = heldout(captions, {"test": test, "tune": tune})
    assert is_composed_of_what_is_trained_on(captions, {*held})
    assert len(held) <= (test + tune) * len(CELLS)
    alone = heldout(captions, {"test": test})
    assert alone == {place: split for place, split in held.items() if split == "test"}


@given(st.permutations([*CELLS, *OTHERS]))
def test_the_order_of_the_captions_moves_nothing(captions: list[str]) -> None:
    plain = [*CELLS, *OTHERS]
    one, two = heldout(captions), heldout(plain)
    assert {(captions[i], one[i]) for i in one} == {(plain[i], two[i]) for i in two}


def test_a_fifth_of_the_cells_is_for_the_test_and_a_tenth_for_tuning_and_always_the_same() -> None:
    found = heldout(CELLS)
    held = sorted(CELLS[place] for place, split in found.items() if split == "test")
    assert len(held) == len(CELLS) // 5
    assert len(found) - len(held) == len(CELLS) // 10
    lone = [name("guard", "man", tone) for tone in TONES]
    assert len(heldout([*CELLS, *lone])) == len(found)  # a role of one gender takes no part
    assert held[:2] == ["man in tuxedo: light skin tone", "man judge: medium-light skin tone"]


def test_a_picture_and_its_mirror_image_stay_together() -> None:
    captions = [*CELLS, *(f"{caption}, facing right" for caption in CELLS)]
    held = heldout(captions)
    assert held
    assert {place + len(CELLS) for place in held if place < len(CELLS)} == {
        place for place in held if place >= len(CELLS)
    }


@pytest.mark.parametrize(
    "lone",
    [
        [name("cook", "man", tone) for tone in TONES],  # one gender only: nothing to compose
        [name("cook", gender, tone) for gender in GENDERS for tone in TONES[1:]],  # a tone is missing
        [f"{gender}: {tone} skin tone" for gender in GENDERS for tone in TONES],  # no role
        OTHERS,
        [],
    ],
)
def test_nothing_is_held_out_of_what_is_no_whole_role(lone: list[str]) -> None:
    assert heldout(lone, {"test": 1.0}) == {}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("woman firefighter: dark skin tone", Cell("firefighter", "woman", "dark")),
        ("firefighter: dark skin tone", Cell("firefighter", "person", "dark")),
        ("person running: medium-light skin tone", Cell("running", "person", "medium-light")),
        ("man running: light skin tone, facing right", Cell("running", "man", "light")),
        ("man running: facing right", None),
        ("man running", None),
        ("man: dark skin tone, red hair", None),
        ("woman: medium skin tone", None),
        ("kiss: man, man, dark skin tone, light skin tone", None),
        ("flag: Norway", None),
        ("grinning face", None),
        ("", None),
    ],
)
def test_a_caption_names_its_cell(caption: str, expected: Cell | None) -> None:
    assert cell(caption) == expected


def test_the_real_emoji_are_held_out_by_composition(emoji_cache: Path) -> None:
    _, captions, images = read_built(emoji_file(emoji_cache), 32)
    held = heldout(captions)
    assert Counter(held.values()) == {"test": 209, "tune": 106}
    assert is_composed_of_what_is_trained_on(captions, {*held})
    often = Counter(word for caption in captions for word in words(caption))
    assert all(often[word] > 1 for place in held for word in words(captions[place]))
    trained = {images[place].tobytes() for place in range(len(captions)) if place not in held}
    assert not any(images[place].tobytes() in trained for place in held)
