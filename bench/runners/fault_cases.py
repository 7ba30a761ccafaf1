"""The commands that bench/faults.py kills and whose folders it damages, and what of a folder is looked at."""

import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transfuse.checkpoints import RunFolder, restore_codecs
from transfuse.checkpoints.checkpoint import MODEL, OPTIMIZER
from transfuse.config.recipe import Recipe
from transfuse.errors import TransfuseError
from transfuse.model.build import build_modalities
from transfuse.registry import Registry
from transfuse_adapters.store.manifests import PLAN
from transfuse_adapters.store.reader import Store
from transfuse_adapters.store.tools import faults
from transfuse_lab.runs.examination import examine_run

DATA = "digits"
TINY = ("--set", "model.dim=32", "--set", "model.layers=1", "--set", "model.heads=2",
        "--set", "train.save_every=0", "--set", "text.vocab=280", "--device", "cpu")  # fmt: skip
STEPS = ("--set", "train.steps=6")
PIXELS = ("--set", "image.codec=pixel", "--set", "image.patcher.patch=4")
CODEC = ("--set", "image.codec.steps=12", "--set", "image.codec.width=8", "--set", "image.codec.batch=8")


@dataclass
class Case:
    """A command and its folder.

    arguments: of the command line, given the folder. finished: of a folder that a kill left, how many records are
    whole, opened and looked at. bits: what must be equal in the end, by name. verified, read: the faults of a finished
    folder, as verifying in full, and as using it, tell them. skipped: files that use does not read. damaged: those
    that are; of a run its description and its newest checkpoint, which the 6th step left.
    """

    name: str
    arguments: Callable[[Path], Sequence[str]]
    finished: Callable[[Path], int]
    bits: Callable[[Path], dict[str, Any]]
    verified: Callable[[Path], list[str]]
    read: Callable[[Path], list[str]]
    skipped: re.Pattern[str] = field(default=re.compile(r"(?!)"))
    damaged: re.Pattern[str] = field(default=re.compile(r".*"))
    ranks: int = 1
    weight: int = 2


def said(action: Callable[[], object]) -> list[str]:
    """What an action complains of: warnings, and the error it ends in."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = []
        try:
            action()
        except TransfuseError as error:
            found.append(str(error))
        except Exception as error:  # names nothing, whatever it says
            found.append(f"a {type(error).__name__}, which is none of ours")
    return found + [str(one.message) for one in caught]


def files_of(folder: Path) -> dict[str, Path]:
    """All that lie there whole, without locks and what a killed writer was at."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    left = re.compile(r"\.partial$|(^|/)\.(lock|owner)$")
    return {name: path for name, path in sorted(found.items()) if not left.search(name)}


# -- stores


def finished_parts(folder: Path) -> int:
    """Parts that have a manifest, each of their documents read and compared."""
    if not (folder / PLAN).exists():
        return 0
    store = Store(folder, partial=True)
    store.verify()
    return len(store._parts)


def read_store(folder: Path) -> None:
    store = Store(folder)
    for split in store.splits:
        for index in range(store.size(split)):
            store.document(split, index)


PACK = Case(
    "pack",
    lambda folder: ("data", "pack", DATA, "--out", str(folder), "--parts", "6"),
    finished_parts,
    lambda folder: {name: path.read_bytes() for name, path in files_of(folder).items()},
    lambda folder: list(faults(folder)),
    lambda folder: said(lambda: read_store(folder)),
    re.compile(r"zarr\.json$|plan\.json$"),
)

# -- runs and codecs


def finished_steps(folder: Path) -> int:
    """Steps of the newest checkpoint, opened, and its log not shorter than it."""
    run = RunFolder(folder)
    if not run.description_file.is_file() or not run.latest:
        return 0
    step = run.sound_checkpoint().state["progress"]["step"]
    lines = run.metrics_file.read_text().splitlines() if run.metrics_file.is_file() else []
    if len(lines) < step:
        raise TransfuseError(f"{folder}: {step} steps are saved, and {len(lines)} are logged")
    return step


def run_bits(folder: Path) -> dict[str, Any]:
    run = RunFolder(folder)
    found: dict[str, Any] = {}
    for name in (MODEL, OPTIMIZER):
        found |= {
            f"{name} {key}": value.numpy().tobytes() for key, value in run.checkpoint.tensors(name).items()
        }
    return found | {"metrics": run.metrics_file.read_text(), "recipe": run.recipe_file.read_text()}


