"""Lays a copy of the packages out as mutmut wants them, and has it make its mutants there.

`python tests/mutation/prepare.py FOLDER`. Properties and registered visitors become plain functions, since mutmut
leaves decorated ones alone. Results of an earlier run in FOLDER are kept for functions that are as they were.
"""

import ast
import io
import os
import re
import shutil
import sys
from configparser import ConfigParser
from contextlib import redirect_stdout
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def exposed(source: str) -> str:
    """The source with decorated functions that mutmut would leave alone written as plain ones, decorated afterwards.

    A property or singledispatch function `x` becomes `x_of`, with `x = property(x_of)` after it; one registered with
    `x` for the type `A | B` becomes `x_A_B`, with `x.register(A | B, x_A_B)` after it.
    """
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or len(node.decorator_list) != 1:
            continue
        (decorator,) = node.decorator_list
        kind, first = decorator, next(iter(node.args.args), None)
        types = first and first.annotation
        if isinstance(decorator, ast.Call):  # @x.register(A)
            kind, types = decorator.func, decorator.args[0]
        if isinstance(kind, ast.Attribute) and kind.attr == "register" and types is not None:
            name = re.sub(r"\W+", "_", f"{ast.unparse(kind.value)} {ast.unparse(types)}")
            after = f"{ast.unparse(kind)}({ast.unparse(types)}, {name})"
        elif ast.unparse(kind) in ("property", "cached_property", "singledispatch"):
            name = f"{node.name}_of"
            after = f"{ast.unparse(kind)}({name})"
        else:
            continue
        head, indent = node.lineno - 1, " " * node.col_offset
        lines[decorator.lineno - 1 : decorator.end_lineno] = [""] * (
            decorator.end_lineno - decorator.lineno + 1
        )
        lines[head] = lines[head].replace(f"def {node.name}(", f"def {name}(", 1)
        lines[(node.end_lineno or 0) - 1] += f"\n{indent}{node.name} = {after}"
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
