"""The doors for plugins: each hook returns the parts of one kind that a plugin provides.

A plugin is a module (or object) with functions named after hooks and marked ``@hookimpl``, made
known by an entry point in the group ``transfuse.plugins``. The order of plugins never means
anything: parts are found by name, and two plugins that provide one name are an error.
"""

from typing import Any

import pluggy

from transfuse.config.parts import Part

PROJECT = "transfuse"

hookimpl = pluggy.HookimplMarker(PROJECT)
hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def transfuse_codecs() -> list[Part]:  # type: ignore[empty-body]
    """Frozen encoders and decoders between raw data and what a model sees.

    build(settings) -> `transfuse.modalities.codec.Codec`.
    """


@hookspec
def transfuse_patchers() -> list[Part]:  # type: ignore[empty-body]
    """Ways from latents to the model's width and back, such as a linear layer or a U-Net.

    build(settings, shape=(c, h, w), dim=D) -> a patcher module for latents ``[c, h, w]`` and a model of
    width D, of the interface that the modality which uses it states.
    """


@hookspec
def transfuse_objectives() -> list[Part]:  # type: ignore[empty-body]
    """What is predicted and how it is scored: next-token, DDPM, flow.

    build(settings) -> a `TokenObjective` or `SpanObjective` of `transfuse.modalities.objective`.
    """


@hookspec
def transfuse_samplers() -> list[Part]:  # type: ignore[empty-body]
    """How predictions become data: DDIM, Euler, a temperature.

    build(settings) -> `transfuse.modalities.objective.Sampler`.
    """


@hookspec
def transfuse_modalities() -> list[Part]:  # type: ignore[empty-body]
    """Modalities; in a section the part is named by ``kind``.

    build(settings, name=role) -> `transfuse.modalities.modality.Modality`. ``role`` is the name a recipe gives it:
    several roles may share a kind.
    """


@hookspec
def transfuse_blocks() -> list[Part]:  # type: ignore[empty-body]
    """Kinds of transformer block: norms, projections, feed-forward, conditioning on time, experts.

    build(settings, model=ModelSettings, modalities=names, marker_modality=name) ->
    `transfuse.model.backbone.Backbone`: all blocks of a model. ``model`` is the recipe's ``model`` section;
    markers go through the weights of ``marker_modality``.
    """


@hookspec
def transfuse_attention_backends() -> list[Part]:  # type: ignore[empty-body]
    """Kernels that attend under a mask. build(settings) -> `transfuse.attention.Backend`."""


@hookspec
def transfuse_datasets() -> list[Part]:  # type: ignore[empty-body]
    """Data sets by name, for ``--data``. build(settings) -> `transfuse.datasets.DataSet`."""


@hookspec
def transfuse_metrics() -> list[Part]:  # type: ignore[empty-body]
    """What an evaluation measures. build(settings) -> `transfuse.metrics.Metric`."""


@hookspec
def transfuse_trackers() -> list[Part]:  # type: ignore[empty-body]
    """Where a run's measurements and samples go besides its log, for ``train --track``.

    build(settings, run=folder) -> `transfuse.training.tracker.Tracker`.
    """


@hookspec
def transfuse_registry() -> dict[str, Any]:  # type: ignore[empty-body]
    """Named modalities, masks and recipes, as registry.yaml has them.

    Returns ``{"modalities": {...}, "masks": {...}, "recipes": {...}}``, each optional.
    """


PARTS_HOOKS = {
    "codec": "transfuse_codecs",
    "patcher": "transfuse_patchers",
    "objective": "transfuse_objectives",
    "sampler": "transfuse_samplers",
    "modality": "transfuse_modalities",
    "block": "transfuse_blocks",
    "attention": "transfuse_attention_backends",
    "dataset": "transfuse_datasets",
    "metric": "transfuse_metrics",
    "tracker": "transfuse_trackers",
}
"""The kinds of parts, and the hook that returns each."""

HOOKS = (*PARTS_HOOKS.values(), "transfuse_registry")
