"""A run that is gone on with is the run that never stopped: bit for bit where as many ranks train, else to rounding."""

from pathlib import Path

import pytest
from transfuse import checkpoints
from transfuse.checkpoints import RunFolder
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins
from transfuse.training.ranks import ALONE
from transfuse.training.saving import export, sound_checkpoint

from tests.tiny.rank_programs import every_step, go_on
from tests.tiny.runs import same
from tests.tiny.together import together

PROGRAM = "tests.tiny.rank_programs:{}"
KINDS = {
    "text": ("transfusion", ("image=null", "train.rows=2", "train.budget=40")),
    "diffusion": ("transfusion", ("train.rows=3", "image.patcher.name=unet")),
    "codes": ("chameleon", ("train.rows=2",)),
}


def check(kind: str, ranks: int, steps: int, folder: Path) -> None:
    name, settings = KINDS[kind]
    if ranks == 1:
        each = [every_step(ALONE, str(folder), steps, settings, name)]
    else:
        each = together(ranks, PROGRAM.format("every_step"), str(folder), steps, settings, name)
    for pairs in each:
        assert len(pairs) == steps
        for step, (straight, again) in enumerate(pairs):
            assert again == straight, f"gone on after step {step}"


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("kind", ["diffusion"])
def test_from_every_step_the_same_bits(kind: str, ranks: int, tmp_path: Path) -> None:
    check(kind, ranks, 6, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_from_every_step_of_sixty_the_same_bits(kind: str, ranks: int, tmp_path: Path) -> None:
    check(kind, ranks, 60, tmp_path)


def test_other_numbers_of_ranks_go_on_with_the_same_run(tmp_path: Path) -> None:
    """2 ranks, then 1, then 3: what they begin with is what the others left, they read on where those stopped, and
    measure what one process measures that never stopped."""
    settings = ["train.steps=12", "train.rows=4", "train.ema=0.9"]
    straight = go_on(ALONE, str(tmp_path / "straight"), 12, settings, True)
    two = together(2, PROGRAM.format("go_on"), str(tmp_path / "run"), 4, settings, True)
    run = RunFolder(tmp_path / "run")
    files = sorted(path.name for path in run.checkpoint.folder.iterdir())
    assert files == [
        *(f"shard-{rank:05}-model-{kind:05}-of-00003.safetensors" for rank in (1, 2) for kind in (1, 2, 3)),
        "state.json",
    ]
    recipe, _ = checkpoints.load(run.path, Plugins.load(disabled=["adapters", "lab"]))
    assert recipe.train.keep_last == 2
    export(run, tmp_path / "whole")
    with pytest.raises(TransfuseError, match="holds something already"):
        export(run, tmp_path / "whole")
    exported = RunFolder(tmp_path / "whole").checkpoint
    assert sorted(exported.state["files"]) == [
        "ema.safetensors",
        "model.safetensors",
        "optimizer.safetensors",
    ]
    for kind in exported.state["files"]:
        assert same(exported.tensors(kind), run.checkpoint.tensors(kind))
    one = go_on(ALONE, str(tmp_path / "run"), 4, settings)
    three = together(3, PROGRAM.format("go_on"), str(tmp_path / "run"), 4, settings)
    assert {here["sums"] for here in three} == {one["after"]}
    assert one["sums"] == two[0]["after"] == two[1]["after"]
    assert (one["step"], three[0]["step"]) == (4, 8)
    read = [*two[0]["documents"], *one["documents"], *three[0]["documents"]]
    assert read == straight["documents"]
    for there, here in zip(
        straight["steps"], [*two[0]["steps"], *one["steps"], *three[0]["steps"]], strict=True
    ):
        assert here == pytest.approx(there, rel=1e-5)
    for mine in three:
        assert mine["steps"] == three[0]["steps"]
    spoil(run)
    with pytest.warns(UserWarning, match=r"is damaged.*going on from step 8, which is whole"):
        found = sound_checkpoint(RunFolder(run.path), ALONE)
    assert found.state["step"] == 8
    assert together(3, PROGRAM.format("go_on"), str(tmp_path / "run"), 0, settings)[0]["step"] == 8


def spoil(run: RunFolder) -> None:
    """One bit of a rank's piece."""
    (piece,) = RunFolder(run.path).sound_checkpoint().folder.glob("shard-00002-model-00002-*")
    data = bytearray(piece.read_bytes())
    data[-3] ^= 1
    piece.write_bytes(data)
