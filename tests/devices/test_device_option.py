"""``--device``: what it may say, that it is checked before anything is made, and one job a GPU."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transfuse.errors import TransfuseError
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join
from transfuse.training.optimizer import optimizer_tensors, restore_optimizer
from transfuse_lab.comparison import jobs
from transfuse_lab.comparison.settings import ComparisonSettings
from transfuse_lab.device import check_device, open_device, open_devices

from tests.tiny.datasets import Shapes


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """As if torch saw so many GPUs."""

    def see(count: int, built: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
        monkeypatch.setattr(torch.version, "cuda", "13.0" if built else None)

    return see


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "", "cuda:²", "mps"])
def test_another_word_is_refused(text: str) -> None:
    with pytest.raises(TransfuseError, match=r"--device .*: write auto, cpu, cuda, or cuda:1"):
        check_device(text)


@pytest.mark.parametrize(
    ("text", "count", "first", "every"),
    [
        ("auto", 0, "cpu", []),
        ("cpu", 0, "cpu", []),
        ("cpu", 2, "cpu", []),
        ("auto", 2, "cuda:0", ["cuda:0", "cuda:1"]),
        ("cuda", 2, "cuda:0", ["cuda:0", "cuda:1"]),
        ("cuda:1", 2, "cuda:1", ["cuda:1"]),
    ],
)
def test_the_device(
    gpus: Callable, capsys: pytest.CaptureFixture, text: str, count: int, first: str, every: list[str]
) -> None:
    gpus(count)
    assert open_devices(text) == every
    assert open_device(text) == torch.device(first)
    said = capsys.readouterr().out
    assert said == (f"device: {first} (GPU {first[-1]})\n" if first != "cpu" else "")


@pytest.mark.parametrize(
    ("text", "count", "built", "why"),
    [
        ("cuda", 0, False, r"sees no CUDA device: torch .* is built without CUDA; install one that is .*, or leave"),
        ("cuda:1", 0, True, r"sees no CUDA device: it finds no GPU or no driver that fits .*, or leave --device out"),
        ("cuda:2", 2, True, r"--device cuda:2: torch sees cuda:0, cuda:1 and no other"),
    ],
)  # fmt: skip
def test_one_that_is_not_there_is_one_line(
    gpus: Callable, text: str, count: int, built: bool, why: str
) -> None:
    gpus(count, built)
    with pytest.raises(TransfuseError, match=why) as error:
        open_device(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "command",
    [
        ("train", "transfusion", "--data", "digits", "--out", "new"),
        ("train", "transfusion", "--data", "digits", "--dry-run"),
        ("sample", "new"),
        ("eval", "new"),
        ("compare", "transfusion", "--data", "digits", "--out", "new"),
    ],
)
def test_it_is_checked_before_anything_is_made(
    gpus: Callable, cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    gpus(0)
    monkeypatch.chdir(tmp_path)
    for text, said in (("cuda", "torch sees no CUDA device"), ("gpu", "write auto, cpu")):
        told = cli(*command, "--device", text)
        assert told.exit_code == 2
        assert told.stderr.startswith("error: --device")
        assert said in told.stderr
    assert not list(tmp_path.iterdir())


def test_a_comparisons_command_says_the_device() -> None:
    settings = ComparisonSettings(("a",), "digits", (0,), Path("out"), device="cuda:1")
    assert settings.command.endswith("--out out --device cuda:1")


def test_each_job_has_a_device_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "note.py"
    package.parent.mkdir()
    package.write_text(
        textwrap.dedent("""
        import json, sys, time
        job = json.load(open(sys.argv[1]))
        began = time.time()
        time.sleep(0.5)
        json.dump([job["device"], began, time.time()], open(sys.argv[1] + ".done", "w"))
    """)
    )
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setattr(jobs, "WORKER", "note")
    work = [jobs.Job(name, tmp_path / name, {}) for name in "abcd"]
    jobs.run_all(work, lambda active, done: None, ["cuda:0", "cuda:1"])
    found = [json.loads((job.folder / "job.json.done").read_text()) for job in work]
    assert {device for device, *_ in found} == {"cuda:0", "cuda:1"}
    for device in ("cuda:0", "cuda:1"):
        times = sorted((began, ended) for one, began, ended in found if one == device)
        assert len(times) == 2
        assert times[0][1] <= times[1][0]


# -- what goes where


def test_a_batch_goes_there_and_what_is_asked_of_it_stays(small_recipe: Callable, fitted: Callable) -> None:
    model: Model = fitted(small_recipe(), Shapes(), effort=0.0)
    row = join([model.layout.sequence(Shapes().document("train", i)) for i in range(2)])
    moved = collate(row, model.modalities, Key(0)).to("meta")
    assert {t.device.type for t in (moved.tokens, moved.positions, moved.predicted, moved.targets)} == {
        "meta"
    }
    (group,) = moved.groups
    assert {t.device.type for t in (group.index, group.x_t, group.t, group.target)} == {"meta"}
    assert group.loss.all()
    assert set(moved.scored) == {0}


def test_an_optimizers_moments_go_where_the_weights_are() -> None:
    here, there = nn.Linear(2, 3), nn.Linear(2, 3, device="meta")
    optimizer = torch.optim.AdamW(here.parameters())
    here(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    restored = torch.optim.AdamW(there.parameters())
    restore_optimizer(there, restored, optimizer_tensors(here, optimizer))
    for state in restored.state.values():
        assert (state["exp_avg"].device.type, state["exp_avg_sq"].device.type) == ("meta", "meta")
        assert state["step"] == 1  # AdamW counts on the CPU
