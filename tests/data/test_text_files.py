"""Text files are UTF-8 with or without a byte order mark, whatever the locale, and every fault names file and byte."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse_lab.datasets.folder import Folder
from transfuse_lab.datasets.interleaved import Interleaved

MARK = b"\xef\xbb\xbf"
CAPTION = "été 🐱 кошка"


def beside(folder: Path, mark: bytes) -> Path:
    (folder / "a.txt").write_bytes(mark + f"{CAPTION}\r\n".encode())
    return folder / "a.txt"


def listed(folder: Path, mark: bytes) -> Path:
    line = json.dumps({"image": "a.png", "caption": CAPTION, "split": "train"}, ensure_ascii=False)
    (folder / "captions.jsonl").write_bytes(mark + f"{line}\r\n".encode())
    return folder / "captions.jsonl"


def documents(folder: Path, mark: bytes) -> Path:
    line = json.dumps({"items": [{"text": CAPTION}, {"image": "a.png"}]}, ensure_ascii=False)
    (folder / "documents.jsonl").write_bytes(mark + f"{line}\r\n".encode())
    return folder / "documents.jsonl"


FORMS = pytest.mark.parametrize(
    ("write", "read"), [(beside, Folder), (listed, Folder), (documents, Interleaved)]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    return tmp_path


@FORMS
@pytest.mark.parametrize("mark", [b"", MARK])
def test_a_byte_order_mark_is_no_part_of_a_caption(
    folder: Path, write: Callable[[Path, bytes], Path], read: type[DataSet], mark: bytes
) -> None:
    write(folder, mark)
    assert read(folder).document("train", 0).items[0].data == CAPTION  # type: ignore[call-arg]


@FORMS
def test_other_bytes_are_named(
    folder: Path, write: Callable[[Path, bytes], Path], read: type[DataSet]
) -> None:
    path = write(folder, b"")
    whole = path.read_bytes()
    path.write_bytes(whole.decode().encode("utf-16"))
    with pytest.raises(TransfuseError) as caught:
        read(folder)  # type: ignore[call-arg]
    assert str(caught.value) == f"{path}: is not UTF-8 text (byte 0): save it as UTF-8"
    path.write_bytes(whole + b"\xe9")
    with pytest.raises(TransfuseError, match=rf"\(byte {len(whole)}\)"):
        read(folder)  # type: ignore[call-arg]


def test_a_key_that_stands_twice_is_named_with_its_line(folder: Path) -> None:
    (folder / "captions.jsonl").write_text('{"image": "a.png", "caption": "a", "caption": "b"}\n')
    with pytest.raises(TransfuseError, match=r"captions\.jsonl line 1: not JSON: key 'caption' stands twice"):
        Folder(folder)


ROOT = Path(__file__).parents[2]
SOURCES = [
    path for room in ("core", "plugins", "adapters", "lab") for path in sorted((ROOT / room).rglob("*.py"))
]


def opens_by_locale(source: str) -> list[int]:
    """Lines on which a text file is opened, read or written without saying its encoding."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) in ("read_text", "write_text"):
            continue  # `transfuse.files` has functions of these names
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        words = [word.value for word in node.args if isinstance(word, ast.Constant)]
        said = any(key.arg in ("encoding", "mode") for key in node.keywords) or "utf-8" in words
        modes = [word for word in words if isinstance(word, str) and set(word) <= set("rwax+b")]
        text = name in ("read_text", "write_text") or (name == "open" and modes and "b" not in modes[0])
        if text and not said:
            found.append(node.lineno)
    return found


def test_the_search_finds_what_it_is_for() -> None:
    assert opens_by_locale("a.read_text()\na.open('w')\nopen(a, 'r')\na.write_text(b)") == [1, 2, 3, 4]
    assert not opens_by_locale(
        "a.read_text('utf-8')\na.open('rb')\na.open('w', encoding='utf-8')\nread_text(a)"
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_opened_by_the_locale(path: Path) -> None:
    assert opens_by_locale(path.read_text(encoding="utf-8")) == []


PRINTS = """
import sys
from transfuse_lab.datasets.folder import Folder
data = Folder(sys.argv[1])
for split in ("train", "tune", "test"):
    for index in range(data.size(split)):
        print(ascii((data.name, split, data.document(split, index).items[0].data)))
"""


@pytest.mark.parametrize("listing", [False, True])
def test_a_folder_is_the_same_in_every_locale(tmp_path: Path, listing: bool) -> None:
    """Names of files included: here with letters that the C locale does not have."""
    folder = tmp_path / "été"
    folder.mkdir()
    for i in range(12):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / f"é{i}.png")
        (folder / f"é{i}.txt").write_text(f"кошка {i}", encoding="utf-8")
    if listing:
        lines = [
            json.dumps({"image": f"é{i}.png", "caption": f"кошка {i}"}, ensure_ascii=False) for i in range(12)
        ]
        (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    told = [
        subprocess.run(
            [sys.executable, "-c", PRINTS, folder],
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
        )
        for environment in (
            {"PYTHONUTF8": "1"},
            {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
        )
    ]
    assert [done.stderr for done in told] == [b"", b""]
    assert sorted(told[0].stdout.splitlines()) == sorted(told[1].stdout.splitlines())
    assert len(told[0].stdout.splitlines()) == 12
