"""Progress: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from transfuse_lab.visible import visible_line, visible_lines

SECONDS = 5  # between two lines


class Bar(Protocol):
    """How far a long job has come, as it is shown."""

    def update(self, share: float, note: str) -> None:
        """``share`` of the job done, from 0 to 1."""
        ...


class Lines:
    """A line when another tenth is done, at most one every ``SECONDS``: a short job shows none."""

    def __init__(self, title: str) -> None:
        self.title, self.tenth, self.start = title, 0, time.monotonic()
        self.last = self.start

    def update(self, share: float, note: str) -> None:
        now, tenth = time.monotonic(), int(share * 10)
        if tenth > self.tenth and now - self.last >= SECONDS:
            self.tenth, self.last = tenth, now
            say(f"{self.title}: {share:4.0%} after {now - self.start:.0f} s  {note}")


class Unseen:
    """Of a process that shows nothing, for another does."""

    def update(self, share: float, note: str) -> None:
        return


class RichBar:
    def __init__(self, progress, task) -> None:
        self.progress, self.task = progress, task

    def update(self, share: float, note: str) -> None:
        self.progress.update(self.task, completed=share, note=visible_line(note))


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """A bar of one job, drawn where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield Lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"),
               TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield RichBar(progress, progress.add_task(title, total=1.0, note=""))


def say(line: str) -> None:
    """One plain line on standard output, at once."""
    print(visible_line(line), flush=True)


def complain(text: str) -> None:
    """An error on standard error; its further lines are set in."""
    print(visible_lines(text), file=sys.stderr)
