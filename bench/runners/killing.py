"""A command in processes of its own that is killed when its time has come, or at the n-th of what it asks for."""

import builtins
import io
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from transfuse.checkpoints import weights
from transfuse_lab.cli import app


@dataclass
class Kill:
    """When a process kills itself: at the n-th of what it asks of the system under a folder, before or amid it; or
    after so many seconds (of its own clock) where ``at`` is 0. Counts into ``asked`` what it asked."""

    folder: Path
    at: int = 0
    seconds: float = 0.0
    asked: int = 0

    def ask(self, where: object, amid: Callable[[], object] = lambda: None) -> None:
        if not str(where).startswith(str(self.folder)):
            return
        self.asked += 1
        if self.asked == self.at:
            amid()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        opened, replaced, synced, saved = io.open, os.replace, os.fsync, weights.save_file

        def open_(file, mode="r", *args, **kwargs):
            if not isinstance(mode, str) or set(mode).isdisjoint("wax+"):
                return opened(file, mode, *args, **kwargs)
            self.ask(file)
            found = opened(file, mode, *args, **kwargs)
            write, kill = found.write, self

            class Guarded:
                def __getattr__(self, name):
                    return getattr(found, name)

                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    found.close()

                def __iter__(self):
                    return iter(found)

                def write(self, data):
                    kill.ask(file, lambda: (write(data[: len(data) // 2]), found.flush()))
                    return write(data)

            return Guarded()

        def replace(source, target, **kwargs):
            self.ask(target)
            replaced(source, target, **kwargs)

        def sync(handle):
            self.ask(os.readlink(f"/proc/self/fd/{handle}"))
            synced(handle)

        def save_file(tensors, path):
            self.ask(path, lambda: opened(path, "wb").write(b"half a file"))
            saved(tensors, path)

        io.open = builtins.open = open_  # type: ignore[assignment]
        os.replace, os.fsync = replace, sync  # type: ignore[assignment]
        weights.save_file = save_file
        if self.seconds:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, self.seconds)


def forked(
    arguments: Sequence[object], kill: Kill | None = None, log: Path | None = None, ranks: int = 1
) -> tuple[int, float, int]:
    """A command in a process of its own: its exit status (-9 where it was killed), seconds, and what it asked.

    ranks: that train together. The first counts what it asks; all are killed where one is, as with their machine.
    """
    reads, writes = os.pipe()
    began, port = time.monotonic(), free_port()
    running: dict[int, int] = {}
    for rank in range(ranks):
        child = os.fork()
        if not child:
            os.close(reads)
            if ranks > 1:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            _commanded(arguments, None if rank else kill, log if not rank else None, writes)
        running[child] = rank
    os.close(writes)
    found = [0] * ranks
    while running:
        child, waited = os.wait()
        found[running.pop(child)] = os.waitstatus_to_exitcode(waited)
        if os.waitstatus_to_exitcode(waited):
            for other in running:
                os.kill(other, signal.SIGKILL)
    asked = os.read(reads, 64)
    os.close(reads)
    return found[0] or max(found), time.monotonic() - began, int(asked or 0)


def _commanded(arguments: Sequence[object], kill: Kill | None, log: Path | None, writes: int) -> NoReturn:
    """Runs the command in this process, and ends it. writes: takes what it asked, of the process that counts."""
    status = 1
    try:
        out = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if kill is not None:
            kill.install()
        try:
            status = int(app(list(map(str, arguments)), standalone_mode=False) or 0)
        except SystemExit as ended:
            status = int(ended.code or 0)
    finally:
        if kill is not None:
            os.write(writes, str(kill.asked).encode())
        os._exit(status)


def free_port() -> int:
    """Of this machine, for ranks to meet at."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]
