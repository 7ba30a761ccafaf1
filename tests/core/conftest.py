"""What tests of the core share: tiny modalities fit once a run."""

import pytest

from tests.tiny.models import Kit


@pytest.fixture(scope="session")
def kit() -> Kit:
    """Builds small models of the real plugins."""
    return Kit()
