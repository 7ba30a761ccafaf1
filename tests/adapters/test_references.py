"""Metrics over libraries: absent until they are asked for, hashed, and one line in the record where one fails."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transfuse.errors import TransfuseError
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse_adapters.references import picture_batches, sha256_of
from transfuse_lab.evaluation.measure import measure

from tests.tiny.evaluations import MODEL, drawn, evaluated, pictures, told

NAMES = ("fid", "clip_score", "cider")
BOTH = (
    drawn(pictures(0), pictures(1)),
    told(["a", "b"], ["a", "b"], pictures(2, 2)),
)


@pytest.fixture(scope="module")
def adapters() -> Plugins:
    return Plugins.load(only=("text", "image", "diffusion", "vq", "llama", "adapters"))


def registry(adapters: Plugins, folder: Path, text: str) -> Registry:
    file = folder / "registry.yaml"
    file.write_text(f"metrics: {{{text}}}\n")
    return Registry.load(adapters, [packaged_file(), file])


def test_they_are_absent_until_a_registry_asks_for_them(adapters: Plugins, tmp_path: Path) -> None:
    assert not set(Registry.load(adapters, [packaged_file()]).metrics()) & set(NAMES)
    asked = registry(
        adapters, tmp_path, "fid: {weights: a.pt}, clip_score: {weights: b}, cider: {tokens: words}"
    )
    assert set(asked.metrics()) == set(NAMES)
    with pytest.raises(TransfuseError, match=r"registry.yaml:1: metrics.cider.tokens: .*'ptb' or 'words'"):
        registry(adapters, tmp_path, "cider: {tokens: letters}").metrics()


@pytest.mark.parametrize(
    ("asked", "lost", "name", "reason"),
    [
        ("fid: {weights: gone.pt}", "", "fid", "gone.pt"),
        ("fid: {weights: registry.yaml}", "", "fid", "registry.yaml are no state dict that torch reads"),
        ("fid: {weights: gone.pt}", "torchmetrics.image.fid", "fid", "pip install 'transfuse[metrics]'"),
        ("clip_score: {weights: gone}", "", "clip_score", "gone hold no config.json"),
        ("clip_score: {weights: gone}", "torchmetrics.multimodal.clip_score", "clip_score",
         "pip install 'transfuse[metrics]'"),
        ("cider: {tokens: words}", "pycocoevalcap.cider.cider", "cider", "pip install 'transfuse[cider]'"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_line_of_the_record(
    adapters: Plugins,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    lost: str,
    name: str,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if lost:
        monkeypatch.setitem(sys.modules, lost, None)
    elif name != "cider":
        pytest.importorskip(
            "torchmetrics", reason="torchmetrics is not installed: pip install 'transfuse[metrics]'"
        )
    one = evaluated(*BOTH)
    facts, _ = measure(MODEL.modalities, one, registry(adapters, tmp_path, asked).metrics())
    assert list(one.faults) == [name]
    assert reason in one.faults[name]
    assert "\n" not in one.faults[name]
    assert one.figures == {}
    assert facts[name]["split"] == "test"


def test_each_is_asked_of_its_own_tasks(
    adapters: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task wrongly put to one would fail: no library is there."""
    for module in (
        "torchmetrics.image.fid",
        "torchmetrics.multimodal.clip_score",
        "pycocoevalcap.cider.cider",
    ):
        monkeypatch.setitem(sys.modules, module, None)
    asked = "fid: {weights: a}, clip_score: {weights: b}, cider: {tokens: words}"
    chosen = registry(adapters, tmp_path, asked).metrics()
    for one, names in zip(BOTH, (["fid", "clip_score"], ["cider"]), strict=True):
        alone = evaluated(one)
        measure(MODEL.modalities, alone, chosen)
        assert sorted(alone.faults) == sorted(names)


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"abc" * 1000)
    assert sha256_of(tmp_path / "weights") == hashlib.sha256(b"abc" * 1000).hexdigest()
    with pytest.raises(TransfuseError, match=r"weights .*gone cannot be read: No such file"):
        sha256_of(tmp_path / "gone")


def test_the_hash_of_a_folder_is_of_the_list_that_sha256sum_prints(tmp_path: Path) -> None:
    files = {"b.json": b"{}", "a/model": b"weights", "c": b""}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in ("a/model", "b.json", "c")]
    assert sha256_of(tmp_path) == hashlib.sha256("".join(lines).encode()).hexdigest()
    (tmp_path / "c").rename(tmp_path / "d")
    assert sha256_of(tmp_path) != hashlib.sha256("".join(lines).encode()).hexdigest()


def test_pictures_go_to_libraries_as_the_levels_of_a_file() -> None:
    raws: list[Any] = [
        *pictures(0, 3),
        *pictures(1, 2, (1, 4, 5)),
        np.full((3, 4, 5), [[[2.0]], [[-1.0]], [[0.5]]]),
    ]
    batches = list(picture_batches(raws, 2))
    assert [tuple(batch.shape) for batch in batches] == [
        (2, 3, 8, 8),
        (1, 3, 8, 8),
        (2, 3, 4, 5),
        (1, 3, 4, 5),
    ]
    together = [picture.numpy() for batch in batches for picture in batch]
    for raw, picture in zip(raws, together, strict=True):
        assert picture.dtype == np.uint8
        assert (picture == (raw.clip(0, 1) * 255).round()).all()
    with pytest.raises(
        TransfuseError, match=r"an image is an array \[1 or 3, height, width\], not \(2, 4, 4\)"
    ):
        list(picture_batches([np.zeros((2, 4, 4))], 2))
