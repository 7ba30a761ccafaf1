"""JSON files are read in one way: up to a cap, and every fault names the file and the cure."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn
from transfuse.checkpoints import RunFolder
from transfuse.errors import TransfuseError
from transfuse.files import read_json, read_mapping, read_text, write_json
from transfuse.training.saving import write_checkpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "facts.json"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_what_was_written_is_read_with_or_without_a_byte_order_mark(path: Path, mark: bytes) -> None:
    write_json(path, {"name": "naïve", "of": [1, 2.5, None]})
    path.write_bytes(mark + path.read_bytes())
    assert read_json(path, "run") == {"name": "naïve", "of": [1, 2.5, None]}
    path.write_bytes(mark + '"naïve"'.encode())
    assert read_json(path, "run") == "naïve"


def test_a_file_that_is_missing_or_none_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(TransfuseError) as caught:
        read_json(path, "run")
    assert str(caught.value) == f"{path} is missing: {tmp_path} holds no run"
    with pytest.raises(TransfuseError) as caught:
        read_json(tmp_path, "run")
    assert str(caught.value) == f"{tmp_path} cannot be read (Is a directory): it should be a file of a run"


def test_the_cap_is_the_largest_size_that_is_read(path: Path) -> None:
    path.write_text(f'"{"x" * ((1 << 20) - 2)}"')
    assert len(read_json(path, "run", 1 << 20)) == (1 << 20) - 2
    path.write_text(f'"{"x" * ((1 << 20) - 1)}"')
    with pytest.raises(TransfuseError) as caught:
        read_json(path, "run", 1 << 20)
    assert str(caught.value) == f"{path}: more than 1 MiB of a run are not read"


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"1" * 5000, b'{"a": 1, "b": {"a": 1, "a": 1}}'])
def test_a_damaged_file_is_named_with_the_cure(path: Path, body: bytes) -> None:
    path.write_bytes(body)
    for arguments, cure in (
        ({}, "restore it, or train again with another --out"),
        ({"cure": "copy it again"}, "copy it again"),
    ):
        with pytest.raises(TransfuseError) as caught:
            read_json(path, "run", **arguments)
        assert str(caught.value).startswith(f"{path} is damaged (")
        assert str(caught.value).endswith(f"): {cure}")


def test_a_key_that_stands_twice_is_named(path: Path) -> None:
    path.write_text('[{"a": 1}, {"text": "one", "n": 2, "text": "two"}]')
    with pytest.raises(TransfuseError, match=r"facts\.json is damaged \(key 'text' stands twice\)"):
        read_json(path, "run")


@pytest.mark.parametrize(
    ("body", "byte"),
    [(b"\xff", 0), (b'"\xed\xa0\x80"', 1), ("1".encode("utf-16"), 0), (b"\xef\xbb\xbf1\xe9", 4)],
)
def test_what_is_not_utf8_is_named_with_its_byte(path: Path, body: bytes, byte: int) -> None:
    path.write_bytes(body)
    with pytest.raises(TransfuseError) as caught:
        read_json(path, "run")
    assert (
        str(caught.value)
        == f"{path}: is not UTF-8 text (byte {byte}): restore it, or train again with another --out"
    )
    with pytest.raises(TransfuseError, match=rf"\(byte {byte}\): save it as UTF-8$"):
        read_text(path, "caption")


@pytest.mark.parametrize(
    ("body", "fault"),
    [("[]", "it should hold a mapping"), ("{}", "it has no 'a'"), ('{"a": 0}', "it has no 'b'")],
)
def test_a_mapping_has_its_keys(path: Path, body: str, fault: str) -> None:
    path.write_text(body)
    with pytest.raises(TransfuseError, match=f"damaged \\({fault}\\): train again"):
        read_mapping(path, "run", "a", "b", cure="train again")
    path.write_text('{"b": 1, "a": 0, "c": 2}')
    assert read_mapping(path, "run", "a", "b") == {"b": 1, "a": 0, "c": 2}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the name of an open file is read from /proc")
class TestOnTheDisk:
    @pytest.fixture
    def did(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
        """What was put on the disk, and what was moved to its place: the names, in order."""
        done: list[tuple[str, str]] = []
        fsync, move = os.fsync, os.replace

        def synced(handle: int) -> None:
            done.append(("sync", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
            fsync(handle)

        def moved(one: Path, other: Path) -> None:
            done.append(("move", Path(other).name))
            move(one, other)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", moved)
        return done

    def test_the_text_first_then_its_name(self, path: Path, did: list[tuple[str, str]]) -> None:
        write_json(path, 1)
        assert did == [("sync", "facts.json.partial"), ("move", "facts.json"), ("sync", path.parent.name)]

    def test_all_of_a_checkpoint_before_it_is_the_latest(
        self, tmp_path: Path, did: list[tuple[str, str]]
    ) -> None:
        model = nn.Linear(2, 2)
        write_checkpoint(RunFolder(tmp_path), 3, model, torch.optim.AdamW(model.parameters()))
        moved = did.index(("move", "3"))
        assert {("sync", name) for name in ("model.safetensors", "optimizer.safetensors", ".3.new")} < set(
            did[:moved]
        )
        assert did[moved + 1] == ("sync", "checkpoints")
        assert did[moved + 2 :] == [("sync", "latest.partial"), ("move", "latest"), ("sync", "checkpoints")]
