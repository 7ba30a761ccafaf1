"""Layers that are computed again for the backward pass instead of being kept (activation checkpointing)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from transfuse.errors import TransfuseError
from transfuse.model.model import Model


def recompute_layers(model: Model) -> None:
    """Of each layer keep the input alone, and compute the rest again backward, where gradients are asked for.

    Layers are the modules in the backbone's ``blocks``; weights and their names stay as they are. Raises
    TransfuseError where a backbone of a plugin keeps its layers elsewhere.
    """
    layers = getattr(model.backbone, "blocks", None)
    if not isinstance(layers, nn.ModuleList):
        raise TransfuseError(
            f"train.recompute: block {type(model.backbone).__name__} has no nn.ModuleList named blocks with its "
            f"layers; name it so in the plugin, or leave train.recompute false"
        )
    for layer in layers:
        layer.forward = _recomputed(type(layer).forward.__get__(layer))


def _recomputed(run: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any) -> Any:
        return checkpoint(run, *args, use_reentrant=False) if torch.is_grad_enabled() else run(*args)

    return forward
