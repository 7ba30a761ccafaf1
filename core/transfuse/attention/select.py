"""Chooses the attention backend: the one named, or the best that can serve the request."""

import logging
from collections.abc import Mapping
from functools import lru_cache

from transfuse.attention.backend import Backend, Request
from transfuse.errors import TransfuseError, did_you_mean

log = logging.getLogger("transfuse.attention")

PREFERRED = {"cpu": ("tiles",), "cuda": ("flex", "xformers", "tiles")}
"""By type of device: `auto` tries these in order, then any other by name, and `dense` last."""


def select(name: str, request: Request, backends: Mapping[str, Backend]) -> Backend:
    """The backend `name`, or for "auto" the first that supports the request; said once through logging.

    Raises TransfuseError for an unknown name, or with the reasons when the named one cannot serve.
    """
    if name != "auto":
        if name not in backends:
            raise TransfuseError(
                f"unknown attention backend {name!r}: {did_you_mean(name, [*backends, 'auto'])}"
            )
        reasons = backends[name].supports(request)
        if reasons:
            raise TransfuseError(
                f"attention backend {name!r} cannot serve this: {'; '.join(reasons)}. Choose another or auto"
            )
        return backends[name]
    refused = []
    for candidate in order(request, backends):
        reasons = backends[candidate].supports(request)
        if not reasons:
            _say(candidate, "; ".join(refused) or "it is the first choice")
            return backends[candidate]
        refused.append(f"not {candidate}: {', '.join(reasons)}")
    raise TransfuseError(f"no attention backend can serve this: {'; '.join(refused) or 'none is installed'}")


def order(request: Request, backends: Mapping[str, Backend]) -> list[str]:
    """The names as `auto` tries them."""
    rank = {name: i for i, name in enumerate(PREFERRED.get(request.device.type, ("tiles",)))}
    return sorted(backends, key=lambda name: (name == "dense", rank.get(name, len(rank)), name))


@lru_cache(maxsize=256)
def _say(name: str, why: str) -> None:
    """Log a choice; the cache makes it once a process for each choice and reason."""
    log.info("attention: %s (%s)", name, why)
