"""`transfuse data pack`: a data set, packed once into a store that opens fast and shows any damage."""

from pathlib import Path

from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.plugins import Plugins

from transfuse_lab.data import STORE_SUFFIX, open_data


def pack(name: str, out: str | Path, plugins: Plugins) -> DataSet:
    """Packs the data set that ``--data NAME`` means into a new store at ``out``, and opens it, verified.

    Raises TransfuseError where the data set is not there, ``out`` does not end in ``.zarr``, or a
    finished store or anything else lies there already.
    """
    if Path(out).suffix != STORE_SUFFIX:
        raise TransfuseError(f"--out {str(out)!r}: a store's name ends in {STORE_SUFFIX}")
    store = plugins.choose("dataset", {"name": "store", "path": str(out)}, place="data")
    return store.build(source=open_data(name, plugins))
