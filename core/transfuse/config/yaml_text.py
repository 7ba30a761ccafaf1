"""YAML as registries and ``--set`` use it: plain data, every value with the line it stands on.

A small part of YAML 1.2: mappings with text keys, lists, text, numbers (``1e-3`` is one), true, false,
null. No tags, anchors, aliases or dates, no duplicate keys, so that a file means what it shows. ``no``
and ``on`` are words.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from transfuse.config.validation import Loc, dotted, short
from transfuse.errors import TransfuseError
from transfuse.files import read_text

LIMIT = 1 << 20
"""Bytes that are read of one file; a registry has a few thousand."""
DEPTH = 40
"""Levels of nesting that are read."""

INT = re.compile(r"[-+]?[0-9]{1,40}")
FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan")
BOOL = re.compile(r"true|false")
NULL = re.compile(r"~|null|")
TAG = "tag:yaml.org,2002:"


class _Fault(Exception):
    """What is wrong, and in which line of the text (None if unknown)."""

    def __init__(self, problem: str, mark: yaml.Mark | None) -> None:
        super().__init__(problem)
        self.line = None if mark is None else mark.line + 1


class _Nodes(yaml.SafeLoader):
    """Composes YAML's nodes; resolves words to the few types above."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Fault("anchors and aliases are not read: write the value out", event.start_mark)
        self.depth += 1
        if self.depth > DEPTH:
            raise _Fault(f"nested deeper than {DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _name, _pattern in (("null", NULL), ("bool", BOOL), ("int", INT), ("float", FLOAT)):
    _Nodes.add_implicit_resolver(TAG + _name, re.compile(rf"(?:{_pattern.pattern})\Z"), None)


def read_file(path: Path) -> tuple[Any, dict[Loc, int]]:
    """The data of a YAML file, and the line of every value by its place.

    Raises `TransfuseError` for a file that is missing, too large, not text or not such YAML.
    """
    return read(read_text(path, "registry", LIMIT), str(path))


def read(text: str, source: str) -> tuple[Any, dict[Loc, int]]:
    """The data of a YAML text, and the line of every value by its place, ``()`` the whole.

    >>> read("model: {dim: 64, rope: [pos]}", "text")[0]
    {'model': {'dim': 64, 'rope': ['pos']}}
    """
    if len(text) > LIMIT:
        raise TransfuseError(f"{source}: is larger than {LIMIT >> 20} MB, which no settings need")
    lines: dict[Loc, int] = {}
    try:
        node = _Nodes(text).get_single_node()
        return (None if node is None else _data(node, (), lines)), lines
    except _Fault as fault:
        where = f"{source}:{fault.line}" if fault.line and "\n" in text else source
        raise TransfuseError(f"{where}: {fault}") from None
    except yaml.MarkedYAMLError as error:
        where = f"{source}:{error.problem_mark.line + 1}" if error.problem_mark and "\n" in text else source
        raise TransfuseError(f"{where}: is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise TransfuseError(f"{source}: is not YAML: {' '.join(str(error).split())}") from None


def _data(node: yaml.Node, place: Loc, lines: dict[Loc, int]) -> Any:
    lines[place] = node.start_mark.line + 1
    kind = node.tag.removeprefix(TAG)
    if isinstance(node, yaml.MappingNode) and kind == "map":
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _data(key_node, place, {})
            if not isinstance(key, str):
                raise _Fault(f"{_at(place)}key {short(key)} is no text; quote it", key_node.start_mark)
            if key in values:
                raise _Fault(f"{_at(place)}key {short(key)} stands twice", key_node.start_mark)
            values[key] = _data(value_node, (*place, key), lines)
            lines[*place, key] = key_node.start_mark.line + 1
        return values
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [_data(item, (*place, index), lines) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, kind, place)
    raise _Fault(f"{_at(place)}the tag {node.tag!r} is not read", node.start_mark)


def _scalar(node: yaml.ScalarNode, kind: str, place: Loc) -> Any:
    text: str = node.value
    if kind == "str":
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise _Fault(f"{_at(place)}half a surrogate pair is no text", node.start_mark)
        return text
    if kind == "null" and NULL.fullmatch(text):
        return None
    if kind == "bool" and BOOL.fullmatch(text):
        return text == "true"
    if kind == "int" and INT.fullmatch(text):
        return int(text)
    if kind == "float" and FLOAT.fullmatch(text):
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    raise _Fault(f"{_at(place)}the tag {node.tag!r} is not read here", node.start_mark)


def _at(place: Loc) -> str:
    return f"{dotted(place)}: " if place else ""
