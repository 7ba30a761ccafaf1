"""Tables: drawn on a terminal, greppable lines anywhere else."""

import sys

import pytest
from transfuse_lab.tables import print_table

ROWS = [("a", "[bold]x[/bold]\ny", ""), ("b", "", "z")]


def test_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("one", "two", "three"), ROWS, "title")
    assert capsys.readouterr().out == "a\t[bold]x[/bold] y\nb\t\tz\n"


def test_a_drawn_table_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(("one", "two", "three"), ROWS, "title")
    shown = capsys.readouterr().out
    assert "title" in shown
    assert "one" in shown
    assert "[bold]x[/bold]" in shown  # a plugin's text is no markup
