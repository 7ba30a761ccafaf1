"""Known answers 2 and 16 (`make science-check`): ceilings, and ranks that do not rest on how pictures are read."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from transfuse_image.codecs.blocks import BlockCodesCodec, BlockCodesSettings, BlocksCodec, BlocksSettings
from transfuse_scenes.data_set import Scenes
from transfuse_scenes.grammar import Description, read
from transfuse_scenes.metrics import Pictures, corrected, recall
from transfuse_scenes.scenes import realise
from transfuse_scenes.settings import ReadingSettings, ScenesSettings
from transfuse_scenes.world import render

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def held() -> tuple[list[Description], list[np.ndarray]]:
    data = Scenes(ScenesSettings())
    items = [data.document("test", i).items for i in range(512)]
    return [found for text, _ in items if (found := read(text.data)) is not None], [
        image.data for _, image in items
    ]


def recalled(asked: list[Description], pictures: list[np.ndarray], settings: ReadingSettings) -> float:
    seen = Pictures(asked, pictures, settings)
    return float(np.diag(recall(seen.wanted, seen.seen)).mean())


def test_ceilings(held: tuple[list[Description], list[np.ndarray]]) -> None:
    asked, pictures = held
    training = list(Scenes(ScenesSettings()).raw("train", "image"))

    def ceiling(codec: BlocksCodec | BlockCodesCodec) -> float:
        codec.fit(training, 0, lambda line: None)
        return recalled(asked, [codec.decode(codec.encode(p)) for p in pictures], ReadingSettings())

    vectors, codes = ceiling(BlocksCodec(BlocksSettings())), ceiling(BlockCodesCodec(BlockCodesSettings()))
    assert min(vectors, codes) >= 0.99
    assert abs(vectors - codes) <= 0.01
    assert ceiling(BlockCodesCodec(BlockCodesSettings(codes=24))) < 0.99, "a codec too coarse is found"


SKILLS = (0.2, 0.35, 0.5, 0.65, 0.8)


def generator(asked: list[Description], skill: float) -> list[np.ndarray]:
    """Draws as asked with this probability, else for another prompt; soft and noisy as samples are."""
    rng = np.random.default_rng(int(100 * skill))
    made = []
    for i, description in enumerate(asked):
        shown = (
            description
            if rng.random() < skill
            else asked[(i + 1 + int(rng.integers(len(asked) - 1))) % len(asked)]
        )
        picture = gaussian_filter(render(realise(shown, rng)), (0, 0.7, 0.7)) + rng.normal(
            0, 0.04, (3, 32, 32)
        )
        made.append(picture.clip(0, 1))
    return made


def ranks(asked: list[Description], settings: ReadingSettings) -> list[float]:
    return [corrected(recalled(asked, generator(asked, skill), settings), 0.068) for skill in SKILLS]


def rising(values: list[float]) -> bool:
    return all(one < two for one, two in pairwise(values))


@pytest.mark.parametrize(
    "settings",
    [
        ReadingSettings(),
        ReadingSettings(blurs=(0.0,)),
        ReadingSettings(legible=0.1),
        ReadingSettings(legible=0.16),
    ],
    ids=["as it is", "without the bank of blurs", "stricter", "laxer"],
)
def test_ranks_do_not_rest_on_how_pictures_are_read(
    held: tuple[list[Description], list[np.ndarray]], settings: ReadingSettings
) -> None:
    assert rising(ranks(held[0], settings))


def test_a_threshold_that_hides_everything_is_found(held: tuple[list[Description], list[np.ndarray]]) -> None:
    assert not rising(ranks(held[0], ReadingSettings(legible=0.01)))
