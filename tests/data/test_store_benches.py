"""The benches of stores run, and write what they say they write."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize(
    ("cases", "kills", "damages"),
    [
        pytest.param("pack", 3, 10, marks=pytest.mark.slow),
        pytest.param("pack,train,train-codec,compare", 8, 40, marks=pytest.mark.slow),
    ],
)
def test_nothing_is_lost_and_nothing_stays_unsaid(
    tmp_path: Path, cases: str, kills: int, damages: int
) -> None:
    out = tmp_path / "faults.json"
    done = run("faults.py", "--cases", cases, "--kills", kills, "--corruptions", damages, "--json", out)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert (found["lost"], found["silent"], found["corruptions"]) == (0, 0, damages)
    assert 0 < found["kills"] <= kills


@pytest.mark.slow
def test_reading_is_measured_on_stores_of_both_kinds(tmp_path: Path) -> None:
    out = tmp_path / "store.json"
    done = run("store.py", "--only", "rate", "--megabytes", 4, "--json", out)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text()).keys() == {
        f"rate, {kind}" for kind in ("text and latents", "latents", "text", "short text")
    }
    done = run("store.py", "--only", "memory", "--sparse", 70_000, "--reads", 3000, "--json", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())["memory"]
    assert (found["documents"], found["reads"]) == (70_000, 3000)
    assert found["resident_bytes_late"] > 0
