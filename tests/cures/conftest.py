"""A situation for each test, which must have met the texts that it claims to cure."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cures.situation import Situation
from tests.cures.texts import text_of


@pytest.fixture
def s(
    tmp_path: Path,
    cli: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Situation]:
    situation = Situation(tmp_path, cli)
    monkeypatch.chdir(tmp_path)
    yield situation
    for mark in request.node.iter_markers("cures"):
        for part in mark.args:
            met = [said for said in situation.said if text_of(part).becomes.search(said)]
            assert met, f"no command said {part!r}, only {situation.said}"
