"""A run's log: each step once and in order, replaced whole and only where a line goes; a gap is said."""

import json
from pathlib import Path

import pytest
from transfuse_lab.runs.log import keep_until, read_log


def line(step: int, **more: object) -> str:
    return json.dumps({"step": step, "flops": 10.0 * step, "positions": step, "loss_text": 0.5, **more})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


@pytest.fixture
def said() -> list[str]:
    return []


def written(log: Path, *lines: str) -> None:
    log.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")


WHOLE = [line(1), line(2), line(3)]


@pytest.mark.parametrize(
    "lines",
    [
        [*WHOLE, line(4), line(5)],
        [*WHOLE, '{"step": 4, "flo'],
        [WHOLE[0], WHOLE[0], *WHOLE[1:]],
        [*WHOLE, line(2, loss_text=0.9)],
        [WHOLE[2], WHOLE[0], WHOLE[1]],
        ["", "null", "[]", "3", *WHOLE, '{"step": "x"}', '{"step": 2}', "[" * 9999],
        [line(0), line(-1), line(True), line(1.5), line(2, flops="x"), line(3, loss_text=None), *WHOLE],
        [line(1, positions=None), line(2, flops=float("inf")), *WHOLE],
    ],
)  # fmt: skip
def test_what_is_no_step_up_to_the_checkpoint_goes(log: Path, said: list[str], lines: list[str]) -> None:
    written(log, *lines)
    assert read_log(log, 3) == [json.loads(each) for each in WHOLE]
    keep_until(log, 3, said.append)
    assert log.read_text().splitlines() == WHOLE
    assert not said


def test_bytes_that_are_no_text_go(log: Path, said: list[str]) -> None:
    log.write_bytes(f"{WHOLE[0]}\n".encode() + b"\xff\xfe\n" + f"{WHOLE[1]}\n{WHOLE[2]}\n".encode())
    keep_until(log, 3, said.append)
    assert log.read_text().splitlines() == WHOLE


def test_a_loss_that_is_not_finite_is_a_measurement(log: Path, said: list[str]) -> None:
    lines = [line(1, loss_text=float("nan")), line(2, loss_text=float("inf"))]
    written(log, *lines)
    keep_until(log, 2, said.append)
    assert log.read_text().splitlines() == lines


def test_a_whole_log_is_not_written(log: Path, said: list[str]) -> None:
    written(log, *WHOLE)
    log.chmod(0o400)
    before = log.stat()
    keep_until(log, 3, said.append)
    assert log.stat() == before


def test_killed_while_it_is_replaced_the_log_is_whole(
    log: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any moment before the new text takes the old one's place, all of the old one is there."""

    def killed(*_: object) -> None:
        raise SystemExit

    written(log, *WHOLE)
    for moment in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"os.{moment}", killed)
            with pytest.raises(SystemExit):
                keep_until(log, 2, said.append)
        assert log.read_text().splitlines() == WHOLE


def test_what_is_missing_is_said_once_and_training_goes_on(log: Path, said: list[str]) -> None:
    written(log, line(1), line(4), line(6))
    keep_until(log, 5, said.append)
    assert log.read_text().splitlines() == [line(1), line(4)]
    assert said == [
        f"{log} lacks 3 of the 5 steps so far, the first of them step 2: training goes on unharmed, and its "
        f"curve has a gap there"
    ]


def test_a_log_that_is_gone(log: Path, said: list[str]) -> None:
    assert read_log(log, 5) == []
    keep_until(log, 0, said.append)
    assert not said
    keep_until(log, 5, said.append)
    assert said[0].startswith(f"{log} lacks 5 of the 5 steps")
    assert not log.exists()
