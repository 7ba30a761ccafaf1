"""Guidance: a prediction is pushed away from what the model says of the document without some of its items.

Classifier-free guidance (arXiv 2207.12598) over a list of views. With g the prediction of the whole
document and u that of a view, each view in turn makes g = u + scale·(g - u): one view is the usual form,
two are BAGEL's text and image guidance (arXiv 2505.14683, its code's order).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from transfuse.config.parts import Settings
from transfuse.config.recipe import Role, Share
from transfuse.config.validation import InvalidSettings
from transfuse.documents import View
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.modalities import seam
from transfuse.modalities.modality import Evaluate, Modality
from transfuse.modalities.objective import Denoise, broadcast_like

Scale = Annotated[float, Field(ge=0, le=100)]
USUAL = 3.0
"""The scale where none is said: the paper's in its ablations (5 at 7 B)."""


class ViewSettings(Settings):
    """A view of the document, and how far its prediction is pushed away from."""

    drop: Annotated[tuple[Role, ...], Field(max_length=64)] = ()
    """Roles whose droppable items the view leaves out; none named: of all roles."""
    scale: Scale
    """1 is no guidance, and costs nothing."""

    @property
    def view(self) -> View:
        return View(frozenset(self.drop) or None)


class GuidanceSettings(Settings):
    """What a modality's samples are guided by."""

    scale: Scale | None = None
    """Short for one view that drops all droppable items; `USUAL` where neither it nor views are given."""
    views: Annotated[tuple[ViewSettings, ...], Field(max_length=16)] | None = None
    """The list, instead of scale."""
    interval: tuple[Share, Share] = (0.0, 1.0)
    """Guide only where the share of noise lies in it, ends included (arXiv 2404.07724)."""
    rescale: Share = 0.0
    """By how much the guided prediction is brought back to the spread of the unguided one (arXiv 2305.08891,
    section 3.4)."""

    @model_validator(mode="after")
    def _one_meaning(self) -> "GuidanceSettings":
        if self.scale is not None and self.views is not None:
            raise InvalidSettings([((), "takes one of scale and views, not both")])
        if self.interval[0] > self.interval[1]:
            raise InvalidSettings([(("interval",), f"must rise, not {list(self.interval)}")])
        seen = [view.view for view in self.views or ()]
        for i, view in enumerate(seen):
            if view in seen[:i]:
                raise InvalidSettings([(("views", i, "drop"), "is what another view drops already")])
        return self

    @property
    def chain(self) -> tuple[ViewSettings, ...]:
        """The views that have an effect, in order."""
        usual = USUAL if self.scale is None else self.scale
        given = (ViewSettings(scale=usual),) if self.views is None else self.views
        return tuple(view for view in given if view.scale != 1)

    @property
    def views_dropped(self) -> tuple[View, ...]:
        """What a modality says as its ``views``."""
        return tuple(view.view for view in self.chain)

    def within(self, share: float) -> bool:
        """Whether samples are guided at this share of noise."""
        return self.interval[0] <= share <= self.interval[1]

    def mix(self, predictions: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, "..."]:
        """The guided prediction, before it is rescaled; the whole document's first, then each view's."""
        guided, *others = predictions
        for view, u in zip(self.chain, others, strict=True):
            guided = u + view.scale * (guided - u)
        return guided

    def denoiser(
        self, evaluate: Evaluate, share: Callable[[Float[Tensor, " B"]], Float[Tensor, " B"]]
    ) -> Denoise:
        """What a sampler calls: B spans guided where their time's share of noise lies in the interval.

        Where none does, only the whole documents are evaluated.
        """

        def denoise(x_t: Float[Tensor, "B ..."], t: Float[Tensor, " B"]) -> Float[Tensor, "B ..."]:
            at = share(t)
            inside = (self.interval[0] <= at) & (at <= self.interval[1])
            if not self.chain or not inside.any():
                return evaluate(x_t, t.float(), guided=False)[0]
            predictions = evaluate(x_t, t.float())
            guided = rescaled(self.mix(predictions), predictions[0], self.rescale)
            return torch.where(broadcast_like(inside, guided).bool(), guided, predictions[0])

        return denoise


def rescaled(
    guided: Float[Tensor, "B ..."], plain: Float[Tensor, "B ..."], share: float
) -> Float[Tensor, "B ..."]:
    """Each span's guided prediction, by ``share`` brought to the plain one's standard deviation."""
    if not share:
        return guided
    own, wanted = (x.flatten(1).std(dim=1, correction=0) for x in (guided, plain))
    ratio = share * wanted / own.clamp(min=1e-12) + 1 - share
    return guided * broadcast_like(ratio, guided)


def all_views(modalities: Mapping[str, Modality]) -> tuple[View, ...]:
    """The views of all modalities, each once, in the order they are met."""
    return tuple(
        dict.fromkeys(view for modality in modalities.values() for view in seam.call(modality, "views"))
    )


def check_views(modalities: Mapping[str, Modality]) -> None:
    """Raises TransfuseError where a view drops a role that there is not."""
    for name, modality in modalities.items():
        for view in seam.call(modality, "views"):
            for role in sorted((view.drop or frozenset()) - modalities.keys()):
                raise TransfuseError(
                    f"modality {name!r}: a view of its guidance drops {role!r}, which is no role of this "
                    f"recipe; {did_you_mean(role, modalities)}"
                )
