"""What `transfuse` and the tests do on a GPU, as commands: a comparison larger than a CPU can, and `make test-gpu`."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from stages.size import Figures, Size

ROOT = Path(__file__).parents[2]


def comparison(size: Size) -> Figures:
    """`transfuse compare` on digits with models larger than a CPU trains: what its report says."""
    with tempfile.TemporaryDirectory() as folder:
        sets = [word for one in size.compare for word in ("--set", one)]
        command = [
            sys.executable,
            "-c",
            "from transfuse_lab.cli import main; main()",
            "compare",
            "--data",
            "digits",
        ]
        command += ["--seeds", "0", "--out", folder, "--device", size.device, *sets]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        said = ran.stdout.splitlines()[-25:]
        if ran.returncode:
            return {"wrong": [f"exit {ran.returncode}"], "said": said, "error": ran.stderr[-2000:]}
        return {"said": said, "compare": json.loads((Path(folder) / "compare.json").read_text())}


def tests(size: Size) -> Figures:
    """The tests that `make test-gpu` runs."""
    where = ["tests/devices", "tests/gpu"] if size.device == "cuda" else ["tests/gpu"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *where, "-rs", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        "said": ran.stdout.splitlines()[-30:],
        "wrong": [f"exit {ran.returncode}"] if ran.returncode else [],
    }
