"""CIDEr by pycocoevalcap, the code that published values come from (it is CIDEr-D: clipped, length penalised).

Texts whose prompts are equal by content are references of one another: the first that was made for the prompt is
scored against all of them. How many texts there are matters, since n-grams are weighed by how rare they are among
them.

Vedantam et al. 2015 (arXiv 1411.5726). Needs `pip install 'transfuse[cider]'`, and Java for tokens of ``ptb``;
imported on use.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from shutil import which
from typing import Any, Literal

from transfuse.datasets import item_bytes
from transfuse.plugin import AppliesTo, Evaluation, Figure, Item, Metric, Settings, TransfuseError

from transfuse_adapters.references import imported, one_line, versions

Texts = dict[str, list[str]]
"""Texts of each prompt, by its number."""


class CiderSettings(Settings):
    """How texts become the words that are compared."""

    tokens: Literal["ptb", "words"]
    """ptb: by the Penn Treebank's rules, as published values; it runs Java. words: runs of letters and digits in
    lower case, for texts without a published value to compare with."""


class Cider(Metric):
    """Of texts asked for by something: images, series, other texts."""

    name = "cider"
    applies_to = AppliesTo(want_data="text")
    figures = (
        Figure(
            "cider", "CIDEr", "", "higher", "number",
            "agreement of the texts made with the true ones in n-grams, weighed by how rare they are among all: from 0 "
            "to 10, where papers often print 100 times as much; it depends on how many texts there are",
            "CIDEr (higher is better)",
        ),
    )  # fmt: skip

    def __init__(self, settings: CiderSettings) -> None:
        self.settings = settings

    def facts(self) -> dict[str, Any]:
        return {"versions": versions("pycocoevalcap")}

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        if not evaluation.task.given:
            return {}
        scorer = imported("pycocoevalcap.cider.cider", "metric 'cider'", "cider").Cider()
        made, true = by_prompt(evaluation.prompts, evaluation.made, evaluation.truth)
        if len(true) < 2:
            raise TransfuseError(
                "CIDEr weighs n-grams by how rare they are: it is of at least two prompts that differ"
            )
        tokens = TOKENS[self.settings.tokens]
        return {"cider": float(scorer.compute_score(tokens(true), tokens(made))[0])}


def by_prompt(
    prompts: Sequence[tuple[Item, ...]], made: Sequence[str], truth: Sequence[str]
) -> tuple[Texts, Texts]:
    """The first text made for each prompt, and all its true ones; prompts are one where their content is."""
    firsts: Texts = {}
    references: Texts = {}
    numbers: dict[int, str] = {}
    for prompt, text, true in zip(prompts, made, truth, strict=True):
        content = hash(tuple((item.modality, *item_bytes(item.data, item.modality)) for item in prompt))
        number = numbers.setdefault(content, str(len(numbers)))
        firsts.setdefault(number, [text])
        references.setdefault(number, []).append(true)
    return firsts, references


def words(texts: Mapping[str, Sequence[str]]) -> Texts:
    """Runs of letters and digits in lower case, a space between them."""
    return {key: [" ".join(re.findall(r"\w+", text.lower())) for text in own] for key, own in texts.items()}


def penn_treebank(texts: Mapping[str, Sequence[str]]) -> Texts:
    """The tokens of Stanford's PTBTokenizer without punctuation. Raises TransfuseError where Java does not run."""
    tokenizer = imported("pycocoevalcap.tokenizer.ptbtokenizer", "metric 'cider'", "cider").PTBTokenizer()
    if which("java") is None:
        raise TransfuseError(
            "tokens 'ptb' need the command java: install a Java runtime, or set tokens: words"
        )
    try:
        lines = {key: [{"caption": " ".join(text.split())} for text in own] for key, own in texts.items()}
        made = tokenizer.tokenize(lines)
    except Exception as fault:  # it writes beside its own files, and starts a process
        raise TransfuseError(f"the tokenizer of tokens 'ptb' does not run: {one_line(fault)}") from None
    if {key: len(own) for key, own in made.items()} != {key: len(own) for key, own in texts.items()}:
        raise TransfuseError(
            "the tokenizer of tokens 'ptb' did not return as many texts: see what java wrote"
        )
    return made


TOKENS: Mapping[str, Callable[[Mapping[str, Sequence[str]]], Texts]] = {"ptb": penn_treebank, "words": words}
