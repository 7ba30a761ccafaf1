"""All that is read of what others wrote, and how to try it: each target has its inputs and the reader they go to.

A reader may answer, or raise TransfuseError; whatever else it raises is a fault of ours. Inputs are near what we write
ourselves (a piece cut, doubled, or put there), or of the right form with any values, and carry a right checksum where
files carry one: what is behind the checksum is tried too.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st
from PIL import Image
from transfuse import masks
from transfuse.checkpoints import Checkpoint, RunFolder
from transfuse.config.recipe import Recipe
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.files import read_checked, write_checked
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse.training import Trainer
from transfuse_adapters.store import manifests
from transfuse_adapters.store.places import place_of
from transfuse_lab.commands.document_files import DocumentFiles
from transfuse_lab.datasets.folder import Folder
from transfuse_lab.datasets.interleaved import Interleaved

from tests.fuzz.inputs import altered, leaves, near, places_in, put, trees, words
from tests.tiny.datasets import Shapes
from tests.tiny.models import Kit
from tests.tiny.recipes import overrides

MASK = (
    "same le lt delta table where full none q k doc idx span mod image ( ) , = . [ ] & | ~ lo= hi= key= 3 -1"
)


@dataclass(frozen=True)
class Target:
    """Inputs, and what reads one; it may write into the folder."""

    inputs: Any
    read: Callable[[Path, Any], object]


# -- settings


@cache
def installed() -> Plugins:
    return Plugins.load(disabled=["adapters", "lab"])


@cache
def packaged() -> Registry:
    return Registry.load(installed(), [packaged_file()])


def read_registry(folder: Path, text: str) -> None:
    path = folder / "fuzz.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    registry = Registry.load(installed(), [SMALL, path])
    for fault in registry.faults():
        assert str(fault)
    for recipe in registry.names("recipes"):
        with suppress(TransfuseError):
            registry.recipe(recipe, ["train.steps=3"])


def read_sets(folder: Path, given: list[str]) -> None:
    recipe = packaged().recipe("transfusion", given)
    assert Recipe.from_dump(recipe.dump(), installed()) == recipe


registries = st.fixed_dictionaries(
    {},
    optional={
        "modalities": st.dictionaries(words, trees, max_size=3),
        "masks": st.dictionaries(words, leaves, max_size=2),
        "recipes": st.dictionaries(words, trees, max_size=3),
        "plugins": trees,
    },
)
keys = st.lists(words | st.text(max_size=4), min_size=1, max_size=4).map(".".join)
values = st.text(max_size=12) | trees.map(
    lambda tree: yaml.safe_dump(tree, default_flow_style=True, allow_unicode=True)
)
sets = st.lists(st.text(max_size=20) | st.tuples(keys, values).map("=".join), min_size=1, max_size=4)
SMALL = Path(__file__).parents[1] / "registry" / "small.yaml"
written = (trees | registries).map(lambda tree: yaml.safe_dump(tree, allow_unicode=True))


# -- masks


def read_mask(folder: Path, text: str) -> None:
    mask = masks.parse(text)
    assert masks.parse(str(mask)) == mask


mask_texts = near(
    "same(doc) & (le(idx) | same(span))",
    "where(q.image, delta(idx, lo=-3, hi=2), ~k.text) | table(mod, [[1, 0], [0, 1]])",
    parts=tuple(MASK.split()),
)
tokens = st.lists(st.sampled_from(MASK.split()) | st.text(max_size=2), max_size=30).map(" ".join)


# -- stores


def manifest_of(kind: Any) -> dict[str, Any]:
    splits = {"train": 3, "test": 1}
    plan = {"name": "few", "splits": splits, "reversed_share": 0.5, "origin": {"name": "few"}, "parts": 2}
    array = {"shape": [4], "dtype": "uint8", "chunk": 4, "shard": 1, "zstd": False, "sums": "00000000"}
    return {
        manifests.Plan: plan,
        manifests.Part: {
            "plan": "0" * 64, "number": 0, "of": 2, "splits": splits, "content": "0" * 64,
            "stored": [{"name": "text", "kind": "text", "dtype": "uint8"}], "arrays": {"data_text": array},
            "files": {"data_text/c/0": [4, "0" * 64]},
        },
        manifests.Manifest: {
            **plan, "content": "0" * 64, "codec_files": {"codecs.json": [2, "0" * 64]},
            "entries": [{"folder": "part-000000", "check": "0" * 64, "splits": splits}],
        },
    }[kind]  # fmt: skip


MANIFESTS: Mapping[str, Any] = {
    kind.__name__: kind for kind in (manifests.Plan, manifests.Part, manifests.Manifest)
}


def read_manifest(folder: Path, given: tuple[str, Any]) -> None:
    """Its checksum is right where it can have one."""
    name, value = given
    kind = MANIFESTS[name]
    body = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, dict):
        with suppress(Exception):
            body = manifests.written(kind.model_validate(value)).decode()
    (folder / "fuzz.json").write_bytes(body.encode("utf-8", "surrogatepass"))
    manifests.read(place_of(str(folder)), "fuzz.json", kind, "pack it again")


manifest_inputs = st.one_of(
    *(
        st.tuples(st.just(name), altered(manifest_of(kind)) | near(json.dumps(manifest_of(kind))))
        for name, kind in MANIFESTS.items()
    )
)


# -- runs


@cache
def run_of(home: Path) -> tuple[Trainer, RunFolder, dict[str, Any]]:
    """A tiny run of one step, and the JSON files of its folder."""
    from transfuse.model.build import build

    data, recipe = (
        Shapes(train=4),
        packaged().recipe("transfusion", overrides("transfusion", "train.ema=0.9")),
    )
    trainer = Trainer(recipe, build(recipe, data, installed(), lambda line: None), data)
    run = RunFolder(home / "run")
    run.write_description(recipe, trainer.model)
    trainer.step()
    trainer.save(run)
    files = {
        "modalities.json": read_checked(run.description_file, "run"),
        "state.json": read_checked(run.checkpoint.folder / "state.json", "run"),
    }
    return trainer, run, files


def read_run(folder: Path, given: tuple[str, str, Any]) -> None:
    """A run's description, or a checkpoint's state, with a right checksum where it is a mapping; then the run is opened
    and gone on with."""
    trainer, run, files = run_of(folder.parent)
    name, how, drawn = given
    value = _change(files[name], how, drawn)
    path = run.path / name if name == "modalities.json" else run.path / "checkpoints" / "1" / name
    try:
        if isinstance(value, dict):
            write_checked(path, value)
        else:
            path.write_text(json.dumps(value))
        fresh = RunFolder(run.path)
        if name == "modalities.json":
            fresh.build_model(trainer.recipe, installed())
        else:
            trainer.resume(Checkpoint.read(path.parent))
            trainer.state()
    finally:
        write_checked(path, files[name])


def _change(value: dict[str, Any], how: str, drawn: tuple[int, Any]) -> Any:
    places = list(places_in(value))
    number, new = drawn
    return put(value, places[number % len(places)], new, how)


run_inputs = st.tuples(
    st.sampled_from(["modalities.json", "state.json"]),
    st.sampled_from(["instead", "without", "beside"]),
    st.tuples(st.integers(0, 10_000), trees),
)


# -- documents


@cache
def kit_model() -> Any:
    return Kit().model()


def read_document(folder: Path, text: str) -> None:
    path = folder / "document.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    model = kit_model()
    model.layout.prompt(DocumentFiles(model.modalities, ("text",)).read(path))


def read_listing(folder: Path, given: tuple[str, str]) -> None:
    """A folder's ``documents.jsonl`` or ``captions.jsonl``, beside one picture."""
    name, text = given
    if not (folder / "a.png").is_file():
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "a.png")
    path = folder / name
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        data = Interleaved(folder) if name.startswith("documents") else Folder(folder)
        for index in range(data.size("train")):
            data.document("train", index)
    finally:
        path.unlink()


