"""The benchmark measures what it says: its rows, and that every part of it still runs. No test asserts a time."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from transfuse import masks


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "bench" / "attention.py"
    spec = importlib.util.spec_from_file_location("bench_attention", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_attention"] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def test_rows_are_as_described(bench: ModuleType) -> None:
    columns = bench.rows(8192)
    assert all(len(values) == 8192 for values in columns.values())
    sizes = np.bincount(columns["doc"])[:-1]
    assert sizes.min() >= 300
    assert sizes.max() <= 600
    assert 0.4 < (columns["span"] >= 0).mean() < 0.6
    assert np.bincount(columns["span"][columns["span"] >= 0]).max() == 64
    assert (np.bincount(bench.short(4096)["doc"])[:-1] == 23).all()


def test_bagel_and_worldvla_rows_have_the_structure_they_are_for(bench: ModuleType) -> None:
    columns = bench.bagel(4096, 8)
    assert masks.cacheable(bench.BAGEL, columns)
    intervals = [len(found) for found in bench.BAGEL.intervals(columns)]
    assert max(intervals) == 9
    chunks = bench.worldvla(4096, 8)
    first = chunks["doc"] == 0
    assert len(np.unique(chunks["act"][first & (chunks["is_act"] > 0)])) == 8


def test_errors_stay_within_their_targets(bench: ModuleType) -> None:
    figures = bench.errors()
    assert [figure.met for figure in figures] == [True, True, True]
    table = bench.table([*figures, bench.Figure("missed", 1.0, "x", "≥ 2", False)])
    assert "**missed**" in table
    assert table.count("| met |") == 3


def test_a_cached_step_runs(bench: ModuleType) -> None:
    assert [figure.value > 0 for figure in bench.cached(1)] == [True, True]
