"""What nobody set is chosen to suit the data; what somebody set stays, and a run that goes on chooses nothing anew."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from transfuse.checkpoints import RunFolder
from transfuse.config.parts import Part, Settings
from transfuse.config.recipe import Recipe
from transfuse.config.validation import InvalidSettings
from transfuse.datasets import DataSet
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse.sequences.layout import Layout
from transfuse.sequences.packing import Packer
from transfuse.sequences.vocabulary import vocabulary_for
from transfuse.testing.modalities import Blob
from transfuse_lab.comparison.plan import plan
from transfuse_lab.comparison.settings import ComparisonSettings
from transfuse_lab.datasets.picture_size import size_for
from transfuse_lab.runs import choices
from transfuse_lab.runs.choices import FEWEST, MOST, as_before, budget, choose
from transfuse_lab.runs.survey import survey, survey_all
from transfuse_lab.runs.training import train

from tests.tiny.recipes import overrides

RECIPES = {
    "transfusion": ("transfusion",),
    "transfusion in pixels": ("transfusion", "image.codec=pixel"),
    "transfusion, U-Net": ("transfusion", "image.patcher=unet"),
    "transfusion, U-Net in pixels": ("transfusion", "image.codec=pixel", "image.patcher=unet"),
    "chameleon": ("chameleon",),
    "chameleon, FSQ": ("chameleon", "image.codec={name: fsq}"),
    "masked": ("chameleon", "image=image_masked"),
}
"""Every recipe and codec and patcher for pictures that comes with transfuse."""
NOTHING: Callable[[str], None] = lambda line: None  # noqa: E731


class Outlines(DataSet):
    """Captioned pictures of some sizes in turn, of which there are no pixels."""

    name = "outlines"

    def __init__(
        self, *sizes: tuple[int, ...], captions: Sequence[str] = ("a cat", "a dog"), train: int = 6
    ) -> None:
        self.sizes, self.captions, self.train = sizes, captions, train

    def size(self, split: str) -> int:
        return self.train if split == "train" else 2

    def outline(self, split: str, index: int, roles: Collection[str]) -> Document:
        shape = self.sizes[index % len(self.sizes)]
        image = np.broadcast_to(np.float32(0), (3, *shape) if len(shape) == 2 else shape)
        return Document(
            (Item("text", self.captions[index % len(self.captions)]), Item("image", image)),
            index,
            f"{split} {index}",
        )

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        return self.outline(split, index, ())

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}


@pytest.fixture(scope="module")
def recipe(installed: Plugins) -> Callable[..., Recipe]:
    """``recipe("transfusion", "image.codec=pixel")``: as a user of the packaged registry has it."""
    registry = Registry.load(installed, [packaged_file()])
    return lambda name, *sets: registry.recipe(name, sets, "outlines")


def positions(chosen: Recipe, *shapes: tuple[int, int]) -> list[int]:
    return choices._lengths("image", chosen.modalities["image"], [np.zeros((3, *shape)) for shape in shapes])


@pytest.mark.parametrize("sets", RECIPES.values(), ids=RECIPES.keys())
@given(height=st.integers(16, 512), width=st.integers(16, 512))
@settings(max_examples=30)
def test_pictures_of_any_size_become_16_to_256_positions(
    recipe: Callable[..., Recipe], sets: tuple[str, ...], height: int, width: int
) -> None:
    shape = size_for(height, width)
    made = recipe(*sets)
    chosen = choose("image", made.modalities["image"], [np.broadcast_to(np.float32(0), (3, *shape))])
    (length,) = choices._lengths("image", chosen, [np.zeros((3, *shape), np.float32)])
    assert FEWEST <= length <= MOST


@pytest.mark.parametrize("sets", RECIPES.values(), ids=RECIPES.keys())
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (70, 100), (512, 512), (113, 17)])
def test_and_their_documents_are_laid_out_and_fill_rows(
    recipe: Callable[..., Recipe], sets: tuple[str, ...], size: tuple[int, int]
) -> None:
    said: list[str] = []
    surveyed = survey(recipe(*sets), Outlines(size_for(*size)), said.append)
    layout = Layout(surveyed.modalities, vocabulary_for(surveyed.modalities))
    row = next(
        Packer(surveyed.recipe.train.budget).rows(
            layout.sequence(surveyed.data.document("train", i)) for i in range(6)
        )
    )
    assert len(row.arrivals) >= 2
    assert all(FEWEST <= span.span.length <= MOST for span in row.spans)
    assert len(said) <= 1


def test_one_line_says_what_was_chosen_so_that_set_takes_it(recipe: Callable[..., Recipe]) -> None:
    said: list[str] = []
    data = Outlines((128, 128))
    surveyed = survey(recipe("transfusion"), data, said.append)
    (line,) = said
    assert line == (
        "chosen to suit outlines: image.codec.down=8 image.codec.stem=4 image.patcher.patch=2 "
        "(image: 64 positions each); another by --set"
    )
    sets = [word for word in line.replace(";", " ").split() if "=" in word]
    again = survey(recipe("transfusion", *sets), data, said.append)
    assert again.recipe.dump() == surveyed.recipe.dump()
    assert len(said) == 1  # nothing is left to be chosen


def test_defaults_that_suit_the_data_stay(recipe: Callable[..., Recipe]) -> None:
    said: list[str] = []
    made = recipe("transfusion")
    assert survey(made, Outlines((16, 16)), said.append).recipe.dump() == made.dump()
    assert said == []


@pytest.mark.parametrize("given", ["image.codec.down=16", "image.patcher.patch=8", "image.codec.stem=1"])
def test_what_is_given_stays_and_the_rest_is_chosen_around_it(
    recipe: Callable[..., Recipe], given: str
) -> None:
    chosen = survey(recipe("transfusion", given), Outlines((128, 128)), NOTHING).recipe
    image = chosen.modalities["image"].settings
    key = given.split(".")[-1].split("=")
    assert getattr(image.codec.settings, key[0], getattr(image.patcher.settings, key[0], None)) == int(key[1])
    assert positions(chosen, (128, 128)) == [64]


def test_what_all_is_given_stays_even_where_it_suits_nobody(recipe: Callable[..., Recipe]) -> None:
    given = ("image.codec.down=2", "image.patcher.patch=1", "train.budget=5000")
    made = recipe("transfusion", *given)
    assert survey(made, Outlines((64, 64)), NOTHING).recipe.dump() == made.dump()


def test_what_a_users_registry_says_is_given(installed: Plugins, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "recipes: {mine: {extends: transfusion, data: {outlines: {modalities: {image: {patcher: {patch: 4}}}}}}}"
    )
    made = Registry.load(installed, [packaged_file(), mine]).recipe("mine", (), "outlines")
    image = survey(made, Outlines((64, 64)), NOTHING).recipe.modalities["image"].settings
    assert (image.patcher.settings.patch, image.codec.settings.down) == (4, 2)


# -- rows


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([90, 100, 110], 528),  # four fit already
        ([300, 300, 310], 1200),  # four of usual length
        ([1000, 1000], 2048),  # but no more than that
        ([100, 100, 3000], 3008),  # the longest, in steps of 16
        ([100, 100, 9000], 528),  # which is told instead, where it is far longer than all
        ([0, 0], 528),  # all have faults, which are told
    ],
)  # fmt: skip
def test_rows_hold_some_documents_and_the_longest(
    recipe: Callable[..., Recipe], lengths: list[int], expected: int
) -> None:
    assert budget(recipe("transfusion"), lengths) == expected
    assert budget(recipe("transfusion", "train.budget=64"), lengths) == 64


def test_a_caption_far_longer_than_all_is_told_with_its_cures(recipe: Callable[..., Recipe]) -> None:
    data = Outlines((16, 16), captions=(*["a cat"] * 5, "z" + " y x" * 4000))
    with pytest.raises(
        TransfuseError, match=r"1 of 6 training documents do not fit a row of 528: .* --set train\."
    ):
        survey(recipe("transfusion"), data, NOTHING)
    survey(recipe("transfusion", "train.too_long=cut"), data, NOTHING)


# -- somebody else's parts


class Halving(Settings):
    """Series cut into pieces."""

    piece: int = Field(1, ge=1, le=4096)
    """Values a position."""

    def scaled(self, by: int) -> "Halving | None":
        if by > 512:
            raise InvalidSettings([(("piece",), "must be at most 512")])
        return None if "piece" in self.model_fields_set else self.changed(piece=by)


class Pieces(Blob):
    """A span modality that nobody here wrote: no codec, no grid."""

    def __init__(self, settings: Any, name: str) -> None:
        super().__init__(name)
        self.piece = settings.piece

    def fit(self, raws: Any, seed: int, report: Any, effort: float = 1.0) -> None:
        self.sizes = tuple({len(raw) // self.piece for raw in raws})

    def encode(self, raw: Any) -> np.ndarray:
        return np.asarray(raw, np.float32).reshape(-1, self.piece)[:, :2]


class Plain(Settings):
    """The same settings, by somebody who never heard of it."""

    piece: int = Field(1, ge=1, le=4096)
    """Values a position."""


@pytest.mark.parametrize(
    ("part", "section", "piece"),
    [(Halving, {}, 32), (Halving, {"piece": 3}, 3), (Plain, {}, 1)],
)  # fmt: skip
def test_a_strangers_modality_takes_part_or_is_left_alone(
    installed: Plugins, part: type[Settings], section: dict[str, Any], piece: int
) -> None:
    chosen = installed.choose("modality", {"kind": "image"}, "here")
    mine = replace(chosen, part=Part("pieces", part, Pieces), settings=part.model_validate(section))
    raws = [np.zeros(length, np.float32) for length in (1536, 3072)]
    assert choose("series", mine, raws).settings.piece == piece


# -- runs that go on


def begun(recipe: Recipe, data: DataSet, folder: Path, plugins: Plugins, **more: Any) -> Recipe:
    return train(recipe, data, {"name": "shapes"}, folder, plugins, report=NOTHING, **more).recipe


@pytest.fixture
def small(installed: Plugins) -> Callable[..., Recipe]:
    """A tiny recipe of which neither scale nor rows are set."""
    registry = Registry.load(installed, [packaged_file()])
    tiny = [one for one in overrides("transfusion", pixels=False) if "budget" not in one]
    return lambda *more: registry.recipe("transfusion", [*tiny, *more])


def test_a_run_that_goes_on_chooses_nothing_anew(
    small: Callable[..., Recipe],
    shapes: Callable,
    installed: Plugins,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = shapes(train=12, sides=(32,))
    first = begun(small(), data, tmp_path, installed)
    assert first.modalities["image"].settings.patcher.settings.patch == 2
    assert RunFolder(tmp_path).recipe(installed).dump() == first.dump()
    monkeypatch.setattr(choices, "USUAL", 16)
    monkeypatch.setattr(choices, "DOCUMENTS", 20)
    assert begun(small("train.steps=5"), data, tmp_path, installed).dump() == first.dump() | {
        "train": first.dump()["train"] | {"steps": 5}
    }
    assert begun(small(), data, tmp_path / "anew", installed).dump() != first.dump()
    there = begun(small("model.layers=2"), data, tmp_path / "from", installed, start=tmp_path)
    assert there.modalities == first.modalities
    with pytest.raises(TransfuseError, match=r"patcher\.patch \(there 2, here 4\)"):
        begun(small("image.patcher.patch=4"), data, tmp_path, installed)


def test_a_run_takes_the_scale_of_the_codecs_it_is_given(
    small: Callable[..., Recipe], shapes: Callable, installed: Plugins, tmp_path: Path
) -> None:
    from transfuse_lab.runs.codecs import fit_codecs

    data = shapes(train=12, sides=(32,))
    fit_codecs(small("image.codec.down=8"), data, tmp_path / "codecs", NOTHING)
    image = (
        begun(small(), data, tmp_path / "run", installed, codecs=tmp_path / "codecs")
        .modalities["image"]
        .settings
    )
    assert image.codec.settings.down == 8
    assert positions(begun(small(), data, tmp_path / "run", installed), (32, 32)) == [16]


def test_what_was_chosen_is_taken_over_only_where_nobody_set_it(recipe: Callable[..., Recipe]) -> None:
    earlier = survey(recipe("transfusion"), Outlines((128, 128)), NOTHING).recipe
    later = as_before(recipe("transfusion", "image.patcher.patch=4", "train.lr=1e-4"), earlier.dump())
    image = later.modalities["image"].settings
    assert (image.codec.settings.down, image.codec.settings.stem, image.patcher.settings.patch) == (8, 4, 4)
    assert later.train.lr == 1e-4
    other = as_before(recipe("transfusion", "image.codec=pixel"), earlier.dump())
    assert other.modalities["image"].settings.codec.name == "pixel"


# -- comparisons


def test_recipes_that_are_compared_have_one_length_of_rows(recipe: Callable[..., Recipe]) -> None:
    few, many = recipe("transfusion", "image.codec.down=16"), recipe("chameleon", "image.codec.down=8")
    surveyed = survey_all({"few": few, "many": many}, Outlines((128, 128)), NOTHING)
    assert [survey(one, Outlines((128, 128)), NOTHING).recipe.train.budget for one in (few, many)] == [
        528,
        1056,
    ]
    assert [each.recipe.train.budget for each in surveyed.values()] == [1056, 1056]


def test_values_of_a_setting_are_compared_with_all_else_equal(installed: Plugins, tmp_path: Path) -> None:
    registry = Registry.load(installed, [packaged_file()])
    said: list[str] = []
    axes = {"image.patcher.patch": ("1", "2", "4")}
    asked = ComparisonSettings(("transfusion",), "outlines", (0, 1), tmp_path, (), axes)
    data = Outlines((64, 64))

    def suit(recipes: Any, bases: Any) -> dict[str, Recipe]:
        return {name: each.recipe for name, each in survey_all(recipes, data, said.append, bases).items()}

    runs = plan(asked, registry, data.identity(), suit)
    assert {run.recipe.modalities["image"].settings.codec.settings.down for run in runs} == {4}
    assert [positions(run.recipe, (64, 64)) for run in runs] == [[256], [64], [16]] * 2
    assert len({run.codecs for run in runs}) == 1
    assert len({run.recipe.train.budget for run in runs}) == 1
    assert said[0].startswith(
        "transfusion;image.patcher.patch=1: chosen to suit outlines: image.codec.down=4"
    )
