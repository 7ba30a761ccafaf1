"""Which prompts are asked and shown: even spreads, none chosen by hand."""

from collections.abc import Sequence

import numpy as np
from transfuse.documents import Item

NEARLY_ALL = 0.9  # distinct texts a prompt, from which on a text names one document


def evenly(count: int, most: int) -> list[int]:
    """At most so many places of 0 … count − 1, both ends among them."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()


def text_of(prompt: Sequence[Item]) -> str | None:
    """What a prompt of texts alone says; None where it gives something else, or nothing."""
    if not prompt or not all(isinstance(item.data, str) for item in prompt):
        return None
    return "\n".join(item.data for item in prompt)


def names(texts: Sequence[str]) -> bool:
    """Whether nearly every text is another one, so that it names one thing and not a class of them."""
    return len(set(texts)) >= max(2, NEARLY_ALL * len(texts))


def distinct_texts(prompts: Sequence[Sequence[Item]]) -> bool:
    """Whether all prompts are texts, nearly every one another."""
    texts = [text_of(prompt) for prompt in prompts]
    return None not in texts and names([text for text in texts if text is not None])


def spread(prompts: Sequence[Sequence[Item]], most: int) -> list[int]:
    """Places of prompts to show: as many of each different text as fit, else an even spread of them all."""
    by_text: dict[str | int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        text = text_of(prompt)
        by_text.setdefault(i if text is None else text, []).append(i)
    each = max(1, most // max(1, len(by_text)))
    chosen = sorted(i for places in by_text.values() for i in places[:each])
    return [chosen[place] for place in evenly(len(chosen), most)]
