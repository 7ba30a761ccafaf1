"""Names of files and the same names in texts: UTF-8 on the disk whatever the locale, so a folder means one thing."""

import os


def on_disk(name: str) -> str:
    """A name that a text gives, as this process calls the file: the same, but where the locale is not UTF-8."""
    return os.fsdecode(name.encode("utf-8", "surrogatepass"))


def in_text(name: str) -> str:
    """The name of a file as text: bytes that are no UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")
