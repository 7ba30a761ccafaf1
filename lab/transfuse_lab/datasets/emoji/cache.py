"""Where built data sets are kept: `$TRANSFUSE_CACHE`, else the user's cache folder."""

import os
from pathlib import Path

VARIABLE = "TRANSFUSE_CACHE"


def cache_folder() -> Path:
    """``$TRANSFUSE_CACHE``, else ``$XDG_CACHE_HOME/transfuse``, else ``~/.cache/transfuse``; it may not exist.

    An ``XDG_CACHE_HOME`` that is not absolute is ignored, as the XDG base directory specification asks.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "transfuse"
