"""Files that are replaced whole: a reader sees the old text or the new one, never a part."""

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Put the text on the disk beside the file, then in its place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path: Path, value: Any) -> None:
    """The same for JSON. Keys keep their order: that of a recipe's modalities numbers the ``mod`` column."""
    write_text(path, json.dumps(value, indent=1) + "\n")
