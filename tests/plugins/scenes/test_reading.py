"""Pictures of scenes are read back exactly, through blur and noise too; what is illegible says so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from transfuse_scenes.grammar import PRESETS
from transfuse_scenes.parser import LEGIBLE, parse
from transfuse_scenes.scenes import realise
from transfuse_scenes.world import (
    CELLS,
    COLOURS,
    JITTERS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    coverage,
    render,
    window,
)


def drawn(count: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [realise(PRESETS["full"].draw(rng), rng) for _ in range(count)]


THINGS = st.builds(
    Thing, st.integers(0, CELLS - 1), st.sampled_from(SHAPES), st.sampled_from(sorted(COLOURS)),
    st.sampled_from(sorted(SIZES)), st.sampled_from(JITTERS), st.sampled_from(JITTERS),
)  # fmt: skip
SCENES = st.lists(THINGS, max_size=4, unique_by=lambda thing: thing.cell).map(
    lambda some: tuple(sorted(some))
)


@given(scene=SCENES)
def test_every_scene_is_read_back(scene: Scene) -> None:
    (reading,) = parse(render(scene)[None])
    assert reading.scene == scene
    assert reading.rms == 0


def told(scene: Scene) -> list:
    return [thing.told for thing in scene]


@pytest.mark.parametrize(("blur", "noise", "least"), [(0.5, 0, 1), (0.8, 0, 0.99), (1.1, 0, 0.98), (1.4, 0, 0.96),
                                                      (0, 0.1, 0.99), (0, 0.15, 0.98), (0, 0.2, 0.96)])  # fmt: skip
def test_blurred_and_noisy_pictures_are_read(blur: float, noise: float, least: float) -> None:
    scenes, rng = drawn(200), np.random.default_rng(1)
    pictures = gaussian_filter(np.stack([render(scene) for scene in scenes]), (0, 0, blur, blur))
    pictures = (pictures + rng.normal(0, noise, pictures.shape)).clip(0, 1) if noise else pictures
    readings = parse(pictures)
    assert np.mean([told(r.scene) == told(s) for r, s in zip(readings, scenes, strict=True)]) >= least


def test_what_is_far_from_every_scene_is_illegible() -> None:
    noise = np.random.default_rng(0).uniform(size=(3, 32, 32))
    nothing = np.full((3, 32, 32), np.nan)
    grey = np.full((3, 32, 32), 0.9)
    readings = parse(np.stack([noise, nothing, grey]))
    assert [reading.legible() for reading in readings] == [False, False, True]
    assert readings[2].scene == ()
    assert readings[0].rms > LEGIBLE


def test_a_thing_lies_in_its_cells_window() -> None:
    for cell in range(CELLS):
        for shape in SHAPES:
            seen = coverage(shape, "large", cell, 1, -1)
            rows, columns = window(cell)
            assert seen.sum() == pytest.approx(seen[rows, columns].sum())
            assert seen.sum() > 10


def test_readings_do_not_depend_on_how_many_are_read_at_once() -> None:
    pictures = np.stack([render(scene) for scene in drawn(70)])
    assert parse(pictures) == [parse(picture[None])[0] for picture in pictures]
