"""How a backbone's layers run in training: compiled, or computed again instead of kept (activation checkpointing)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from transfuse.config.recipe import TrainSettings
from transfuse.errors import TransfuseError
from transfuse.model.model import Model


def prepare_layers(model: Model, train: TrainSettings) -> None:
    """Make the layers run as ``train.compile`` and ``train.recompute`` say, where gradients are asked for.

    Layers are the modules in the backbone's ``blocks``; weights and their names stay as they are. Raises
    TransfuseError where a backbone of a plugin keeps its layers elsewhere.
    """
    if not (train.compile or train.recompute):
        return
    layers = getattr(model.backbone, "blocks", None)
    if not isinstance(layers, nn.ModuleList):
        setting = "compile" if train.compile else "recompute"
        raise TransfuseError(
            f"train.{setting}: block {type(model.backbone).__name__} has no nn.ModuleList named blocks with its "
            f"layers; name it so in the plugin, or leave train.{setting} false"
        )
    for layer in layers:
        plain = type(layer).forward.__get__(layer)
        run = torch.compile(plain, dynamic=True) if train.compile else plain
        layer.forward = _in_training(plain, _recomputed(run) if train.recompute else run)


def _recomputed(run: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: checkpoint(run, *args, use_reentrant=False)


def _in_training(plain: Callable[..., Any], trained: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: (trained if torch.is_grad_enabled() else plain)(*args)
