"""Packages of plugins outside the tree, as if they were installed: on the path, with their entry points."""

import os
import tomllib
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[1] / "packages"


def install(package: str | Path, into: Path, patch: pytest.MonkeyPatch) -> None:
    """A folder, or one of `PACKAGES` by name, as an installed distribution, here and in processes started from here.

    Its description is made in ``into``. Until ``patch`` is undone.
    """
    source = PACKAGES / package
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    facts = into / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    facts.mkdir(parents=True, exist_ok=True)
    (facts / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {module}" for name, module in points.items()))
    ]
    (facts / "entry_points.txt").write_text("\n".join(lines))
    for folder in (into, source):
        patch.syspath_prepend(folder)
    path = os.pathsep.join([str(into), str(source), os.environ.get("PYTHONPATH", "")])
    patch.setenv("PYTHONPATH", path.rstrip(os.pathsep))
