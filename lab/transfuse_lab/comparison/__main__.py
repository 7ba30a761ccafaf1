"""A worker: one job of a comparison in a process of its own, which ends when its parent does.

``python -P -m transfuse_lab.comparison JOB.json``; what it has to say, and where in the code an error arose, goes to
standard output. Its standard input has nothing to say: it is held open by the parent, and its end is the parent's.
"""

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from transfuse_lab.comparison.jobs import PATIENCE
from transfuse_lab.runs.interrupts import obey_as_ctrl_c


def end_with_parent() -> None:
    """Once standard input ends, the same as Ctrl-C; and after `PATIENCE` seconds the end in any case."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    from transfuse.errors import TransfuseError
    from transfuse.files import read_json

    from transfuse_lab.progress import complain
    from transfuse_lab.visible import print_whatever_comes

    print_whatever_comes()
    try:
        obey_as_ctrl_c()
        end_with_parent()
        from transfuse_lab.comparison.worker import work

        work(read_json(Path(sys.argv[1]), "job"))
    except TransfuseError as error:
        complain("".join(traceback.format_exception(error.__cause__ or error)).strip())
        complain(f"error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
