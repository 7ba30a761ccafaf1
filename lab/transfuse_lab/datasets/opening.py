"""Where documents come from: `--data` takes a data set's name, a folder of your own or a packed store."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transfuse.config import yaml_text
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.registry.plugins import Plugins

from transfuse_lab.datasets.captions import LISTING as CAPTIONS
from transfuse_lab.datasets.captions import LISTINGS
from transfuse_lab.datasets.interleaved import LISTING as DOCUMENTS

STORE_SUFFIX = ".zarr"
STORE_FILES = ("manifest.json", "zarr.json")  # what tells a store's folder from a folder of images


def open_data(text: str, plugins: Plugins, settings: Mapping[str, Any] | None = None) -> DataSet:
    """The data set that ``--data TEXT`` means.

    text: the name of an offered data set (``digits``), else the path or address of a store (a folder that ends in
    ``.zarr`` or holds a store's files), else of interleaved documents (a ``.jsonl`` file, or a folder that
    holds ``documents.jsonl``), else of a folder of captioned images, or its listing of captions. ``./digits``
    is always a path, and ``~`` the user's home.
    Its settings may follow: ``pets;size=32;channels=1``.
    settings: the same as a mapping; they win.
    Raises TransfuseError, with the nearest name, where it is none of these.
    """
    return open_section(data_section(text, plugins, settings), plugins)


def open_section(section: Mapping[str, Any], plugins: Plugins, place: str = "data", **given: Any) -> DataSet:
    """The data set of a section such as ``{"name": "digits"}``: what `data_section` made, or a run has kept.

    place: what messages call the section. given: what a data set is built from besides, as a store is from
    its ``source``. Raises TransfuseError where it is not there or damaged.
    """
    return plugins.choose("dataset", section, place, DataSet).build(**given)


def data_section(text: str, plugins: Plugins, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The section that ``--data TEXT`` stands for: ``{"name": "folder", "path": "/home/me/pets"}``.

    Paths are absolute, so that the section means the same from anywhere.
    """
    text, given = (text, {}) if os.path.exists(_path(text)) else _with_settings(text)
    given |= settings or {}
    if is_address(text):
        return {"name": "store", "path": text, **given}
    names = plugins.parts("dataset")
    path = _path(text)
    if text in names:
        if isinstance(given.get("of"), Mapping):  # a mixture's
            given["of"] = {_anywhere(key, names): share for key, share in given["of"].items()}
        return {"name": text, **given}
    if not text or not os.path.exists(path):
        raise TransfuseError(
            f"--data {text!r:.200} is neither a data set nor a folder or store; {did_you_mean(text, names)}"
        )
    where = {"path": str(path.resolve()), **given}
    if path.suffix == STORE_SUFFIX or all((path / name).is_file() for name in STORE_FILES):
        return {"name": "store", **where}
    captions, documents = path / CAPTIONS, path / DOCUMENTS
    if documents.is_file() and captions.is_file():
        raise TransfuseError(
            f"--data {text!r} holds both {CAPTIONS} and {DOCUMENTS}; write --data '{captions}' for the first, "
            f"--data '{documents}' for the second"
        )
    if path.is_dir():
        return {"name": "interleaved" if documents.is_file() else "folder", **where}
    if path.name in LISTINGS:
        return {"name": "folder", **where, "path": str(path.resolve().parent)}
    if path.suffix == ".jsonl":
        return {"name": "interleaved", **where}
    raise TransfuseError(f"--data {text!r} is a file, not a folder; {did_you_mean(text, names)}")


def _anywhere(text: str, names: Collection[str]) -> str:
    """What ``--data`` takes, so that it means the same from any folder."""
    is_name = text.partition(";")[0] in names or is_address(text) or not os.path.exists(_path(text))
    return text if is_name else str(_path(text).resolve())


def is_address(text: str) -> bool:
    """Whether it is a store's address for fsspec, such as ``s3://bucket/pets.zarr``, and no path."""
    return "://" in text


def _path(text: str) -> Path:
    """The path that a text means: in quotes, as a semicolon needs them, no shell replaces ``~``."""
    return Path(text if os.path.exists(text) else os.path.expanduser(text))


def _with_settings(text: str) -> tuple[str, dict[str, Any]]:
    """What stands before the first semicolon, and the settings behind it."""
    text, *pairs = text.split(";")
    given: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals or key in given:
            raise TransfuseError(f"--data: {pair!r} is no setting, or is given twice; write {text};key=value")
        given[key] = yaml_text.read(value, f"--data {key}")[0]
    return text, given
