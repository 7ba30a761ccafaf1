"""The commands of `transfuse data` that are about packed stores: pack, info, verify, merge, split."""

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfuse.datasets import ENDLESS, DataSet
from transfuse.errors import TransfuseError
from transfuse.registry import Registry
from transfuse.registry.plugins import Plugins

from transfuse_lab.commands.account import report_account
from transfuse_lab.datasets import open_data
from transfuse_lab.datasets.opening import STORE_SUFFIX, is_address
from transfuse_lab.device import AUTO, open_device
from transfuse_lab.lock import locked_beside
from transfuse_lab.output_paths import check_folder
from transfuse_lab.progress import bar, say
from transfuse_lab.tables import print_table

CODECS = "codecs"


@dataclass(frozen=True)
class Encoding:
    """How documents are encoded: by the modalities of a recipe, with the codecs in a folder (None: fit for it)."""

    registry: Registry
    recipe: str
    overrides: tuple[str, ...] = ()
    codecs: Path | None = None
    device: str = AUTO


def read_part(text: str | None) -> tuple[int | None, int | None]:
    """``3/8``: which part, from 1 on, as its number from 0 on, and of how many.

    >>> read_part("3/8"), read_part(None)
    ((2, 8), (None, None))
    """
    if text is None:
        return None, None
    found = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise TransfuseError(f"--part {text!r}: write which part of how many, such as 1/8")
    return int(found[1]) - 1, int(found[2])


def pack(
    name: str,
    out: str | Path,
    plugins: Plugins,
    *,
    part: int | None = None,
    parts: int | None = None,
    encoding: Encoding | None = None,
) -> bool:
    """Packs the data set that ``--data NAME`` means into a store, or goes on with it; whether that is finished now.

    part: only this one of ``parts``. Raises TransfuseError where the data set is not there or has no end, ``out``
    does not end in ``.zarr``, another store or anything else lies there already, or a codec refuses an item.
    """
    from transfuse_adapters.store import writer

    if Path(str(out)).suffix != STORE_SUFFIX:
        raise TransfuseError(f"--out {str(out)!r}: a store's name ends in {STORE_SUFFIX}")
    if not is_address(str(out)):
        check_folder("--out", Path(out))
    source = open_data(name, plugins)
    if ENDLESS in map(source.size, source.splits):
        raise TransfuseError(
            f"data set {source.name!r} has no end, so no store holds it: train on it by its name"
        )
    report_account(source)
    encoder, codecs = (None, {}) if encoding is None else _encoder(encoding, source, out, part is not None)
    with _shown(f"pack {source.name}") as along:
        return writer.pack(
            source,
            out,
            encoder,
            codecs=codecs,
            parts=parts,
            part=part,
            progress=lambda done, of: along(done / of, f"{done:,} of {of:,} documents"),
            lock=_lock(out),
        )


def _lock(out: str | Path) -> Callable[[str], Any]:
    """One process a part; at an address nobody can be kept away."""
    if is_address(str(out)):
        return lambda name: nullcontext()
    path = Path(out)
    return lambda name: locked_beside(path.with_name(f"{path.name}.{name}"))


def _encoder(
    encoding: Encoding, data: DataSet, out: str | Path, one_part: bool
) -> tuple[Any, Mapping[str, bytes]]:
    """What encodes, and the files of its codecs, which the store is to hold."""
    from transfuse.checkpoints import has_codecs, provenance, save_codecs
    from transfuse.datasets import restrict
    from transfuse.files import write_json
    from transfuse_adapters.store import writer
    from transfuse_adapters.store.encoding import Encoder
    from transfuse_adapters.store.places import place_of

    from transfuse_lab.runs.codecs import SECONDS, fit_codecs, fit_from
    from transfuse_lab.runs.stored import of_folder
    from transfuse_lab.runs.survey import survey

    device, registry = open_device(encoding.device), encoding.registry
    recipe = registry.recipe(encoding.recipe, encoding.overrides, data.name)
    home = None if is_address(str(out)) else Path(out) / CODECS
    chosen = encoding.codecs or (home if home is not None and has_codecs(home) else None)
    if chosen is None and (one_part or home is None):
        raise TransfuseError(
            "--codecs is missing: all parts, and what is packed to an address, are encoded by the codecs in a folder; "
            "make it by `transfuse train-codec`"
        )
    files: dict[str, bytes] = {}
    if chosen is None:
        assert home is not None
        writer.check_new(place_of(out))
        surveyed = survey(recipe, data, say)
        with locked_beside(Path(out)):
            modalities = fit_codecs(surveyed.recipe, data, home, say, device)
    else:
        recipe, modalities = of_folder(recipe, chosen, registry.plugins)
        fit_to = fit_from(chosen).get("data", {}) if has_codecs(chosen) else data.identity()
        with tempfile.TemporaryDirectory() as folder:
            save_codecs(Path(folder), modalities, provenance(recipe, fit_to))
            write_json(Path(folder) / SECONDS, 0.0)
            files = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
    for lack in restrict(data, modalities).lacks():
        say(f"{data.name}: no training document has an item of role {lack}")
    return Encoder({role: modality.to(device) for role, modality in modalities.items()}), files


def info(path: str) -> None:
    """Prints what a store holds."""
    from transfuse_adapters.store import tools

    print_table(("what", "value"), tools.info(path))


def verify(path: str, sample: int | None) -> None:
    """Prints every fault of a store, each with the file it is in. Raises TransfuseError where there are any."""
    from transfuse_adapters.store import tools

    with _shown(f"verify {Path(path).name}") as along:
        found = list(tools.faults(path, sample, along))
    for fault in found:
        say(fault)
    if found:
        raise TransfuseError(f"store {path}: {len(found)} faults")
    say(
        f"store {path}: {'all that was looked at' if sample is not None else 'everything'} is as it was written"
    )


def merge(paths: Sequence[str], out: str) -> None:
    """One store of several."""
    from transfuse_adapters.store import tools

    _check_out(out)
    with _shown("merge") as along, _whole(out):
        plan = tools.merge(paths, out, along)
    say(f"merged {len(paths)} stores into {out}: {tools.in_words(plan.splits)} documents")


def split(path: str, into: int, out: str) -> None:
    """Several stores of one, called ``OUT-1-of-3.zarr`` where ``out`` is ``OUT.zarr``."""
    from transfuse_adapters.store import tools

    _check_out(out)
    outs = [f"{out.removesuffix(STORE_SUFFIX)}-{i + 1}-of-{into}{STORE_SUFFIX}" for i in range(into)]
    with _shown("split") as along, _whole(out):
        tools.split(path, into, outs, along)
    say(f"split {path} into {', '.join(outs)}")


def _check_out(out: str) -> None:
    if Path(out).suffix != STORE_SUFFIX:
        raise TransfuseError(f"--out {out!r}: a store's name ends in {STORE_SUFFIX}")
    if not is_address(out):
        check_folder("--out", Path(out))


def _whole(out: str) -> Any:
    return nullcontext() if is_address(out) else locked_beside(Path(out))


@contextmanager
def _shown(title: str) -> Iterator[Callable[[float, str], None]]:
    """A bar, told at most ten times a second; off a terminal its lines say how long is left."""
    began = last = time.monotonic()
    with bar(title) as shown:

        def along(share: float, note: str) -> None:
            nonlocal last
            if (now := time.monotonic()) - last > 0.1 or share >= 1:
                last = now
                left = (now - began) * (1 - share) / share if share else 0.0
                shown.update(share, f"{note}, {left:.0f} s left")

        yield along
