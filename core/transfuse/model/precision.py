"""In what numbers a model computes: its weights' own, or matrix products in bfloat16 (mixed precision).

    with computing_in(model, "bfloat16"):
        losses = model.losses(batch)  # or generation, or anything else that runs the model

Weights, their gradients, the optimiser and all that is saved stay float32, and so do embeddings, the residual stream,
sums inside norms and softmax, logits and losses. In bfloat16 are the inputs of the matrix products of the backbone and
the output layer, and queries, keys and values. What a modality is given and returns stays float32, and its layers
compute in it, unless it says ``mixed_precision``: then its ``embed`` and ``head`` run under autocast too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from transfuse.model.model import Model

DType = Literal["float32", "bfloat16"]


@contextmanager
def computing_in(model: Model, dtype: DType) -> Iterator[None]:
    """While it is entered, ``model`` computes in ``dtype``.

    In training enter it anew for each forward pass, and leave it before the backward one: it keeps what it casts. Where
    no gradients are asked for, in generation or evaluation, weights are cast when it is entered, and float32 again
    when it is left: enter it once, around all steps, and change no weights meanwhile. A cache of keys and values is
    made inside it, of ``model.compute_dtype``.
    """
    if dtype == "float32":
        yield
        return
    before, model.mixed_dtype = model.mixed_dtype, torch.bfloat16
    own = [*model.backbone.parameters(), *([] if model.settings.tied else [model.unembed.weight])]
    cast = [] if torch.is_grad_enabled() else [(p, p.data) for p in own if p.dim() > 1]
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(torch.is_grad_enabled()):
            for weight, full in cast:
                weight.data = full.to(torch.bfloat16)
        yield
    finally:
        model.mixed_dtype = before
        for weight, full in cast:
            weight.data = full
