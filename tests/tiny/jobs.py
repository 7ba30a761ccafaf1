"""Jobs of a comparison done in the process of the test, one after another."""

import json
from pathlib import Path

from transfuse.registry import Registry
from transfuse_lab.comparison import worker


class Here:
    """A job that was done in this process, as if it had been started; ``started`` has their kinds."""

    returncode = 0
    started: list[str] = []  # noqa: RUF012

    def __init__(self, command: list[str], **_: object) -> None:
        work = json.loads(Path(command[-1]).read_text())
        self.started.append(work["kind"])
        {"fit": worker.fit, "run": worker.run}[work["kind"]](work, Registry.open())

    def poll(self) -> int:
        return 0
