"""Texts beside captions: glosses read from WordNet's files, cut, some kept apart, and every other text one of them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from transfuse.errors import TransfuseError
from transfuse_scenes.data_set import BLOCK, HELD_OUT, Scenes
from transfuse_scenes.glosses import FILES, HELD, LONGEST, read_glosses
from transfuse_scenes.grammar import read
from transfuse_scenes.settings import ScenesSettings

LICENCE = "  1 This software and database is being provided to you | the LICENSEE\n"


def entry(number: int, gloss: str) -> str:
    """A line as wndb(5WN) has it."""
    return f"{number:08} 03 n 01 word_{number} 0 001 @ 00001740 n 0000 | {gloss}  \n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("wordnet")
    spoilt = [entry(1, "a flag with a blue square means that it sails"), entry(2, "very " * 40)]
    for n, name in enumerate(FILES):
        lines = [entry(i, f"the state of being the {i}-th of {n}") for i in range(300)]
        (made / name).write_text("".join([entry(0, "alike in all files"), *lines, *spoilt]))
    return made


def test_glosses_are_read_once_each_cut_and_without_what_scenes_have(folder: Path) -> None:
    train, held = read_glosses(folder)
    assert len(held) == HELD
    assert not {*train} & {*held}
    assert len({*train, *held}) == len(train) + HELD == 4 * 300 + 2
    assert not any("blue square" in text for text in (*train, *held))
    assert max(len(text) for text in (*train, *held)) <= LONGEST
    assert ("very " * 25).strip() in (*train, *held)


def test_the_licence_at_the_top_is_no_gloss(folder: Path, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_text(LICENCE + (folder / name).read_text())
    assert read_glosses(tmp_path) == read_glosses(folder)


def test_every_other_text_alone_is_a_gloss_and_all_else_is_as_without(folder: Path) -> None:
    plain, mixed = Scenes(ScenesSettings()), Scenes(ScenesSettings(glosses=str(folder)))
    train, held = read_glosses(folder)
    kinds: Counter[str] = Counter()
    for index in range(2 * BLOCK):
        one, two = plain.document("train", index), mixed.document("train", index)
        assert one.id == two.id
        assert plain.document_roles("train", index) == mixed.document_roles("train", index)
        if isinstance(text := two.items[0].data, str) and text in train:
            kinds["gloss"] += 1
            assert read(one.items[0].data) is not None
        else:
            kinds["caption" if len(two.items) == 1 else "pictures"] += 1
            for a, b in zip(one.items, two.items, strict=True):
                np.testing.assert_array_equal(a.data, b.data)
    assert kinds == {"gloss": 6, "caption": 4, "pictures": 30}
    assert mixed.size("glosses") == HELD
    assert [mixed.document("glosses", i).items[0].data for i in range(HELD)] == [*held]
    assert mixed.tasks_in("glosses") == ("text",)
    assert mixed.document_roles("glosses", 0) == ["text"]
    ids = [mixed.document(s, i).id for s in (*HELD_OUT, "glosses") for i in (0, 255)]
    assert len({*ids}) == len(ids)


def test_identity_tells_glosses_and_not_where_they_lie(folder: Path) -> None:
    plain, mixed = Scenes(ScenesSettings()).identity(), Scenes(ScenesSettings(glosses=str(folder))).identity()
    assert plain["content"] != mixed["content"]
    assert "glosses" not in plain
    assert "glosses" not in mixed
    assert "WordNet" in mixed["licence"]
    assert "WordNet" not in plain["licence"]


def test_a_folder_without_them_says_where_they_are_had(tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match=r"data\.adj cannot be read .*apt-get download wordnet-base"):
        Scenes(ScenesSettings(glosses=str(tmp_path)))
    for name in FILES:
        (tmp_path / name).write_text(entry(1, "alone"))
    with pytest.raises(TransfuseError, match="holds 1 glosses, and 512 are held out: give all files"):
        Scenes(ScenesSettings(glosses=str(tmp_path)))
