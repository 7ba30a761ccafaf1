"""What a bug report needs and what is wrong here: versions, threads, plugins, kernels, files, packages."""

import os
import platform
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from transfuse.errors import TransfuseError
from transfuse.registry import Registry
from transfuse.registry.files import standard_files
from transfuse.registry.plugins import PluginWarning

from transfuse_lab.progress import say
from transfuse_lab.tables import print_table

REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)[^;]*(;.*extra *== *['\"](?P<extra>\w+)['\"])?")


@dataclass(frozen=True)
class Finding:
    """A line of the report. fault: whether somebody should do something about it."""

    topic: str
    name: str
    text: str
    fault: bool = False


def examine(registry: Path | None = None) -> list[Finding]:
    """Everything, with the extra registry file that ``--registry`` would read."""
    findings = [*_machine(), *_packages()]
    try:
        files = standard_files(registry)
        findings += [
            Finding("registry", str(path), "read" if path.is_file() else "missing") for path in files
        ]
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", PluginWarning)
            loaded = Registry.load(None, files)
    except TransfuseError as error:
        return [*findings, Finding("registry", "does not load", str(error), fault=True)]
    findings += [
        Finding(
            "plugin", row.plugin.name, ", ".join(row.provides) or row.reason, fault=row.status == "broken"
        )
        for row in loaded.plugins.listing()
    ]
    shown = {str(error) for error in loaded.plugins.broken}
    other = {str(warning.message) for warning in warned} - shown
    findings += [Finding("plugin", "warning", text, fault=True) for text in sorted(other)]
    findings += [Finding("registry", "fault", str(error), fault=True) for error in loaded.faults()]
    return [*findings, *_attention(loaded)]


def doctor_command(registry: Path | None) -> int:
    """Prints the findings; returns how many are faults."""
    findings = examine(registry)
    rows = [(f.topic, f.name, f"{'FAULT: ' if f.fault else ''}{f.text}") for f in findings]
    print_table(("topic", "name", "what there is"), rows)
    faults = sum(finding.fault for finding in findings)
    say("all is well" if not faults else f"{faults} fault{'s' if faults > 1 else ''} to look at")
    return faults


def examine_command(run: Path, registry: Path | None) -> int:
    """Prints what is wrong with a run; returns how many things."""
    from transfuse_lab.runs.examination import examine_run

    found = examine_run(run, Registry.open(registry).plugins)
    if found:
        print_table(("what", "where, and what to do"), [(one.name, one.text) for one in found])
    say(
        f"{run}: nothing is wrong that shows in its log, its state or its data"
        if not found
        else f"{run}: {len(found)} to look at"
    )
    return len(found)


def _machine() -> Iterator[Finding]:
    import torch

    yield Finding("machine", "system", platform.platform())
    yield Finding("machine", "python", platform.python_version())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("machine", "cores", f"{cores} for this process, {os.cpu_count()} in all")
    yield Finding("machine", "torch threads", str(torch.get_num_threads()))
    yield Finding("machine", "OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "not set"))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    yield Finding("machine", "GPU", gpu)


def _packages() -> Iterator[Finding]:
    """The distributions that pyproject.toml asks for, always or for an extra."""
    own = _installed("transfuse")
    yield Finding("package", "transfuse", own or "not installed as a package")
    extras: dict[str, str | None] = {}
    for requirement in requires("transfuse") or [] if own else []:
        if match := REQUIREMENT.match(requirement):
            extras.setdefault(match["name"], match["extra"])
    for name in sorted(extras.keys() - {"transfuse"}, key=str.lower):
        found, extra = _installed(name), extras[name]
        cure = f"not installed; pip install 'transfuse[{extra}]' brings it" if extra else "not installed"
        yield Finding("package", name, found or cure, fault=found is None and extra is None)


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _attention(registry: Registry) -> Iterable[Finding]:
    from transfuse.attention import BUILT_IN

    offered = {
        name: part.summary or "from a plugin" for name, part in registry.plugins.parts("attention").items()
    }
    backends = {**dict.fromkeys(BUILT_IN, "in core"), **offered}
    return [Finding("attention", name, says) for name, says in backends.items()]
