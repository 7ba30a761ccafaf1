"""What kits ask alike of whatever is tried in a model: that it trains in another precision, and on another device."""

from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from transfuse.model.model import Model
from transfuse.sequences.batch import Batch
from transfuse.testing.kits.runner import expect
from transfuse.testing.pretended import put

DEVICE = "meta"
"""The name of the device that is pretended: where torch is built without CUDA it is the only one to be had."""


class InAModel(Protocol):
    """A case whose part stands in a model."""

    @cached_property
    def model(self) -> Model: ...

    def new_model(self) -> Model: ...

    def batch(self, *, model: Any = None) -> Batch: ...

    def loss(self, model: Model, batch: Batch) -> Tensor: ...


def near_in_bfloat16(at: InAModel) -> None:
    """Under autocast to bfloat16 the loss is near that of float32, and has gradients."""
    batch = at.batch()
    with torch.no_grad():
        wide = float(at.loss(at.model, batch))
    with torch.autocast("cpu", torch.bfloat16):
        loss = at.loss(at.model, batch)
    loss.backward()
    at.model.zero_grad()
    near = abs(float(loss.detach()) - wide) <= 0.1 * (abs(wide) + 1)
    expect(near, f"a loss of {float(loss.detach()):.4g} in bfloat16, and {wide:.4g} in float32")


def nothing_left_on_the_cpu(at: InAModel) -> None:
    """A step with weights and batch on a device that is only pretended, where no value can be read; how many positions
    a router sends somewhere may rest on values."""
    model = at.new_model().train()
    batch = at.batch(model=model)
    shapes = ShapeEnv(allow_scalar_outputs=False, allow_dynamic_output_shape_ops=True)
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=shapes) as mode:
        put(model, mode, DEVICE)
        at.loss(model, batch.to(DEVICE)).backward()
