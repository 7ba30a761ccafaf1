"""Ctrl-C, SIGTERM and SIGHUP mean one thing: finish the step, save and end. A second one ends at once. SIGUSR1, by
which a scheduler warns: save and go on.

A handler may run between any two lines, those of another handler among them: it takes no lock, and writes
past every buffer.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SAVE = getattr(signal, "SIGUSR1", None)
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """What was heard since training began.

    heard: whether a signal came. A second one raises KeyboardInterrupt where it comes. asked: whether one asked for a
    checkpoint alone; who saves one takes it back.
    """

    heard = asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if number == SAVE:
            self.asked = True
            tell(f"\n{signal.Signals(number).name} heard: saving after this step, and going on")
            return
        if self.heard:
            raise KeyboardInterrupt
        self.heard = True
        tell(f"\n{signal.Signals(number).name} heard: saving after this step; once more ends at once")


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Signals are noted instead of obeyed, so that a step is never left half done. In the main thread alone."""
    heard = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    asking = [] if SAVE is None else [SAVE]
    before = {name: signal.signal(name, heard) for name in [*_wanted(), *asking]}
    try:
        yield heard
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def obey_as_ctrl_c() -> None:
    """From here on each of the signals raises KeyboardInterrupt in the main thread, as Ctrl-C does."""
    for name in _wanted():
        signal.signal(name, signal.default_int_handler)


def tell(line: str) -> None:
    """A line on the process's standard error, where there still is one: a closed terminal is no fault."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())


def _wanted() -> list[signal.Signals]:
    """All but those that the process was started to ignore, as nohup has it ignore SIGHUP."""
    return [name for name in SIGNALS if name == signal.SIGINT or signal.getsignal(name) != signal.SIG_IGN]
