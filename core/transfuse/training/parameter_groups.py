"""Which groups of a model's weights learn how fast: factors on the learning rate or the gradient; 0 freezes.

AdamW divides each step by the size of the gradients it has seen, so a constant factor on the gradient
is undone: what makes weights learn slower is a factor on their learning rate (LMFusion, arXiv 2412.15188, has
0 for the language model's). A factor on the gradient acts before the norm is clipped, so it changes the
group's share of that norm; and where gradients are as small as eps.
"""

from collections.abc import Iterable, Mapping

from torch import nn

from transfuse.errors import TransfuseError, did_you_mean
from transfuse.model.model import Model
from transfuse.training.growing import INHERITED, Inherited

Factors = Mapping[str, float | Mapping[str, float]]
"""By group: ``backbone`` (or, in it, a modality that has weights of its own), ``vocabulary``, a modality, or
``inherited``."""


def parameter_groups(model: Model, inherited: Inherited | None = None) -> dict[str, list[nn.Parameter]]:
    """The model's weights by group, as `Factors` name them: ``backbone``, ``backbone.text``, …

    ``vocabulary`` is the embedding and the output layer, a modality's group the layers that it brings,
    ``backbone.text`` what text's positions alone go through, and ``inherited`` all that is from the run that this one
    began from, but for rows of the vocabulary (`growing.HeldRows`).
    """
    found = {
        "backbone": list(model.backbone.parameters()),
        "vocabulary": list({id(p): p for p in (model.tokens.weight, model.unembed.weight)}.values()),
    }
    found |= {name: list(modality.parameters()) for name, modality in model.modalities.items()}
    used = {name: [p for _, p in model.backbone.weights(name)] for name in model.modalities}
    for name, weights in used.items():
        others = {p for other in used.keys() - {name} for p in used[other]}
        if own := [p for p in weights if p not in others]:
            found[f"backbone.{name}"] = own
    if inherited is not None:
        found[INHERITED] = inherited.weights(model)
    return found


def factor_by_parameter(
    model: Model, factors: Factors | None, key: str, inherited: Inherited | None = None
) -> dict[nn.Parameter, float]:
    """The factor of each parameter of the groups that have one. ``key``: what messages call the setting.

    Raises TransfuseError for a group that the model has not, or that has no weights to train.
    """
    groups = parameter_groups(model, inherited)
    found: dict[nn.Parameter, float] = {}
    for name, factor in _flat(factors):
        if name not in groups:
            cure = did_you_mean(name, groups)
            if name.removeprefix("backbone.") in model.modalities:
                cure = "its modalities share the backbone's: model.block=per-modality gives each its own"
            elif name == INHERITED:
                cure = "it is for train.lr_scale where a run begins from another: say --from RUN, or leave it out"
            raise TransfuseError(f"{key}.{name}: this model has no such weights; {cure}")
        if not groups[name] or (factor and not any(p.requires_grad for p in groups[name])):
            raise TransfuseError(
                f"{key}.{name}: it has no weights of its own to train; a modality's ids are in vocabulary"
            )
        found |= dict.fromkeys(groups[name], factor)
    return found


def freeze(model: Model, factors: Factors | None, inherited: Inherited | None = None) -> None:
    """What has the factor 0 is not trained: no gradient, no optimiser state, no weight decay."""
    for parameter, factor in factor_by_parameter(model, factors, "train.lr_scale", inherited).items():
        if factor == 0:
            parameter.requires_grad_(False)


def _flat(factors: Factors | None) -> Iterable[tuple[str, float]]:
    for group, factor in (factors or {}).items():
        if isinstance(factor, Mapping):
            yield from ((f"{group}.{inside}", each) for inside, each in factor.items())
        else:
            yield group, factor
