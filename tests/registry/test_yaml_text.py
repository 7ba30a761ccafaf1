"""The part of YAML that is read, and that everything else is refused with its line."""

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from transfuse.config.yaml_text import LIMIT, read, read_file
from transfuse.errors import TransfuseError

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8)
numbers = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
data = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(data, st.booleans())
def test_what_yaml_writes_is_read_back(value: object, flow: bool) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    assert read(text, "text")[0] == value


def test_words_and_numbers() -> None:
    text = (
        "{a: 1e-3, b: no, c: 0x10, d: 2020-01-01, e: 12:30, f: -.5, g: ~, h: true, i: +7, j: .inf,"
        " k: 010, l: 1_0}"
    )
    assert read(text, "text")[0] == {
        "a": 0.001, "b": "no", "c": "0x10", "d": "2020-01-01", "e": "12:30", "f": -0.5,
        "g": None, "h": True, "i": 7, "j": float("inf"), "k": 10, "l": "1_0",
    }  # fmt: skip


def test_every_value_has_its_line() -> None:
    _, lines = read("a:\n  b: 1\n  c:\n  - x\n  - {d: 2}\n", "text")
    assert lines == {
        (): 1, ("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", 0): 4, ("a", "c", 1): 5,
        ("a", "c", 1, "d"): 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\na: 2\n", "f:2: key 'a' stands twice"),
        ("m:\n  x: {b: 1,\n    b: 2}\n", "f:3: m.x: key 'b' stands twice"),
        ("a: &x 1\nb: *x\n", "f:1: anchors and aliases are not read"),
        ("a: 1\nb: *x\n", "f:2: anchors and aliases are not read"),
        ("a: 1\nb: !!python/object/apply:os.system [x]\n", "f:2: b: the tag"),
        ("a: 1\nb: !!binary aGk=\n", "f:2: b: the tag"),
        ("a: 1\nb: !!int x\n", "f:2: b: the tag"),
        ("a: 1\nb: !!set {x}\n", "f:2: b: the tag"),
        ("a: 1\n2: b\n", "f:2: key 2 is no text; quote it"),
        ("a: 1\n? [x]\n: b\n", "f:2: key ['x'] is no text"),
        ("a: 1\nb: [1\n", "f:3: is not YAML:"),
        ("a: 1\n b: 2\n", "f:2: is not YAML:"),
        ("a: 1\n---\nb: 2\n", "f:2: is not YAML: but found another document"),
        ("a: 1\nb: " + "[" * 60 + "]" * 60 + "\n", "f:2: nested deeper than 40 levels"),
        ("a: 1\nb: '\n", "f:3: is not YAML:"),
        ("a: \x00\n", "f: is not YAML: unacceptable character"),
        ('a: 1\nb: "\\ud800"\n', "f:2: b: half a surrogate pair is no text"),
        ('a: "\\U00ffffff"\n', "f: is not YAML:"),
        ("a: {" + "x" * LIMIT, "f: is larger than 1 MB"),
    ],
)  # fmt: skip
def test_the_rest_is_refused_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(TransfuseError) as caught:
        read(text, "f")
    assert str(caught.value).startswith(sentence)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    with pytest.raises(TransfuseError, match=r"r\.yaml is missing: .* holds no registry$"):
        read_file(path)
    with pytest.raises(TransfuseError, match=r"cannot be read .*it should be a file of a registry$"):
        read_file(tmp_path)
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(TransfuseError, match=r"r\.yaml: is not UTF-8 text \(byte 3\): save it as UTF-8$"):
        read_file(path)
    path.write_bytes(b" " * (LIMIT + 1))
    with pytest.raises(TransfuseError, match="more than 1 MiB of a registry are not read"):
        read_file(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_file(path)[0] == {"a": 1}


@settings(deadline=None, derandomize=True, max_examples=500)
@given(st.text(max_size=60) | st.text(st.sampled_from("ab:{}[]&*!|>-?#'\"%@`,\n \t0.e~<="), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(TransfuseError):
        read(text, "text")
