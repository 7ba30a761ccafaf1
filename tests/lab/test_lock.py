"""One writer a folder: the second ends at once and is told who the first is; a dead one bars nobody."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins
from transfuse_lab.commands import stores
from transfuse_lab.datasets.emoji.build import build_emoji
from transfuse_lab.lock import locked, locked_beside

from tests.tiny.recipes import sets

HOLD = """
import sys, time
from pathlib import Path
from transfuse_lab import lock
with getattr(lock, sys.argv[1])(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(30)
"""


@pytest.fixture
def holder() -> Callable[[str, Path], subprocess.Popen]:
    """A process that holds a folder, or a name in one."""
    begun: list[subprocess.Popen] = []

    def hold(how: str, path: Path) -> subprocess.Popen:
        one = subprocess.Popen(
            [sys.executable, "-c", HOLD, how, str(path)], stdout=subprocess.PIPE, text=True
        )
        begun.append(one)
        assert one.stdout.readline() == "held\n"
        return one

    yield hold
    for one in begun:
        one.kill()
        one.communicate()


def told(path: Path, process: subprocess.Popen) -> str:
    return (
        f"{path} is being written by process {process.pid} on {socket.gethostname()}: "
        f"wait until it ends, stop it, or give another --out"
    )


@pytest.mark.parametrize(("how", "lock"), [("locked", locked), ("locked_beside", locked_beside)])
class TestTwo:
    def test_the_second_is_told_of_the_first(
        self, holder: Callable, tmp_path: Path, how: str, lock: Callable
    ) -> None:
        first = holder(how, tmp_path / "out")
        for _ in range(2):  # nor does being refused change what the next is told
            with pytest.raises(TransfuseError) as error, lock(tmp_path / "out"):
                pass
            assert str(error.value) == told(tmp_path / "out", first)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_the_lock_of_a_dead_one_is_taken_over(
        self, holder: Callable, tmp_path: Path, how: str, lock: Callable, number: int
    ) -> None:
        first = holder(how, tmp_path / "out")
        first.send_signal(number)
        first.wait()
        with lock(tmp_path / "out"):
            pass

    def test_nothing_is_left_behind(self, tmp_path: Path, how: str, lock: Callable) -> None:
        with lock(tmp_path / "out"):
            assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
        with lock(tmp_path / "out"):
            pass

    def test_an_owner_that_has_not_signed_yet(self, tmp_path: Path, how: str, lock: Callable) -> None:
        with lock(tmp_path / "out"):
            (owner,) = tmp_path.rglob("*.owner")
            owner.write_text("{")
            with (
                pytest.raises(TransfuseError, match="out is being written by another process: wait"),
                lock(tmp_path / "out"),
            ):
                pass


def test_who_waits_gets_it_when_it_is_free(tmp_path: Path) -> None:
    """Also where the file that it waits for is deleted on the way; and never two at once."""
    inside: list[int] = []
    most: list[int] = []

    def enter(number: int) -> None:
        for _ in range(20):
            with locked(tmp_path, wait=20):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 60


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere"
)
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with (
        pytest.raises(TransfuseError, match="cannot be written: Permission denied; give another --out"),
        locked(tmp_path),
    ):
        pass


class TestCommands:
    """Each that writes: held by another, it says so in one line and writes nothing."""

    @pytest.mark.parametrize("command", ["train", "train-codec", "compare"])
    def test_on_an_out_that_is_held(
        self, cli: Callable, holder: Callable, data_argument: str, tmp_path: Path, command: str
    ) -> None:
        out = tmp_path / "out"
        first = holder("locked", out)
        done = cli(command, "transfusion", "--data", data_argument, "--out", out, *sets())
        assert done.exit_code == 2
        assert done.stderr == f"error: {told(out, first)}\n"
        assert sorted(os.listdir(out)) == [".lock", ".owner"]

    def test_packing(self, holder: Callable, pictures: Path, installed: Plugins, tmp_path: Path) -> None:
        pytest.importorskip("zarr")
        out = tmp_path / "new" / "pictures.zarr"
        part = out.with_name(f"{out.name}.part-000000")
        first = holder("locked_beside", part)
        with pytest.raises(TransfuseError) as error:
            stores.pack(f"{pictures};channels=1", out, installed)
        assert str(error.value) == told(part, first)
        assert not list(out.glob("part-*"))
        first.kill()
        first.wait()
        assert stores.pack(f"{pictures};channels=1", out, installed)
        assert os.listdir(out.parent) == [out.name]

    def test_building(self, holder: Callable, tmp_path: Path) -> None:
        first = holder("locked", tmp_path)
        with pytest.raises(TransfuseError) as error:
            build_emoji(tmp_path)
        assert str(error.value) == told(tmp_path, first)
