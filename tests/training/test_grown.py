"""Ranks that train together begin a run from another as one process does, and none reads more than its part of it."""

from pathlib import Path

import pytest
from transfuse.checkpoints import RunFolder
from transfuse.training.ranks import ALONE

from tests.tiny.rank_programs import grown
from tests.tiny.together import together

COMMON = ("train.steps=2", "train.rows=2", "train.ema=0.9")
GROWN = (  # what a run is trained under, and one that begins from it
    (
        ("image=null", *COMMON),
        (
            "model.block.name=per-modality",
            "model.block.start=copied",
            "train.lr_scale.inherited=0.5",
            *COMMON,
        ),
    ),
    (("text=null", "image.patcher.name=unet", *COMMON), ("image.patcher.name=unet", *COMMON)),
)


def test_ranks_begin_from_a_run_with_the_bits_that_one_process_begins_with(tmp_path: Path) -> None:
    """The run lies in two ranks' pieces: each rank reads its own rows of them, one process reads all."""
    two = together(2, "tests.tiny.rank_programs:begin_and_grow", str(tmp_path), GROWN)
    for i, (_, then) in enumerate(GROWN):
        one = grown(ALONE, str(tmp_path / f"{i}-one"), str(tmp_path / str(i)), then)
        assert {each[i]["sums"] for each in two} == {one["sums"]}
        assert two[0][i]["first"] == pytest.approx(one["first"], rel=1e-4)
        described = [RunFolder(tmp_path / f"{i}-{name}").description for name in ("one", "two")]
        for key in ("from", "inherited", "vocabulary", "modalities"):
            assert described[0][key] == described[1][key]
