"""What every test of the core shares: one thread, and tiny modalities fit once a run."""

import pytest
import torch

from tests.core import tiny


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def kit() -> tiny.Kit:
    """Builds small models of the real plugins."""
    return tiny.Kit()
