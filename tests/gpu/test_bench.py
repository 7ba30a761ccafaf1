"""bench/gpu.py's stages run with the CPU standing in; what its figures are made of is checked. No times here."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from transfuse import masks

BENCH = Path(__file__).parents[2] / "bench"
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")


def imported(name: str) -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCH))
    try:
        yield import_module(name)
    finally:
        sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    yield from imported("gpu")


@pytest.fixture(scope="module")
def attention() -> Iterator[ModuleType]:
    yield from imported("stages.attention")


@pytest.mark.parametrize("stage", ["card", "block_masks", "training", "generation"])
def test_a_stage_runs_and_finds_nothing_wrong(gpu: ModuleType, stage: str) -> None:
    found = gpu.STAGES[stage](gpu.SMALL)
    assert not found.get("wrong")
    json.dumps(found)


def test_a_wrong_kernel_is_found(
    gpu: ModuleType, attention: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = "transfusion_lucidrains.json"
    (tmp_path / file).write_text((attention.ORACLES / file).read_text())
    monkeypatch.setattr(attention, "ORACLES", tmp_path)
    assert attention.kernels(gpu.SMALL)["wrong"] == []
    right = attention.flex.Flex.attend
    monkeypatch.setattr(attention.flex.Flex, "attend", lambda self, *given: 1.1 * right(self, *given))
    assert len(attention.kernels(gpu.SMALL)["wrong"]) == 2


def test_other_blocks_are_found(
    gpu: ModuleType, attention: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = attention.flex.block_mask
    other = masks.parse("same(doc)")
    (columns,) = attention.rows(gpu.SMALL, gpu.SMALL.closure, 1)
    monkeypatch.setattr(
        attention.flex, "block_mask", lambda slices, *rest: made(other.slices(columns), *rest)
    )
    assert attention.block_masks(gpu.SMALL)["wrong"] == ["blocks"]


def test_a_systems_row_many_times_over_keeps_its_mask(gpu: ModuleType, attention: ModuleType) -> None:
    system = json.loads((attention.ORACLES / "bagel.json").read_text())
    mask = masks.parse(system["rule"])
    once, many = mask.dense(system["fields"]), mask.dense(attention.filled(mask, system["fields"], 256))
    size = len(once)
    assert torch.equal(many[:size, :size], once)
    assert torch.equal(many[size : 2 * size, size : 2 * size], once)
    assert not many[size : 2 * size, :size].any()
    assert not many[256 // size * size :].any()


def test_rows_differ_and_hold_what_they_are_for(gpu: ModuleType, attention: ModuleType) -> None:
    one, other = attention.rows(gpu.SMALL, 512, 2)
    assert not np.array_equal(one["doc"], other["doc"])
    assert len(one["doc"]) == len(one["span"]) == 512
    assert all(len(np.unique(one["doc"][one["span"] == s])) == 1 for s in np.unique(one["span"]) if s >= 0)


def test_without_a_gpu_the_script_says_how_to_rehearse(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--json", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "rehearse with --tiny" in capsys.readouterr().err
