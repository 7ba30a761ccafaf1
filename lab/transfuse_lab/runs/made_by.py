"""What a figure depends on besides its recipe and seed: the code, the processor, libraries; unlike runs do not mix."""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import GROUP

MADE_BY = "made_by"
ROOMS = ("datasets", "evaluation", "runs")
"""Of the lab, all that a figure may depend on."""
FLAGS = "avx|amx|fma|f16c|sse4|asimd|sve|bf16|i8mm"
TOLD = ("commit", "threads")
"""What is told of a run and may differ: records are committed while runs go on, and workers have a thread each."""


@cache
def made_by() -> dict[str, Any]:
    """Of this process. code: a hash of all files that take part. processor: with what torch uses of it. flags: the
    instructions for vectors and matrices that it has."""
    return {
        "code": _code(),
        "commit": _commit(),
        "processor": _processor(),
        "flags": _flags(),
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in ("torch", "numpy")},
    }


def check_alike(made: Mapping[str, Mapping[str, Any]], cure: str) -> None:
    """made: by a run's name, what made it. Raises TransfuseError naming two that differ, and in what."""
    (first, one), *others = made.items() or [("", {})]
    for name, other in others:
        unlike = [key for key in {**one, **other} if key not in TOLD and one.get(key) != other.get(key)]
        if unlike:
            said = "; ".join(f"{key} {one.get(key)} against {other.get(key)}" for key in sorted(unlike))
            raise TransfuseError(f"{first} and {name} are unlike and are not compared: {said}: {cure}")


def _code() -> str:
    plugins = {entry.value.partition(":")[0].partition(".")[0] for entry in entry_points(group=GROUP)}
    digest = hashlib.blake2b(digest_size=8)
    for package in sorted({"transfuse", "transfuse_lab", *plugins}):
        spec = find_spec(package)
        for folder in sorted(spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(folder).rglob("*.py")):
                inside = path.relative_to(folder)
                if package != "transfuse_lab" or inside.parts[0] in ROOMS:
                    digest.update(f"\0{package}/{inside.as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _commit() -> str:
    """That the tree is at which the code is in, where it is in one of git's."""
    for folder in Path(__file__).resolve().parents:
        git = folder / ".git"
        if git.is_file():  # of a work tree beside the first
            git = Path(git.read_text(encoding="utf-8").partition("gitdir:")[2].strip())
        if (git / "HEAD").is_file():
            return _resolved(git)
    return "unknown"


def _resolved(git: Path) -> str:
    kind, _, name = (git / "HEAD").read_text(encoding="utf-8").strip().partition("ref: ")
    if not name:
        return kind
    common = git / "commondir"
    home = (git / common.read_text(encoding="utf-8").strip()) if common.is_file() else git
    if (home / name).is_file():
        return (home / name).read_text(encoding="utf-8").strip()
    packed = home / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), "unknown")


def _processor() -> str:
    """Its model and the instructions that torch uses of it."""
    import platform

    model = _cpuinfo("model name") or platform.processor() or platform.machine()
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


def _flags() -> str:
    words = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return " ".join(sorted(word for word in words if re.match(FLAGS, word)))


def _cpuinfo(key: str) -> str:
    """The first line of a key in what Linux tells of its processors; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key)
    return next(found, "")
