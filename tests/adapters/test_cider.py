"""CIDEr over pycocoevalcap: which texts are scored against which, as which words."""

import shutil
import sys
from types import ModuleType
from typing import Any

import pytest
from transfuse.documents import Item
from transfuse.errors import TransfuseError
from transfuse.metrics import Evaluation, Task
from transfuse_adapters.cider import Cider, CiderSettings, by_prompt, words

from tests.tiny.evaluations import pictures, told

MISSING = "pycocoevalcap is not installed: pip install 'transfuse[cider]'"
IMAGES = pictures(0, 3)
TRUE = ["A man, riding a horse.", "a man on a brown horse", "two dogs play in the snow", "a cat"]
SHOWN = [IMAGES[0], IMAGES[0].copy(), IMAGES[1], IMAGES[2]]


def cider(tokens: str = "words") -> Cider:
    return Cider(CiderSettings.model_validate({"tokens": tokens}))


def test_truths_of_equal_prompts_are_references_of_one_another() -> None:
    made = ["first", "again", "dogs", "cat"]
    prompts = told(made, TRUE, SHOWN).prompts
    assert by_prompt(prompts, made, TRUE) == (
        {"0": ["first"], "1": ["dogs"], "2": ["cat"]},
        {"0": TRUE[:2], "1": [TRUE[2]], "2": [TRUE[3]]},
    )


def test_prompts_are_one_by_content_role_and_shape() -> None:
    flat = IMAGES[0].reshape(-1)
    prompts = [(Item("image", IMAGES[0]),), (Item("depth", IMAGES[0]),), (Item("image", flat),), ()]
    assert len(by_prompt(prompts, TRUE, TRUE)[1]) == 4


def test_words_are_letters_and_digits_in_lower_case() -> None:
    assert words({"0": ["A man, riding 2 horses.\n Été!", ""]}) == {"0": ["a man riding 2 horses été", ""]}


def test_the_library_is_handed_references_and_texts_by_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Scorer:
        def compute_score(self, gts: Any, res: Any) -> tuple[float, list[float]]:
            seen.append((gts, res))
            return 1.25, [1.25]

    library: Any = ModuleType("pycocoevalcap.cider.cider")
    library.Cider = Scorer
    for name in ("pycocoevalcap", "pycocoevalcap.cider", "pycocoevalcap.cider.cider"):
        monkeypatch.setitem(sys.modules, name, library)
    assert cider().compute(told(["A man!", "x", "dogs", "cat"], TRUE, SHOWN)) == {"cider": 1.25}
    references = {"0": ["a man riding a horse", TRUE[1]], "1": [TRUE[2]], "2": [TRUE[3]]}
    assert seen == [(references, {"0": ["a man"], "1": ["dogs"], "2": ["cat"]})]


def test_nothing_given_is_nothing_to_agree_with() -> None:
    alone = Evaluation(Task("text"), [(), ()], ["a", "b"], ["a", "b"])
    assert cider().compute(alone) == {}


@pytest.mark.parametrize("tokens", ["words", pytest.param("ptb", marks=pytest.mark.skipif(
    shutil.which("java") is None, reason="the command java is not installed"))])  # fmt: skip
def test_from_0_to_10(tokens: str) -> None:
    pytest.importorskip("pycocoevalcap.cider.cider", reason=MISSING)
    truth = ["a man rides a horse", "two dogs play in the snow", "the cat sat on a mat"]
    same, none, half = (
        cider(tokens).compute(told(made, truth, IMAGES))["cider"]
        for made in (["A man rides a horse.", *truth[1:]], ["", "zebra", "quite something else here"],
                     ["a man rides a horse", "zebra", "the cat sat on a chair"])
    )  # fmt: skip
    assert (same, none) == (pytest.approx(10), 0)
    assert 1 < half < 9


def test_of_one_prompt_nothing_is_rare() -> None:
    pytest.importorskip("pycocoevalcap.cider.cider", reason=MISSING)
    with pytest.raises(TransfuseError, match="at least two prompts that differ"):
        cider().compute(told(TRUE[:2], TRUE[:2], SHOWN[:2]))


def test_ptb_wants_java(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocoevalcap.cider.cider", reason=MISSING)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TransfuseError, match=r"tokens 'ptb' need the command java: .* or set tokens: words"):
        cider("ptb").compute(told(TRUE, TRUE, SHOWN))
