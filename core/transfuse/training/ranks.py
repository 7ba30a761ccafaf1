"""The processes that train one model together, as torchrun starts them: who is who, and the sums over all of them.

    with ranks(torch.device("cpu")) as world:  # one process where torchrun started none
        trainer = Trainer(recipe, model, data, world)

Only the trainer, its sharding and its checkpoints know them: a plugin runs on one rank as it does alone.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from transfuse.errors import TransfuseError

PATIENCE = timedelta(days=7)
"""So long the others wait for rank 0, which may train codecs first."""


@dataclass(frozen=True)
class Ranks:
    """One process of ``size``, number ``rank``, on ``device``; without arguments the only one.

    waiting, saving: the groups of messages between processes, on CPUs whatever the device is: the trainer's, and those
    of checkpoints that are written meanwhile.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    waiting: Any = None
    saving: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and says what is written and said once."""
        return self.rank == 0

    def add(self, values: Tensor) -> Tensor:
        """The sums over all ranks, on the CPU in float64; every rank has the same bits."""
        if self.size == 1:
            return values.double().cpu()
        total = values.detach().double().cpu()
        dist.all_reduce(total, group=self.waiting)
        return total

    def from_first(self, value: Any) -> Any:
        """Rank 0's value, a JSON one, on every rank; what the others give is not looked at."""
        if self.size == 1:
            return value
        body = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        size = torch.tensor([len(body) if self.first else 0])
        dist.broadcast(size, 0, group=self.waiting)
        text = body if self.first else torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(text, 0, group=self.waiting)
        return json.loads(bytes(text.tolist()))

    def first_does(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns on rank 0, None elsewhere; the others wait, and end with it where it raises."""
        value, error = None, None
        if self.first:
            try:
                value = call()
            except TransfuseError as raised:
                error = raised
        failed = self.from_first(error is not None)
        if error is not None:
            raise error
        if failed:
            raise SystemExit(2)  # rank 0 says why
        return value

    def gathered(self, value: Any) -> list[Any]:
        """Every rank's value, a JSON one, in order of ranks, on every rank."""
        if self.size == 1:
            return [value]
        return [json.loads(body) for body in self.gathered_bytes(json.dumps(value).encode())]

    def gathered_bytes(self, body: bytes) -> list[bytes]:
        """The same of bytes, as many on each rank as it has."""
        if self.size == 1:
            return [body]
        sizes = self.add(torch.nn.functional.one_hot(torch.tensor(self.rank), self.size) * len(body))
        padded = torch.zeros(int(sizes.max()), dtype=torch.uint8)
        padded[: len(body)] = torch.frombuffer(bytearray(body), dtype=torch.uint8)
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded, group=self.waiting)
        return [one[: int(size)].numpy().tobytes() for one, size in zip(found, sizes, strict=True)]

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            dist.barrier(group=self.waiting)


ALONE = Ranks()


def started_by_torchrun(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several that torchrun started."""
    return int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment


@contextmanager
def ranks(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun started with this one: over NCCL on GPUs, one each, and gloo on CPUs.

    Raises TransfuseError where the process's number has no GPU.
    """
    if not started_by_torchrun():
        yield Ranks(device=device)
        return
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise TransfuseError(
                f"rank {os.environ['RANK']} is process {local} of its node, which has {torch.cuda.device_count()} "
                f"GPUs: start torchrun with --nproc-per-node {torch.cuda.device_count()}, or train with --device cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        groups = [dist.new_group(backend="gloo", timeout=PATIENCE) for _ in range(2)]
        yield Ranks(dist.get_rank(), dist.get_world_size(), device, *groups)
    finally:
        with suppress(Exception):  # a rank that fails leaves the others' sockets closed
            dist.destroy_process_group()
