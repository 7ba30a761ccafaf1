"""A model of words and pictures of digits is given speech (docs/growing.md): it learns it, and forgets nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transfuse.checkpoints import load
from transfuse.errors import TransfuseError
from transfuse_lab.datasets.digits import Digits
from transfuse_lab.evaluation.losses import losses
from transfuse_lab.runs.records import load_record

from tests.tiny.packages import install

AUDIO = Path(__file__).parents[2] / "examples" / "audio"
OWN = "model.block={name: per-modality, own: [speech], start: copied}"


def digits_losses(run: str, ids: int | None = None) -> dict[str, float]:
    """Of held-out digits, by role; with the first so many ids alone."""
    digits = Digits()
    split = next(name for name in digits.splits if name != "train")
    held = [digits.document(split, i) for i in range(min(140, digits.size(split)))]
    _, model = load(run)
    model.predictable[ids or model.vocabulary.size :] = False
    found = losses(model, held)
    return {role: found[role].mean for role in ("text", "image")}


@pytest.mark.slow
def test_speech_is_learnt_and_old_losses_stay(
    cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(AUDIO, tmp_path / "site", monkeypatch)
    monkeypatch.chdir(tmp_path)
    from tf_speech.data import fetch

    try:
        fetch(Path("sounds"))
    except TransfuseError as error:
        pytest.skip(str(error))
    frozen = ("--set", "train.lr_scale.inherited=0", "--set", "train.lr_scale.vocabulary=20", "--set", OWN)
    commands = (
        ("train", "small-digits", "--data", "digits", "--out", "digits"),
        ("train", "spoken-digits", "--data", "spoken", "--from", "digits", "--out", "grown"),
        ("train", "spoken-digits", "--data", "spoken", "--from", "digits", "--out", "frozen", *frozen),
        ("eval", "grown", "--task", "speech->text", "--prompts", "50"),
    )
    for command in commands:
        done = cli(*command)
        assert done.exit_code == 0, (done.stderr, done.exception)
    before, after, frozen_after = (digits_losses(run) for run in ("digits", "grown", "frozen"))
    assert after["text"] < 1.01 * before["text"]
    assert after["image"] < 1.1 * before["image"]
    assert frozen_after["image"] == before["image"]
    assert frozen_after["text"] < 1.03 * before["text"]
    ids = load("digits")[1].vocabulary.size
    assert digits_losses("frozen", ids)["text"] == pytest.approx(before["text"], rel=1e-5)
    chance = 0.1  # ten words
    assert load_record(Path("grown/record.json")).metrics["caption_accuracy"] > 5 * chance
