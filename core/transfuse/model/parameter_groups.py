"""Which parts of a model learn how fast: factors on the learning rate or the gradient; 0 freezes.

AdamW divides each step by the size of the gradients it has seen, so a constant factor on the gradient
is undone: what makes a part learn slower is a factor on its learning rate (LMFusion, arXiv 2412.15188, has
0 for the language model's weights). A factor on the gradient acts before the norm is clipped, so it
changes the part's share of that norm; and where gradients are as small as eps.
"""

from collections.abc import Iterable, Mapping

from torch import nn

from transfuse.errors import TransfuseError, did_you_mean
from transfuse.model.model import Model

Factors = Mapping[str, float | Mapping[str, float]]
"""By part: ``backbone`` (or, in it, a modality that has an expert), ``vocabulary``, or a modality."""


def parts(model: Model) -> dict[str, list[nn.Parameter]]:
    """The model's weights by part, as `Factors` name them: ``backbone``, ``backbone.text``, …

    ``vocabulary`` is the embedding and the output layer, a modality's part the layers that it brings.
    """
    found = {
        "backbone": list(model.backbone.parameters()),
        "vocabulary": list({id(p): p for p in (model.tokens.weight, model.unembed.weight)}.values()),
    }
    found |= {name: list(modality.parameters()) for name, modality in model.parts()}
    for role in model.backbone.roles:
        found[f"backbone.{role}"] = [p for _, p in model.backbone.expert(role)]
    return found


def by_parameter(model: Model, factors: Factors | None, key: str) -> dict[nn.Parameter, float]:
    """The factor of each parameter that has one other than 0. ``key``: what messages call the setting.

    Raises TransfuseError for a part that the model has not, or that has no weights to train.
    """
    return _by_parameter(model, [(name, factor) for name, factor in _flat(factors) if factor], key)


def _by_parameter(model: Model, factors: Iterable[tuple[str, float]], key: str) -> dict[nn.Parameter, float]:
    known = parts(model)
    found: dict[nn.Parameter, float] = {}
    for name, factor in factors:
        if name not in known:
            cure = did_you_mean(name, known)
            if name.startswith("backbone.") and not model.backbone.roles:
                cure = "its modalities share one backbone unless model.experts is per-modality"
            raise TransfuseError(f"{key}.{name}: this model has no such part; {cure}")
        own = [p for p in known[name] if p.requires_grad]
        if not own:
            raise TransfuseError(
                f"{key}.{name}: it has no weights of its own to train; a modality's ids are in vocabulary"
            )
        found |= dict.fromkeys(own, factor)
    return found


def freeze(model: Model, factors: Factors | None) -> None:
    """What has the factor 0 is not trained: no gradient, no optimiser state, no weight decay."""
    for parameter, factor in _by_parameter(model, _flat(factors), "train.lr_scale").items():
        if factor == 0:
            parameter.requires_grad_(False)


def _flat(factors: Factors | None) -> Iterable[tuple[str, float]]:
    for part, factor in (factors or {}).items():
        if isinstance(factor, Mapping):
            yield from ((f"{part}.{inside}", each) for inside, each in factor.items())
        else:
            yield part, factor
