"""Runs and codecs on disk: safetensors and JSON, each written whole or not at all.

Imports the model and what builds it.
"""

from transfuse.checkpoints.checkpoint import Checkpoint as Checkpoint
from transfuse.checkpoints.checkpoint import load as load
from transfuse.checkpoints.checkpoint import newest as newest
from transfuse.checkpoints.checkpoint import optimizer_tensors as optimizer_tensors
from transfuse.checkpoints.checkpoint import read_checkpoint as read_checkpoint
from transfuse.checkpoints.checkpoint import read_recipe as read_recipe
from transfuse.checkpoints.checkpoint import rebuild as rebuild
from transfuse.checkpoints.checkpoint import remains as remains
from transfuse.checkpoints.checkpoint import restore_codecs as restore_codecs
from transfuse.checkpoints.checkpoint import restore_ema as restore_ema
from transfuse.checkpoints.checkpoint import restore_optimizer as restore_optimizer
from transfuse.checkpoints.checkpoint import save_codecs as save_codecs
from transfuse.checkpoints.checkpoint import write_checkpoint as write_checkpoint
from transfuse.checkpoints.checkpoint import write_description as write_description
