"""What all tests share: one thread, how hard Hypothesis tries, a tiny data set, tiny recipes, models fit to it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

# Before torch is imported, and for the processes that tests start: equal runs have equal bits on equal threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if os.environ.get("ATEN_CPU_CAPABILITY") in (
    "default",
    "avx2",
):  # then the libraries that torch calls keep to it too
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    os.environ.setdefault("MKL_ENABLE_INSTRUCTIONS", "AVX2")

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.model.build import build_modalities, build_model, fit_modalities
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse_lab.cli import app
from typer.testing import CliRunner, Result

from tests.tiny import packages
from tests.tiny.datasets import Shapes
from tests.tiny.recipes import overrides

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
# The processes that tests start hear of a hang-up, also where tests run under nohup.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The same examples every run, and no clock: torch's first calls are slow. $EXAMPLES asks for so many, unshrunk.
asked = os.environ.get("EXAMPLES")
settings.register_profile(
    "transfuse",
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow,),
    derandomize=True,
    max_examples=int(asked or 100),
    phases=(Phase.explicit, Phase.generate) if asked else tuple(Phase),
)
settings.load_profile("transfuse")


@pytest.fixture(scope="session")
def shapes() -> type[Shapes]:
    return Shapes


@pytest.fixture(scope="session")
def installed() -> Plugins:
    """The plugins that come with transfuse."""
    return Plugins.load()


@pytest.fixture
def series_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the test runs, tests/packages/tf_series is an installed package, here and in processes it starts."""
    packages.install("tf_series", tmp_path / "site", monkeypatch)


@pytest.fixture(scope="session")
def series_plugins(tmp_path_factory: pytest.TempPathFactory) -> Plugins:
    """The plugins that come with transfuse, and that of tests/packages/tf_series."""
    with pytest.MonkeyPatch.context() as patch:
        packages.install("tf_series", tmp_path_factory.mktemp("site"), patch)
        return Plugins.load()


@pytest.fixture(scope="session")
def small_recipe(installed: Plugins) -> Callable[..., Recipe]:
    """``small_recipe("chameleon", "train.rows=2")``: a packaged recipe, made tiny (tests/tiny/recipes.py)."""
    registry = Registry.load(installed, [packaged_file()])

    def make(
        name: str = "transfusion", *more: str, pixels: bool = True, without: str | None = None
    ) -> Recipe:
        return registry.recipe(name, overrides(name, *more, pixels=pixels, without=without))

    return make


@pytest.fixture(scope="session")
def fitted(installed: Plugins) -> Callable[..., Model]:
    """``fitted(recipe, data)``: the recipe's untrained model, its codecs fit to the data."""

    def make(recipe: Recipe, data: DataSet, effort: float = 1.0) -> Model:
        modalities = fit_modalities(build_modalities(recipe), data, 0, lambda line: None, effort)
        return build_model(recipe, modalities, installed)

    return make


@pytest.fixture(scope="session")
def cli() -> Callable[..., Result]:
    """``cli("train", "transfusion", …)`` in this process."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
