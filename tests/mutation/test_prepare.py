"""What mutmut is shown: decorated functions written out mean the same, and each is a plain function of its own name."""

import ast
import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
CORE = FOLDER.parents[1] / "core"
SOURCE = """
from functools import cached_property, singledispatch

@singledispatch
def kind(value) -> str:
    return "other"

@kind.register
def _(value: int | float) -> str:
    return "number"

@kind.register(str)
def text(value) -> str:
    return "text"

@kind.register
def _(value: list) -> str:
    return ", ".join(map(kind, value))

class Box:
    @property
    def one(self) -> int:
        return 1

    @cached_property
    def two(self) -> int:
        return self.one + 1
"""


def prepare():
    spec = importlib.util.spec_from_file_location("prepare", FOLDER / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_exposed_functions_mean_what_they_meant() -> None:
    names: dict = {}
    exec(prepare().exposed(SOURCE), names)
    kind, box = names["kind"], names["Box"]()
    assert (kind([1, 2.5, "a", None]), box.one, box.two) == ("number, number, text, other", 1, 2)
    assert names["text"](3) == "text"


def test_exposed_functions_are_undecorated_and_named_apart() -> None:
    tree = ast.parse(prepare().exposed(SOURCE))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not any(node.decorator_list for node in functions)
    names = [node.name for node in functions]
    assert names == ["kind_of", "kind_int_float", "kind_str", "kind_list", "one_of", "two_of"]


@pytest.mark.parametrize("path", sorted(CORE.glob("transfuse/masks/**/*.py")), ids=lambda path: path.stem)
def test_no_function_of_masks_is_left_decorated_or_named_twice(path: Path) -> None:
    tree = ast.parse(prepare().exposed(path.read_text()))
    for body in (tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))):
        functions = [node for node in body if isinstance(node, ast.FunctionDef)]
        assert not any(node.decorator_list for node in functions)
        assert len({node.name for node in functions}) == len(functions)