def use_run(folder: Path) -> None:
    run = RunFolder(folder)
    recipe, _ = run.load(Registry.open().plugins)
    run.sound_checkpoint()
    if not recipe.modalities:
        raise TransfuseError(f"{run.recipe_file}: holds no modality")


def examined(folder: Path) -> list[str]:
    """What `transfuse doctor RUN` says."""
    found: list[str] = []
    complaints = said(
        lambda: found.extend(str(one.text) for one in examine_run(folder, Registry.open().plugins))
    )
    return found + complaints


TRAIN = Case(
    "train",
    lambda folder: ("train", "transfusion", "--data", DATA, *TINY, *STEPS, *PIXELS, "--out", str(folder)),
    finished_steps,
    run_bits,
    examined,
    lambda folder: said(lambda: use_run(folder)),
    re.compile(r"metrics\.jsonl$"),
    re.compile(r"modalities\.json$|recipe\.json$|checkpoints/(6/.*|latest)$"),
)

# Pieces that two ranks save together.
CHECKPOINT = replace(
    TRAIN,
    name="checkpoint",
    arguments=lambda folder: (*TRAIN.arguments(folder), "--set", "train.rows=2"),
    ranks=2,
)


def codec_recipe() -> Recipe:
    words = [word for word in (*TINY, *STEPS, *CODEC) if "=" in word]
    return Registry.open().recipe("transfusion", words, DATA)


def finished_codecs(folder: Path) -> int:
    """One, if a complete set lies there, opened."""
    if not (folder / "codecs.json").is_file():
        return 0
    restore_codecs(folder, build_modalities(codec_recipe()))
    return 1


def codec_bits(folder: Path) -> dict[str, Any]:
    told = json.loads((folder / "codecs.json").read_text())
    return {"facts": told["modalities"]} | {
        f"{path.name} {name}": value.numpy().tobytes()
        for path in sorted(folder.glob("*.safetensors"))
        for name, value in sorted(load_file(path).items())
    }


TRAIN_CODEC = Case(
    "train-codec",
    lambda folder: (
        "train-codec",
        "transfusion",
        "--data",
        DATA,
        *TINY,
        *STEPS,
        *CODEC,
        "--out",
        str(folder),
    ),
    finished_codecs,
    codec_bits,
    lambda folder: said(lambda: restore_codecs(folder, build_modalities(codec_recipe()))),
    lambda folder: said(lambda: restore_codecs(folder, build_modalities(codec_recipe()))),
    re.compile(r"$^"),
    re.compile(r"codecs\.json$|\.safetensors$"),
)


def finished_jobs(folder: Path) -> int:
    """Runs of a comparison whose records are there, opened."""
    found = list(folder.glob("runs/*/record.json"))
    for path in found:
        json.loads(path.read_text())
        finished_steps(path.parent)
    return len(found)


def compare_bits(folder: Path) -> dict[str, Any]:
    return {
        f"{path.name} {name}": value
        for path in sorted(folder.glob("runs/*"))
        if (path / "modalities.json").is_file()
        for name, value in run_bits(path).items()
    }


def each_run(look: Callable[[Path], list[str]], folder: Path) -> list[str]:
    return [f"{path.name}: {text}" for path in sorted(folder.glob("runs/*")) for text in look(path)]


COMPARE = Case(
    "compare",
    lambda folder: (
        *("compare", "transfusion", "--data", DATA, "--seeds", "0,1", *TINY, *PIXELS),
        *("--set", "train.flops=2e8", "--set", "eval.prompts=2", "--set", "eval.tasks=[image->text]"),
        *("--out", str(folder)),
    ),
    finished_jobs,
    compare_bits,
    partial(each_run, TRAIN.verified),
    partial(each_run, TRAIN.read),
    re.compile(r"metrics\.jsonl$|record\.json$|report|compare\.json|log"),
    re.compile(r"runs/[^/]*/(modalities\.json|recipe\.json|checkpoints/(5/.*|latest))$"),
    weight=1,  # each takes as long as five of the others
)

CASES = {case.name: case for case in (PACK, TRAIN, TRAIN_CODEC, CHECKPOINT, COMPARE)}
