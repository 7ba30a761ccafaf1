"""Every error a user can cause, and the hint that cures a misspelt name."""

from collections.abc import Iterable
from difflib import get_close_matches


class TransfuseError(ValueError):
    """A mistake in what a user gave: the message names the thing, its place and the cure."""


class RawError(TransfuseError):
    """Something is wrong with one piece of raw data: the ``number``-th, from 0, of those handed over.

    What a codec raises while it is fit, so that whoever knows the documents can name the one.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class RecordError(TransfuseError):
    """One stored record is not what was written: training reads another one in its place, up to a limit."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The tail of an "unknown name" message: the nearest known name, else all of them.

    >>> did_you_mean("imgae", ["image", "text"])
    "did you mean 'image'?"
    >>> did_you_mean("x", ["image", "text"])
    'known: image, text'
    """
    names = sorted(known)
    if close := get_close_matches(word, names, n=1):
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "none is known"
