"""What comes from files is shown whole: no escape code, false line or turned direction reaches terminal or page."""

import ast
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse_lab import cli
from transfuse_lab.progress import SECONDS, Lines, complain, say
from transfuse_lab.report.html import join, tag
from transfuse_lab.tables import print_table
from transfuse_lab.visible import visible, visible_line, visible_lines

FORGED = "red\x1b[2J\r\x9b1A\u202egnp.exe\u2066\u200f\nerror: all is lost"
SHOWN = r"red\x1b[2J\r\x9b1A\u202egnp.exe\u2066\u200f"
LAB = Path(cli.__file__).parent
PROGRAM = "import sys; from transfuse_lab.cli import main; sys.argv = ['transfuse', *sys.argv[1:]]; main()"


@given(st.text() | st.text(st.characters(categories=("Cc", "Cf", "Zl", "Zp", "Cs"))))
def test_what_is_visible_stays_and_nothing_else_does(text: str) -> None:
    shown = visible(text)
    assert shown == visible(shown)
    assert shown.encode().decode().split("\n") == [visible_line(line) for line in text.split("\n")]
    assert not any(letter < " " and letter not in "\t\n" for letter in shown)
    assert shown.splitlines() == shown.removesuffix("\n").split("\n") or not shown
    assert "\n" not in visible_line(text)
    assert all(line.startswith("  ") for line in visible_lines(text).split("\n")[1:])


def test_plain_text_of_any_script_is_left_alone() -> None:
    for text in ("🐱 кошка", "קטן חתול", "日本の猫", "e\u0301té", "👩\u200d🚒", "a\tb"):
        assert visible_line(text) == text


def test_every_way_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(FORGED)
    line = Lines("t")
    line.last -= SECONDS
    line.update(0.5, FORGED)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == rf"{SHOWN}\nerror: all is lost"
    assert out[1].endswith(rf"{SHOWN}\nerror: all is lost")
    print_table(("one",), [(FORGED,)])
    assert "\x1b" not in (table := capsys.readouterr().out)
    assert len(table.splitlines()) == 1
    complain(f"error: {FORGED}")
    assert capsys.readouterr().err == f"error: {SHOWN}\n  error: all is lost\n"
    assert cli._plain(FORGED, UserWarning, "f", 1) == f"warning: {SHOWN}\n  error: all is lost\n"


def test_without_a_terminal_lines_are_seconds_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("transfuse_lab.progress.time.monotonic", lambda: now)
    line = Lines("look")
    for i in range(101):  # 10 s in all
        now = i / 10
        line.update(i / 100, "")
    shown = capsys.readouterr().out.splitlines()
    assert [one.split()[1] for one in shown] == ["50%", "100%"]


def test_a_drawn_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(("one",), [("a\x1b[2Jb\u202ec",)])
    assert r"a\x1b[2Jb\u202ec" in capsys.readouterr().out


def test_a_page() -> None:
    assert tag("p", FORGED, title=FORGED) == (
        f'<p title="{SHOWN}\nerror: all is lost">{SHOWN}\nerror: all is lost</p>'
    )
    assert join("\x00\ud800") == r"\x00\ud800"


@pytest.mark.parametrize("path", sorted(LAB.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_prints_past_it(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    shown = [ast.unparse(call) for call in calls if ast.unparse(call.func) == "print"]
    assert all("visible" in text or "interrupted" in text for text in shown), shown


@pytest.fixture
def captioned(tmp_path: Path) -> Callable[[str], Path]:
    from PIL import Image

    def make(caption: str) -> Path:
        (tmp_path / "pets").mkdir()
        for name in ("a.png", "b.png"):
            Image.new("RGB", (4, 4)).save(tmp_path / "pets" / name)
        lines = [json.dumps({"image": name, "caption": caption}) for name in ("a.png", "b.png")]
        (tmp_path / "pets/captions.jsonl").write_text("\n".join(lines))
        return tmp_path / "pets"

    return make


def dry_run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a dry run prints, in the encoding that the environment asks for."""
    sets = ("image.codec=pixel", "image.patcher.patch=4", "model.dim=32", "model.layers=1", "model.heads=2")
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "train", "transfusion", "--data", str(folder), "--dry-run"]
        + [word for one in sets for word in ("--set", one)],
        env={**os.environ, **environment},
        capture_output=True,
        encoding="latin-1",
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_printing_never_fails(captioned: Callable[[str], Path], encoding: str, tmp_path: Path) -> None:
    folder = captioned("кошка").rename(tmp_path / "кошка \x1b[2J\u202e")
    for done in (
        dry_run(folder, PYTHONIOENCODING=encoding),
        dry_run(folder, PYTHONIOENCODING=encoding, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
    ):
        assert done.returncode == 0, done.stderr
        assert r"on \u043a\u043e\u0448\u043a\u0430 \x1b[2J\u202e: 1 training" in done.stdout
        assert "Error" not in done.stderr
    gone = dry_run(tmp_path / "собака", PYTHONIOENCODING=encoding)
    assert gone.returncode == 2
    assert gone.stderr.startswith("error: --data ")
    assert r"\u0441\u043e\u0431" in gone.stderr


def test_an_error_shows_a_key_of_a_file(captioned: Callable[[str], Path], cli: Callable) -> None:
    folder = captioned("a")
    (folder / "captions.jsonl").write_text(json.dumps({"image": "a.png", "caption": "a", "\x1b[2J\u202e": 1}))
    done = cli("train", "transfusion", "--data", folder, "--dry-run")
    assert done.exit_code == 2
    assert r"\x1b[2J\u202e" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_warning_stays_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "formatwarning", cli._plain)
    assert warnings.formatwarning("plain", UserWarning, "f", 1) == "warning: plain\n"