def read_item(folder: Path, given: tuple[str, Any, tuple[bool, bool, bool]]) -> None:
    """An item of a data set in Python, whose data may be anything."""
    role, data, (loss, noised, droppable) = given
    kit_model().layout.sequence(Document((Item(role, data, loss, noised, droppable),)))


DOCUMENT = json.dumps([{"text": "a cat"}, {"image": "a.png", "droppable": True}])
LINES = {
    "documents.jsonl": '{"items": [{"text": "a cat"}, {"image": "a.png", "noised": false}], "split": "train"}\n',
    "captions.jsonl": '{"image": "a.png", "caption": "a cat", "split": "train"}\n',
}
document_words = st.sampled_from(
    ["text", "image", "droppable", "loss", "noised", "items", "split", "train", "a.png"]
)
document_trees = st.recursive(
    document_words | leaves,
    lambda inner: st.dictionaries(document_words, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=12,
)
documents = (
    near(DOCUMENT) | st.lists(document_trees, max_size=3).map(json.dumps) | document_trees.map(json.dumps)
)
listings = st.one_of(
    *(
        st.tuples(st.just(name), near(line, line * 2) | document_trees.map(json.dumps))
        for name, line in LINES.items()
    )
)
kinds = st.sampled_from(["float32", "float64", "int64", "uint8", "bool", "complex64", "object"])
numbers = st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf"), 300.0])


def array(given: tuple[str, list[int], float]) -> np.ndarray:
    kind, shape, number = given
    with np.errstate(all="ignore"):
        return np.full(shape, number).astype(kind)


arrays = st.tuples(kinds, st.lists(st.integers(0, 8), max_size=4), numbers).map(array)
items = st.tuples(
    st.sampled_from(["text", "image", "nobody"]),
    arrays | trees | st.text() | st.binary(max_size=8),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)


TARGETS: Mapping[str, Target] = {
    "registry.yaml": Target(written | near(SMALL.read_text(), packaged_file().read_text()), read_registry),
    "--set": Target(sets, read_sets),
    "mask": Target(mask_texts | tokens | st.text(max_size=40), read_mask),
    "manifest": Target(manifest_inputs, read_manifest),
    "checkpoint": Target(run_inputs, read_run),
    "document.json": Target(documents, read_document),
    "listing": Target(listings, read_listing),
    "item": Target(items, read_item),
}
