"""A function run by several processes at once, over gloo, as torchrun would start them."""

import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).parents[2]


def together(size: int, function: str, *arguments: Any) -> list[Any]:
    """What ``module:function(world, *arguments)`` returned on each rank; arguments and results are JSON."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        started = []
        for rank in range(size):
            environment = {
                **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
                "GLOO_SOCKET_IFNAME": "lo",
                "PYTHONPATH": os.pathsep.join([str(HOUSE), *sys.path]),
            }  # fmt: skip
            words = [sys.executable, "-m", "tests.tiny.together", folder, function, json.dumps(arguments)]
            started.append(
                subprocess.Popen(words, env=environment, cwd=HOUSE, stderr=subprocess.PIPE, text=True)
            )
        said = [one.communicate(timeout=600)[1] for one in started]
        failed = [text for one, text in zip(started, said, strict=True) if one.returncode]
        assert not failed, "\n".join(failed)
        return [json.loads((Path(folder) / str(rank)).read_text()) for rank in range(size)]


def main() -> None:
    import torch
    from transfuse.training.ranks import ranks

    folder, function, arguments = sys.argv[1:]
    module, _, name = function.partition(":")
    with ranks(torch.device("cpu")) as world:
        result = getattr(importlib.import_module(module), name)(world, *json.loads(arguments))
        Path(folder, str(world.rank)).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
