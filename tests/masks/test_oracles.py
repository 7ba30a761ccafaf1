"""Other people's masks, bit for bit: their rule parses, dense and normal form equal their mask."""

import json
from pathlib import Path

import numpy as np
import pytest
from transfuse import masks

FILES = sorted((Path(__file__).parent.parent / "data" / "oracles" / "masks").glob("*.json"))


def load(path: Path) -> tuple[masks.Mask, dict, np.ndarray]:
    system = json.loads(path.read_text())
    return (
        masks.parse(system["rule"]),
        system["fields"],
        np.array([[c == "1" for c in row] for row in system["mask"]]),
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dense_and_intervals_equal_the_systems_own_mask(path: Path) -> None:
    rule, fields, expected = load(path)
    assert (rule.allowed(fields) == expected).all()
    assert masks.parse(str(rule)) == rule
    for row, intervals in zip(expected, rule.intervals(fields), strict=True):
        seen = np.zeros(len(row), bool)
        for start, end in intervals:
            seen[start:end] = True
        assert (seen == row).all()
    assert rule.pairs(fields) == expected.sum()


def test_all_oracles_are_here() -> None:
    assert len(FILES) == 15
