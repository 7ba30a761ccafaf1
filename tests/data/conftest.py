"""What tests of the emoji share: the data set, built once from the real packages."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from transfuse_lab.datasets.emoji.build import build_emoji


@pytest.fixture(scope="session")
def emoji_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the emoji are built: one for all of pytest-xdist's workers."""
    if shutil.which("npm") is None:
        pytest.skip("the emoji come in npm packages, and npm is not installed")
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with FileLock(shared / "emoji.lock"):
        return build_emoji(shared / "emoji").parent
