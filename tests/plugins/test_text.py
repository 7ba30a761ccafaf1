"""Text: every string survives the BPE, a digit's name is one token, and the loss is torch's by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transfuse.documents import Item
from transfuse.errors import TransfuseError
from transfuse.model.build import build_modalities
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse_lab.datasets.digits import NAMES
from transfuse_text.modality import Text, TextSettings

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def text(installed: Plugins) -> Text:
    built = installed.choose("modality", {"kind": "text", "vocab": 512}, "text").build(name="text")
    built.fit(list(NAMES) * 3, 0, lambda line: None)
    return built


@settings(deadline=None, derandomize=True, max_examples=300)
@given(ANY_TEXT)
def test_any_text_survives(text: Text, words: str) -> None:
    ids = text.encode(words)
    assert ids.dtype == np.int64
    assert text.decode(ids) == words
    assert not len(ids) or (ids.min() >= 0 and ids.max() < text.codes)


@pytest.mark.parametrize(
    "words", ["\0", " seven ", "seven\n\n", "a\r\nb", "İ", "e\u0301", "👩‍👩‍👧", "<document>"]
)
def test_text_that_tokenizers_like_to_change(text: Text, words: str) -> None:
    assert text.decode(text.encode(words)) == words


def test_a_digits_name_is_one_token(text: Text) -> None:
    ids = [text.encode(name) for name in NAMES]
    assert {len(row) for row in ids} == {1}
    assert len({int(row[0]) for row in ids}) == 10


def test_a_restored_tokenizer_is_the_same(text: Text, installed: Plugins) -> None:
    again = installed.choose("modality", {"kind": "text", "vocab": 512}, "text").build(name="text")
    with pytest.raises(TransfuseError, match="'text' has no tokenizer yet"):
        again.encode("seven")
    again.restore(text.facts())
    assert again.codes == text.codes
    for words in ("seven", "naïve", "0 1 2", "Ω"):
        np.testing.assert_array_equal(again.encode(words), text.encode(words))


def test_ids_pass_as_they_are(text: Text) -> None:
    np.testing.assert_array_equal(text.encode(np.array([1, 2])), [1, 2])


def test_a_span_of_text_has_no_markers_and_its_items_loss(text: Text) -> None:
    (span,) = text.spans(Item("text", "seven", loss=False), text.encode("seven"))
    assert (span.positions, span.label, span.grouped, span.loss) == (1, None, False, False)
    assert text.labels() == ()


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_the_loss_by_hand(installed: Plugins, z_loss: float) -> None:
    objective = installed.choose("objective", {"name": "next-token", "z_loss": z_loss}, "objective").build()
    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    targets = torch.tensor([0, 10, 3, 3, 7])
    by_hand = torch.tensor(0.0, dtype=torch.float64)
    for row, target in zip(logits, targets, strict=True):
        denominator = row.exp().sum().log()
        by_hand += denominator - row[target] + z_loss * denominator**2
    loss = objective.score(logits, targets)
    assert loss.count == 5
    assert float(loss.sum) == pytest.approx(float(by_hand), rel=1e-12)
    # Half precision is scored in single.
    half = objective.score(logits.bfloat16(), targets)
    assert half.sum.dtype == torch.float32


def test_a_closed_id_has_no_gradient_and_no_part_in_the_loss(installed: Plugins) -> None:
    objective = installed.choose("objective", {"name": "next-token", "z_loss": 0.1}, "objective").build()
    logits = torch.tensor([[1.0, 2.0, -torch.inf]], requires_grad=True)
    loss = objective.score(logits, torch.tensor([1]))
    loss.sum.backward()
    assert torch.isfinite(loss.sum)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


class TestChoosing:
    def logits(self) -> torch.Tensor:
        return torch.log(torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.0, 0.0, 0.0, 1.0]]))

    def chooser(self, temperature: float) -> Text:
        return Text(self.settings(temperature), "text")

    @pytest.fixture(autouse=True)
    def _settings(self, installed: Plugins) -> None:
        def make(temperature: float) -> TextSettings:
            return installed.choose("modality", {"kind": "text", "temperature": temperature}, "text").settings

        self.settings: Callable[[float], TextSettings] = make

    def test_greedy_reads_the_first_view_only(self) -> None:
        for seed in range(5):
            assert self.chooser(0).choose(self.logits(), torch.Generator().manual_seed(seed), 1.0) == 0

    @pytest.mark.parametrize("temperature", [1.0, 0.5])
    def test_temperature(self, temperature: float) -> None:
        generator = torch.Generator().manual_seed(0)
        drawn = [self.chooser(temperature).choose(self.logits(), generator, 1.0) for _ in range(3000)]
        shares = np.bincount(drawn, minlength=4) / len(drawn)
        expected = np.array([0.5, 0.3, 0.2, 0]) ** (1 / temperature)
        np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.035)
        assert shares[3] == 0


def test_an_objective_that_does_not_score_tokens(installed: Plugins) -> None:
    recipe = Registry.load(installed, [packaged_file()]).recipe("transfusion", ["text.objective=ddpm"])
    with pytest.raises(
        TransfuseError,
        match=r"^modality 'text': objective 'ddpm' builds .*, and here must be TokenObjective; use next-token$",
    ):
        build_modalities(recipe)


def word_level(path: Path, *words: str) -> str:
    """A tokenizer.json that knows these words and letters, and drops all others."""
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(path))
    return str(path)


def told(installed: Plugins, raws: list[Any], effort: float = 1.0, **settings: Any) -> list[str]:
    lines: list[str] = []
    built = installed.choose("modality", {"kind": "text", **settings}, "text").build(name="caption")
    built.fit(raws, 0, lines.append, effort)
    return lines


def test_texts_that_do_not_come_back_from_a_given_tokenizer_are_counted_and_the_first_is_shown(
    installed: Plugins, tmp_path: Path
) -> None:
    tokenizer = word_level(tmp_path / "tokenizer.json", *"abcdefgh ")
    raws = ["a bad cab", "a déad bee" + " head" * 20, np.arange(3), "été", "face"]
    (line,) = told(installed, raws, tokenizer=tokenizer)
    assert line.startswith(
        "caption: 2 of 4 texts are not what the tokenizer gives back of them: 'a déad bee head"
    )
    assert "…' comes back as 'a dad bee head" in line
    assert told(installed, ["a bad cab", "face"], tokenizer=tokenizer) == []
    assert (
        told(installed, raws, effort=0.0, tokenizer=tokenizer) == []
    )  # nothing is gone through for a dry run


def test_a_difference_late_in_a_long_text_is_shown(installed: Plugins, tmp_path: Path) -> None:
    tokenizer = word_level(tmp_path / "tokenizer.json", *"abcdefgh ")
    (line,) = told(installed, ["abc " * 100 + "é" + "abc " * 100], tokenizer=tokenizer)
    assert "é" in line
    assert len(line) < 300


def test_of_a_tokenizer_trained_on_the_texts_nothing_is_said_but_its_size(installed: Plugins) -> None:
    assert told(installed, ["été", "🐱"], vocab=256) == ["caption: a BPE of 256 tokens"]
