"""What tests of the emoji share: the data set, built once from the real packages."""

import shutil
from pathlib import Path

import pytest
from transfuse_lab.datasets.emoji.build import build_emoji


@pytest.fixture(scope="session")
def emoji_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the emoji are built."""
    if shutil.which("npm") is None:
        pytest.skip("the emoji come in npm packages, and npm is not installed")
    return build_emoji(tmp_path_factory.mktemp("cache")).parent
