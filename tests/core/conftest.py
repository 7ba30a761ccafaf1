"""What every test of the core shares: hypothesis without clocks, and tiny modalities fit once a run."""

import os

import pytest
import torch
from hypothesis import settings

from tests.core import tiny

settings.register_profile("core", deadline=None, max_examples=40, derandomize=bool(os.environ.get("CI")))
settings.load_profile("core")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def kit() -> tiny.Kit:
    """Builds small models of the real plugins."""
    return tiny.Kit()
