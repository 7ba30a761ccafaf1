"""A run's log, ``metrics.jsonl``: one line a step, each step once, in order."""

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from transfuse.files import write_text, writing
from transfuse.modalities.modality import Report


class Log:
    """The log of a run that trains: a line a step is added at its end. Raises TransfuseError where it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self.file = path.open("a", encoding="utf-8")

    def add(self, measured: dict[str, Any]) -> None:
        with writing(self.path):
            self.file.write(json.dumps(measured) + "\n")

    def sync(self) -> None:
        """All lines so far are on the disk."""
        with writing(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())

    def close(self) -> None:
        """What was not synced may be lost: its steps are done again."""
        with suppress(OSError):
            self.file.close()


class NoLog:
    """Of a process that writes none, for another does."""

    def add(self, measured: dict[str, Any]) -> None:
        return

    def sync(self) -> None:
        return

    def close(self) -> None:
        return


EVENTS = "events.jsonl"
"""What happened in a run, beside its log: steps that were skipped, losses that jumped."""


class Events:
    """A run's events, a line each, on the disk at once; the file is there from the first one on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, event: dict[str, Any]) -> None:
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        return


def read_events(path: Path, until: int) -> list[dict[str, Any]]:
    """The events up to a step, in order, each once though its step may have been done again."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for line in path.read_bytes().decode(errors="replace").split("\n") if path.is_file() else ():
        try:
            event = json.loads(line)
            if isinstance(event["step"], int) and event["step"] < until:
                found[event["step"], str(event["event"])] = event
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # a process died over it, or something else wrote it
    return [found[key] for key in sorted(found)]


def read_log(log: Path, until: int) -> list[dict[str, Any]]:
    """What was measured at each step up to ``until``, in order; what is no step's line is passed over."""
    return [measured for _, measured in _lines(log, until).values()]


def keep_until(log: Path, until: int, report: Report) -> None:
    """Leaves the lines of steps up to a checkpoint's: later ones are done again. Says which are missing.

    The file is replaced whole, and only where a line goes.
    """
    kept = _lines(log, until)
    text = "".join(f"{line}\n" for line, _ in kept.values())
    if log.is_file() and log.read_bytes() != text.encode():
        write_text(log, text)
    if len(kept) < until:
        first = next(step for step in range(1, until + 1) if step not in kept)
        report(
            f"{log} lacks {until - len(kept)} of the {until} steps so far, the first of them step {first}: "
            f"training goes on unharmed, and its curve has a gap there"
        )


def _lines(log: Path, until: int) -> dict[int, tuple[str, dict[str, Any]]]:
    """By step, in order: the line and what it says; the first line of a step counts."""
    found: dict[int, tuple[str, dict[str, Any]]] = {}
    text = log.read_bytes().decode(errors="replace") if log.is_file() else ""
    for line in text.split("\n"):
        measured = _measured(line)
        if measured is not None and 1 <= measured["step"] <= until:
            found.setdefault(measured["step"], (line, measured))
    return dict(sorted(found.items()))


def _measured(line: str) -> dict[str, Any] | None:
    """None where the line is not what a step writes: a process died over it, or something else wrote it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not {"step", "flops", "positions"} <= value.keys():
        return None
    numbers = all(type(each) in (int, float) for each in value.values())
    whole = type(value["step"]) is int and type(value["positions"]) is int
    return value if numbers and whole and math.isfinite(value["flops"]) else None
