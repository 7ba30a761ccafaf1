from . import masks as masks
from .attention import attend as attend
from .checkpoints import load as load
from .datasets import DataSet as DataSet
from .documents import Document as Document
from .documents import Item as Item
from .errors import TransfuseError as TransfuseError
from .generation.decoding import generate as generate
from .model.build import build as build
from .model.model import Model as Model
from .registry import Registry as Registry
from .sequences.batch import collate as collate
from .sequences.packing import Packer as Packer
from .training.trainer import Trainer as Trainer

__version__: str
