"""No cure without its test: each text that holds one is claimed by a test of this folder, or stands elsewhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.cures.elsewhere import ELSEWHERE, NO_CURE
from tests.cures.texts import ROOT, texts_with_cures


def claims() -> Iterator[str]:
    """The parts of texts that ``cures(…)`` and the keys of ``rows({…})`` name."""
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                named = node.args if node.func.id == "cures" else []
                if node.func.id == "rows" and isinstance(node.args[0], ast.Dict):
                    named = node.args[0].keys
                for part in named:
                    yield from (one.value for one in ast.walk(part) if isinstance(one, ast.Constant))


def test_each_text_is_tried_here_or_stands_elsewhere() -> None:
    here = set(claims())
    tried = {text for text in texts_with_cures() if any(part in str(text) for part in here)}
    elsewhere = {
        text for text in texts_with_cures() if any(part in str(text) for part in (*ELSEWHERE, *NO_CURE))
    }
    missing = [str(text) for text in texts_with_cures() if text not in tried | elsewhere]
    assert not missing, "write a test that does what they say:\n" + "\n".join(missing)
    assert not [str(text) for text in tried & elsewhere], (
        "these are tried here: take them out of elsewhere.py"
    )


def test_what_stands_elsewhere_is_there() -> None:
    for part in (*ELSEWHERE, *NO_CURE):
        assert any(part in str(text) for text in texts_with_cures()), f"no text holds {part!r}"
    for reason, test in ELSEWHERE.values():
        assert reason
        assert (ROOT / "tests" / test).is_file(), test
