"""Runs and codecs on disk: safetensors and JSON, each written whole or not at all.

Imports the model and what builds it; training writes here, and whoever uses a trained model reads.
"""

from pathlib import Path

from transfuse.checkpoints.checkpoint import Checkpoint as Checkpoint
from transfuse.checkpoints.codecs import check_provenance as check_provenance
from transfuse.checkpoints.codecs import has_codecs as has_codecs
from transfuse.checkpoints.codecs import provenance as provenance
from transfuse.checkpoints.codecs import restore_codecs as restore_codecs
from transfuse.checkpoints.codecs import save_codecs as save_codecs
from transfuse.checkpoints.run_folder import RunFolder as RunFolder
from transfuse.config.recipe import Recipe
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins


def load(folder: Path | str, plugins: Plugins | None = None) -> tuple[Recipe, Model]:
    """A run's recipe and its trained model, in evaluation mode; with the averaged weights where there are some.

    plugins: those that are installed, unless given. Raises TransfuseError naming the file of the run that
    is missing, damaged or of another model.
    """
    return RunFolder(Path(folder)).load(plugins or Plugins.load())
