"""Models of the real plugins for tests of training."""

import pytest

from tests.tiny.models import Kit


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()
