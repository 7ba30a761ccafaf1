"""`transfuse data`: data sets are built from the packages they come in, and packed into stores."""

from pathlib import Path

from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.registry.plugins import Plugins

from transfuse_lab.commands.account import report_account
from transfuse_lab.datasets import open_data, open_section
from transfuse_lab.datasets.opening import STORE_SUFFIX
from transfuse_lab.lock import locked_beside
from transfuse_lab.output_paths import check_folder

BUILT = ("emoji",)  # data sets that are fetched and built once; the others are at hand


def build(name: str, out: Path | None) -> Path:
    """Builds a data set into the cache folder, or into ``out``, and returns the file.

    Raises TransfuseError where it is none that is built, cannot be fetched, or cannot be written.
    """
    if name not in BUILT:
        raise TransfuseError(
            f"data build {name!r}: there is no such data set to build; {did_you_mean(name, BUILT)}"
        )
    from transfuse_lab.datasets.emoji.build import build_emoji

    if out is not None:
        check_folder("--out", out)

    return build_emoji(out)


def pack(name: str, out: str | Path, plugins: Plugins) -> DataSet:
    """Packs the data set that ``--data NAME`` means into a new store at ``out``, and opens it, verified.

    Raises TransfuseError where the data set is not there, ``out`` does not end in ``.zarr``, or a
    finished store or anything else lies there already.
    """
    if Path(out).suffix != STORE_SUFFIX:
        raise TransfuseError(f"--out {str(out)!r}: a store's name ends in {STORE_SUFFIX}")
    check_folder("--out", Path(out))
    source = open_data(name, plugins)
    report_account(source)
    with locked_beside(Path(out)):
        return open_section({"name": "store", "path": str(out)}, plugins, source=source)
