"""Trackers of other systems: numbers with units, samples as text and pictures; what they need is imported on use."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins
from transfuse.training.tracker import Drawn, Measured
from transfuse_lab.runs.tracking import open_trackers

PICTURE = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU"
    b"\x00\x00\x00\nIDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82"
)
TOLD = {"loss_text": Measured(2.5, "nats a token"), "lr": Measured(0.1, "1")}
SAMPLES = [Drawn("text->image", ("a `cat`",), PICTURE), Drawn("image->text", (PICTURE,), "<b>dog</b>")]


def fake_tensorboard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    told: list[tuple[Any, ...]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            told.append(("open", Path(folder).name))

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *given, **named: told.append((name, *given))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return told


def test_tensorboard(tmp_path: Path, installed: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    told = fake_tensorboard(monkeypatch)
    (tracker,) = open_trackers(["tensorboard;folder=curves"], tmp_path, installed)
    tracker.describe({"name": "r"})
    tracker.log(3, TOLD)
    tracker.show(3, SAMPLES)
    tracker.close()
    assert told[0] == ("open", "curves")
    assert ("add_scalar", "loss_text (nats a token)", 2.5, 3) in told
    assert ("add_scalar", "lr", 0.1, 3) in told
    (picture,) = [one for one in told if one[0] == "add_image"]
    assert picture[2].shape == (1, 1, 3)
    texts = [one[2] for one in told if one[0] == "add_text" and "text" in one[1]]
    assert texts == ["`a 'cat'`", "`<b>dog</b>`"], "as text, whatever a caption holds"
    assert told[-1][0] == "close"


def test_wandb(tmp_path: Path, installed: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[Any, ...]] = []
    config: dict[str, Any] = {}
    run = SimpleNamespace(
        log=lambda values, step: logged.append((step, values)),
        finish=lambda: logged.append(("end",)),
        config=SimpleNamespace(update=lambda values, allow_val_change: config.update(values)),
    )
    began: dict[str, Any] = {}

    class Table:
        def __init__(self, columns: list[str]) -> None:
            self.rows: list[Any] = []

        def add_data(self, *cells: Any) -> None:
            self.rows.append(cells)

    module = ModuleType("wandb")
    module.init = lambda **given: began.update(given) or run  # type: ignore[attr-defined]
    module.Table, module.Image = Table, lambda picture: picture.size  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    (tracker,) = open_trackers(["wandb;project=mine"], tmp_path, installed)
    tracker.log(3, TOLD)
    tracker.log(4, TOLD)
    tracker.show(4, SAMPLES)
    tracker.close()
    assert (began["project"], began["mode"], began["dir"]) == ("mine", "offline", str(tmp_path))
    assert config["units"] == {"loss_text": "nats a token", "lr": "1"}
    assert logged[0] == (3, {"loss_text": 2.5, "lr": 0.1})
    assert [row[2] for row in logged[2][1]["samples"].rows] == [(1, 1), "<b>dog</b>"]
    assert logged[-1] == ("end",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tensorbord", r"did you mean 'tensorboard'"),
        ("tensorboard;folder", r"'folder' is no setting: write NAME;setting=value"),
        (
            "tensorboard",
            r"^tracker 'tensorboard' needs torch.utils.tensorboard .*: pip install 'transfuse\[trackers\]'",
        ),
        ("wandb", r"^tracker 'wandb' needs wandb .*: pip install 'transfuse\[trackers\]'"),
    ],
)
def test_what_cannot_be(
    text: str, fault: str, tmp_path: Path, installed: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch.utils.tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TransfuseError, match=fault):
        open_trackers([text], tmp_path, installed)
