"""What contributors are told holds: hooks and CI run the same, constraints fit, packages are typed, one version."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def recipe(target: str) -> list[str]:
    """The commands of one of make's targets."""
    (body,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    return [line.strip() for line in body.splitlines()]


def test_pre_commit_runs_what_make_lint_runs_and_fetches_nothing() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (local,) = config["repos"]
    assert local["repo"] == "local"
    assert {hook["language"] for hook in local["hooks"]} == {"system"}
    own = [re.sub(r"\$\(BIN\)/| --pythonpath \S+", "", line) for line in recipe("lint")]
    assert [hook["entry"] for hook in local["hooks"]] == own


def test_ci_runs_lint_and_tests_under_the_constraints() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert re.findall(r"^make (\w+)", script, re.MULTILINE) == ["lint", "test"]
    assert 'PIP_CONSTRAINT="$PWD/constraints.txt"' in script
    assert not [line for line in MAKEFILE.splitlines() if "constraints" in line and "pip install" in line]


def test_constraints_pin_every_requirement_of_tests_but_torch_within_its_bounds() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines)
    pins = dict(line.split("==") for line in lines)
    assert "torch" not in pins
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    (own,) = (one for one in map(Requirement, extras["test"]) if one.name == "transfuse")
    groups = [project["dependencies"], extras["test"], *(extras[name] for name in own.extras)]
    wanted = [Requirement(text) for group in groups for text in group]
    assert len(wanted) > 20
    for one in wanted:
        if one.name not in ("torch", "transfuse"):
            assert one.specifier.contains(pins[canonicalize_name(one.name)]), one


def test_torch_is_bounded_where_it_is_installed() -> None:
    (bound,) = re.findall(r'pip install .*"torch(.*)"', MAKEFILE)
    (ours,) = [Requirement(text) for text in PROJECT["project"]["dependencies"] if text.startswith("torch")]
    version = bound.removeprefix("==").replace("*", "0")
    assert ours.specifier.contains(version)


def test_every_package_is_typed_and_there_is_no_other() -> None:
    shipped = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    floors = PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"]
    packages = [
        path.parent.relative_to(ROOT) for floor in floors for path in ROOT.glob(f"{floor}/*/__init__.py")
    ]
    assert sorted(shipped) == sorted(str(path) for path in packages)
    assert [path for path in shipped if not (ROOT / path / "py.typed").is_file()] == []
    roots = PROJECT["tool"]["importlinter"]["root_packages"]
    assert sorted(roots) == sorted(Path(path).name for path in shipped)


def test_the_version_stands_once_and_is_told_without_torch() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    place = PROJECT["tool"]["hatch"]["version"]["path"]
    (version,) = re.findall(r'^__version__ = "(.+)"', (ROOT / place).read_text(), re.MULTILINE)
    code = "import sys, transfuse; print(transfuse.__version__, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == [version, "False"]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)", PAGE))))
def test_the_pages_targets_are_there(target: str) -> None:
    assert recipe(target)


def test_the_pages_files_are_there() -> None:
    paths = re.findall(r"`((?:core|lab|tests|bench|docs|\.ci)/[\w./-]+)`", PAGE)
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for capability in ("default", "avx2", "avx512"):
        assert capability in PAGE
