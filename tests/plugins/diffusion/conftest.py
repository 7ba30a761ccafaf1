"""Objectives and samplers by name, from the diffusion plugin alone: nothing here needs a picture."""

from collections.abc import Callable

import pytest
from transfuse.modalities.objective import Sampler
from transfuse.registry.plugins import Plugins
from transfuse_diffusion.objective import Diffusion


@pytest.fixture(scope="session")
def diffusion() -> Plugins:
    return Plugins.load(only=["diffusion"])


@pytest.fixture(scope="session")
def make_objective(diffusion: Plugins) -> Callable[..., Diffusion]:
    """``make_objective("flow", target="x0")``."""
    return lambda name, **more: diffusion.choose("objective", {"name": name, **more}, "objective").build()


@pytest.fixture(scope="session")
def make_sampler(diffusion: Plugins) -> Callable[..., Sampler]:
    """``make_sampler("ddim", eta=0.5)``."""
    return lambda name, **more: diffusion.choose("sampler", {"name": name, **more}, "sampler").build()
