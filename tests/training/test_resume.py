"""A run that is gone on with is the run that never stopped: bit for bit where as many ranks train, else to rounding."""

from pathlib import Path

import pytest
from transfuse import checkpoints
from transfuse.checkpoints import Checkpoint, RunFolder
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins
from transfuse.training import Trainer
from transfuse.training.ranks import ALONE
from transfuse.training.saving import export, sound_checkpoint

from tests.tiny.rank_programs import every_step, flip, go_on
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
    check(kind, ranks, 4, tmp_path)


@pytest.mark.parametrize("lost", ["exp_avg_sq", "step"])
def test_a_run_that_goes_on_without_all_of_the_optimizer_is_found(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer.resume

    def resume(trainer: Trainer, checkpoint: Checkpoint) -> None:
        whole(trainer, checkpoint)
        for state in trainer.optimizer.state.values():
            state[lost] = state[lost] + 1e-3

    monkeypatch.setattr(Trainer, "resume", resume)
    with pytest.raises(AssertionError, match="gone on after step"):
        check("diffusion", 1, 3, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_from_every_step_of_sixty_the_same_bits(kind: str, ranks: int, tmp_path: Path) -> None:
    check(kind, ranks, 60, tmp_path)


def test_other_numbers_of_ranks_go_on_with_the_same_run(tmp_path: Path) -> None:
    """1 rank, then 3, then 1: what they begin with is what the others left, they read on where those stopped, and
    measure what one process measures that never stopped."""
    settings = ["train.steps=12", "train.rows=4", "train.ema=0.9"]
    straight = go_on(ALONE, str(tmp_path / "straight"), 12, settings, True)
    first = go_on(ALONE, str(tmp_path / "run"), 4, settings, True)
    three = together(3, PROGRAM.format("go_on_and_fall_back"), str(tmp_path / "run"), 4, settings)
    assert [here["fallen_back_to"] for here in three] == [4, 4, 4]
    run = RunFolder(tmp_path / "run")
    with pytest.warns(UserWarning, match=r"is damaged.*going on from step 4, which is whole"):
        found = sound_checkpoint(run, ALONE)
    assert found.state["step"] == 4
    flip(run)  # back
    run = RunFolder(tmp_path / "run")
    files = sorted(path.name for path in run.checkpoint.folder.iterdir())
    assert files == [
        *(
            f"shard-{rank:05}-model-{kind:05}-of-00003.safetensors"
            for rank in (1, 2, 3)
            for kind in (1, 2, 3)
        ),
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
    assert {here["sums"] for here in three} == {first["after"]}
    assert {here["after"] for here in three} == {one["sums"]}
    assert (three[0]["step"], one["step"]) == (4, 8)
    assert [*first["documents"], *three[0]["documents"], *one["documents"]] == straight["documents"]
    for there, here in zip(
        straight["steps"], [*first["steps"], *three[0]["steps"], *one["steps"]], strict=True
    ):
        assert here == pytest.approx(there, rel=1e-5)
    for mine in three:
        assert mine["steps"] == three[0]["steps"]
