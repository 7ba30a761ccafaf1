"""The n-th open, write, rename or sync of a run fails, for every n: one true line, and a folder that goes on."""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transfuse.checkpoints import RunFolder, weights
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins
from transfuse_lab.lock import locked
from transfuse_lab.runs.training import train

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
PARTS = 5  # of which all but one are slow
MOST = 200  # more of them than a run of three steps has


class Faults:
    """Counts what a run asks of the system under a folder, and refuses the n-th; None: nothing."""

    def __init__(self, folder: Path, fails: int | None) -> None:
        self.folder, self.fails, self.asked, self.refused = str(folder), fails, 0, ""

    def ask(self, what: str, where: object, fault: Exception = FULL) -> None:
        if not str(where).startswith(self.folder):
            return
        self.asked += 1
        if self.asked == self.fails:
            self.refused = f"{what} {where}"
            raise fault

    @contextmanager
    def installed(self) -> Iterator["Faults"]:
        opened, replaced, synced, made, saved = io.open, os.replace, os.fsync, os.mkdir, weights.save_file
        names: dict[int, object] = {}

        def open_(file, mode="r", *args, **kwargs):
            if not isinstance(mode, str) or set(mode).isdisjoint("wax+"):
                return opened(file, mode, *args, **kwargs)
            self.ask("open", file)
            found = opened(file, mode, *args, **kwargs)
            names[found.fileno()] = file
            write = found.write

            class Guarded:
                def __getattr__(inner, name):
                    return getattr(found, name)

                def __enter__(inner):
                    return inner

                def __exit__(inner, *_):
                    found.close()

                def write(inner, data):
                    self.ask("write", file)
                    return write(data)

            return Guarded()

        def replace(source, target):
            self.ask("rename", target)
            replaced(source, target)

        def sync(handle):
            place = os.readlink(f"/proc/self/fd/{handle}")
            self.ask("sync", place)
            synced(handle)

        def mkdir(path, *args, **kwargs):
            if not os.path.isdir(path):
                self.ask("mkdir", path)
            made(path, *args, **kwargs)

        def save_file(tensors, path):
            self.ask("write", path, SafetensorError("I/O error: No space left on device (os error 28)"))
            saved(tensors, path)

        with pytest.MonkeyPatch.context() as patch:
            for module, name, value in (
                (io, "open", open_), (os, "replace", replace), (os, "fsync", sync), (os, "mkdir", mkdir),
                (weights, "save_file", save_file),
            ):  # fmt: skip
                patch.setattr(module, name, value)
            yield self


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="which file is synced is read from /proc")
@pytest.mark.parametrize(
    "part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, PARTS))]
)
def test_the_nth_of_anything_fails_with_one_line_and_the_folder_goes_on(
    part: int, small_recipe: Callable[..., Recipe], shapes: Callable[..., DataSet], installed: Plugins, tmp_path: Path,
) -> None:  # fmt: skip
    recipe, data = small_recipe("transfusion", "train.steps=3", "train.save_every=0"), shapes(train=12)

    def run(folder: Path, fails: int | None = None) -> Faults:
        with Faults(folder, fails).installed() as faults, locked(folder):
            train(recipe, data, {"name": "shapes"}, folder, installed, report=lambda line: None)
        return faults

    whole = run(tmp_path / "whole")
    assert 20 < whole.asked < MOST
    wanted = load_file(RunFolder(tmp_path / "whole").checkpoint.folder / "model.safetensors")
    for n in range(1 + part, whole.asked + 1, PARTS):
        folder, faults = tmp_path / str(n), Faults(tmp_path / str(n), n)
        with pytest.raises(TransfuseError) as told, faults.installed(), locked(folder):
            train(recipe, data, {"name": "shapes"}, folder, installed, report=lambda line: None)
        message = str(told.value)
        assert faults.refused, message
        assert "\n" not in message
        assert "o space left on device" in message, faults.refused
        assert str(folder) in message
        run(folder)
        made = load_file(RunFolder(folder).checkpoint.folder / "model.safetensors")
        assert all(torch.equal(made[name], wanted[name]) for name in wanted), faults.refused
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
