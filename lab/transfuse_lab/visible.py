"""Text as a person can see all of it: what would move a cursor, a line or the reading direction becomes an escape.

Captions, names and keys come from files that others wrote. All that a command prints and all text of a report
passes through here.
"""

import io
import re
import sys

UNSEEN = re.compile(
    r"[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufffe\uffff]"
)
"""Controls but tab and newline, separators of lines, marks of direction, halves of surrogate pairs, no characters."""


def visible(text: str) -> str:
    r"""The text with escapes for what cannot be seen; tabs and newlines stay.

    >>> print(visible("red\x1b[2J \u202egnp.exe"))
    red\x1b[2J \u202egnp.exe
    """
    return UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def visible_line(text: str) -> str:
    r"""The same on one line: a newline becomes ``\n``."""
    return visible(text).replace("\n", "\\n")


def visible_lines(text: str) -> str:
    """The same with further lines set in, so that none passes for a line of its own."""
    return visible(text).replace("\n", "\n  ")


def print_whatever_comes() -> None:
    """From here on, letters that the terminal's or pipe's encoding does not have are printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
