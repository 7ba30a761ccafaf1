"""Lays a copy of the packages out as mutmut wants them, and has it make its mutants there.

`python tests/mutation/prepare.py FOLDER`. Properties become functions, since mutmut leaves decorated ones alone.
Results of an earlier run in FOLDER are kept for functions that are as they were.
"""

import ast
import io
import os
import shutil
import sys
from configparser import ConfigParser
from contextlib import redirect_stdout
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def exposed(source: str) -> str:
    """The source with each property `x` written as a method `x_of` with `x = property(x_of)` after it."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and len(node.decorator_list) == 1:
            kind = ast.unparse(node.decorator_list[0])
            if kind in ("property", "cached_property"):
                at, head, end = node.decorator_list[0].lineno - 1, node.lineno - 1, (node.end_lineno or 0) - 1
                lines[at] = ""
                lines[head] = lines[head].replace(f"def {node.name}(", f"def {node.name}_of(", 1)
                lines[end] += f"\n{' ' * node.col_offset}{node.name} = {kind}({node.name}_of)"
    return "\n".join(lines) + "\n"


def copy(folder: Path) -> None:
    config = ConfigParser()
    config.read(HERE / "setup.cfg")
    shutil.rmtree(folder / "mutants" / "tests", ignore_errors=True)
    for source in (ROOT / "core" / "transfuse", *sorted(ROOT.glob("[!.]*/transfuse_*")), ROOT / "tests"):
        shutil.rmtree(folder / source.name, ignore_errors=True)
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in config["mutmut"]["only_mutate"].split():
        path = folder / name
        times = path.stat().st_atime, path.stat().st_mtime
        path.write_text(exposed(path.read_text()))
        os.utime(path, times)  # mutmut mutates anew only what is younger than its mutants
    for file in (ROOT / "registry.yaml", HERE / "setup.cfg"):
        shutil.copy2(file, folder)


def mutate(folder: Path) -> None:
    os.chdir(folder)
    from mutmut import __main__ as mutmut  # reads setup.cfg of the working directory

    with redirect_stdout(io.StringIO()):  # a line a file
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.create_mutants(1)


if __name__ == "__main__":
    copy(Path(sys.argv[1]))
    mutate(Path(sys.argv[1]))
