"""Files that are replaced whole: a reader sees the old text or the new one, never a part."""

import json
import os
from pathlib import Path
from typing import Any

from transfuse.errors import TransfuseError

SIZE_CAP = 64 << 20  # bytes of JSON that is read


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


def read_json(path: Path, what: str) -> Any:
    """Raises TransfuseError naming the file where it is missing, too large or no JSON."""
    try:
        if path.stat().st_size > SIZE_CAP:
            raise TransfuseError(f"{path}: {what} of more than {SIZE_CAP >> 20} MiB is not read")
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise TransfuseError(f"{path} is missing: {path.parent} holds no {what}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TransfuseError(f"{path} is damaged ({error}): restore it, or train again") from None


def read_mapping(path: Path, what: str, *keys: str) -> dict[str, Any]:
    """The same, where it is a mapping with these keys."""
    value = read_json(path, what)
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    if missing or not isinstance(value, dict):
        raise TransfuseError(f"{path} is damaged (it has no {missing[0]!r}): restore it, or train again")
    return value
