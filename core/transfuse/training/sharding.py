"""A model whose weights are divided among ranks: torch's ``fully_shard``, a block at a time, and the rest at once.

Divided among some ranks and copied among the groups of them (a 2-D mesh), it is hybrid sharding; among one, plain data
parallelism. Optimiser and averages work on a rank's own part of each weight and need no communication.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from transfuse.errors import TransfuseError
from transfuse.model.model import Model
from transfuse.training.deferred import Recording
from transfuse.training.ranks import Ranks

if TYPE_CHECKING:  # torch.distributed takes seconds to import: where one process trains, it is not
    from torch.distributed.device_mesh import DeviceMesh


class Shards:
    """A model's weights on this rank, and the gradients and losses of all ranks added up.

    parameters: by name, the model's own; local: this rank's part of each, in the same memory.
    divided: among how many ranks each weight is.

    Weights that no rank may divide are whole on each: codecs, which are frozen and used outside the model, and
    scalars. ``mixed``: blocks are gathered in bfloat16, their gradients added up in float32. ``recording``: of a model
    that was built without memory, whose weights are drawn once they are divided, unless ``drawn`` is false, for they
    will be loaded.
    """

    def __init__(
        self,
        model: Model,
        ranks: Ranks,
        divided: int | None = None,
        mixed: bool = False,
        recording: Recording | None = None,
        drawn: bool = True,
    ) -> None:
        self.ranks = ranks
        self.divided = 1 if ranks.size == 1 else divided or ranks.size
        self._reached: set[str] = set()
        self._gathered: dict[int, Tensor] = {}
        self._hidden: Tensor | None = None
        if ranks.size > 1:
            wanted = without_memory(model)
            self._shard(model, mixed)
            if recording is not None:
                self._give_memory(model, recording, wanted, drawn)
        self.parameters: dict[str, Any] = dict(model.named_parameters())
        self.local = {name: _own_part(p) if is_divided(p) else p for name, p in self.parameters.items()}
        self.trained = {name: part for name, part in self.local.items() if part.requires_grad}
        self.local_of = {parameter: self.local[name] for name, parameter in self.parameters.items()}

    # -- made

    def _shard(self, model: Model, mixed: bool) -> None:
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

        mesh = mesh_of(self.ranks, self.divided)
        whole = {p for p in model.parameters() if p.dim() == 0}
        whole |= {p for m in model.modalities.values() for p in m.parameters() if not p.requires_grad}
        layers = getattr(model.backbone, "blocks", None)
        exact = MixedPrecisionPolicy(cast_forward_inputs=False)
        rounded = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        modules = list(layers) if isinstance(layers, nn.ModuleList) else []
        names = {module: name for name, module in model.named_modules()}
        for module in [*modules, model]:
            policy = rounded if mixed and module is not model else exact
            fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=whole)
            divided = cast(FSDPModule, module)
            divided.set_gradient_divide_factor(
                1.0
            )  # losses are shares of the step's: their sum is its gradient
            divided.set_force_sum_reduction_for_comms(True)
            divided.set_reduce_scatter_unused_params(True)  # a modality may be absent on one rank alone
            prefix = f"{names[module]}." if names[module] else ""
            module.register_forward_pre_hook(partial(self._listen, prefix))
        for parameter in whole:
            if not parameter.is_meta:
                parameter.data = parameter.data.to(self.ranks.device)
        model.backbone.register_forward_pre_hook(_with_gradient)
        model.register_forward_hook(self._keep_hidden)

    def _give_memory(
        self, model: Model, recording: Recording, wanted: dict[str, Tensor], drawn: bool
    ) -> None:
        """Memory for this rank's parts alone, and in them what belongs there of what the recording draws."""
        device = self.ranks.device
        tied: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
        for module in model.modules():
            for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
                tied.setdefault(parameter, []).append((module, key))
        model._apply(lambda t: torch.empty_like(t, device=device) if t.is_meta else t.to(device))
        for (first, name), *others in tied.values():
            for module, key in others:
                setattr(module, key, getattr(first, name))
        state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        loaded = () if drawn else model.state_dict().keys()

        def put(name: str, whole: Tensor) -> None:
            module, _, attribute = name.rpartition(".")
            if name not in state:
                setattr(model.get_submodule(module), attribute, whole.clone().to(device))
            elif is_divided(target := state[name]):
                (chunk,) = target.__create_chunk_list__()
                own = (slice(a, a + n) for a, n in zip(chunk.offsets, chunk.sizes, strict=True))
                target.to_local().copy_(whole[tuple(own)])
            else:
                target.copy_(whole)

        if left := {name: tensor for name, tensor in wanted.items() if name not in loaded}:
            with torch.no_grad():
                recording.draw(left, put)

    def _listen(self, prefix: str, module: nn.Module, _: Any) -> None:
        """Notes which gathered weights a gradient reaches: afterwards none looks like one of zeros."""
        for name, parameter in module.named_parameters():
            if is_divided(parameter) or id(parameter) in self._gathered or not parameter.requires_grad:
                continue
            self._gathered[id(parameter)] = parameter
            parameter.register_post_accumulate_grad_hook(partial(self._reach, prefix + name))

    def _reach(self, name: str, _: Tensor) -> None:
        self._reached.add(name)

    def _keep_hidden(self, module: nn.Module, _: Any, output: tuple[Tensor, Any]) -> None:
        self._hidden = output[0] if torch.is_grad_enabled() else None

    # -- in a step

    def through_all(self, total: Tensor) -> Tensor:
        """The same loss, with a gradient of 0 through every layer: each rank gathers each in the same order, also one
        whose rows have nothing to predict."""
        hidden, self._hidden = self._hidden, None
        return total if hidden is None else total + hidden[:1].sum().to(total.dtype) * 0

    def add_up(self, losses: Mapping[str, Tensor], roles: tuple[str, ...]) -> dict[str, Tensor]:
        """The losses by role added up over all ranks, and so the gradients of weights that are whole on each.

        A weight that no rank's gradient reached has none, as where one rank trains. roles: of all losses there may be.
        """
        if self.ranks.size == 1:
            return dict(losses)
        names = [name for name, part in self.local.items() if part.requires_grad]
        whole = [name for name in names if not is_divided(self.parameters[name])]
        self._reached |= {name for name in whole if self.parameters[name].grad is not None}
        heard = [float(role in losses) for role in roles] + [float(name in self._reached) for name in names]
        mine = [losses[role].double().cpu() for role in roles if role in losses]
        sums = iter(mine)
        values = [next(sums) if role in losses else torch.zeros((), dtype=torch.float64) for role in roles]
        parts = [torch.tensor(heard, dtype=torch.float64), torch.stack(values)]
        parts += [_gradient(self.parameters[name]).double().cpu().flatten() for name in whole]
        added = self.ranks.add(torch.cat(parts))
        said, values, *gradients = added.split([len(part) for part in parts])
        for name, gradient in zip(whole, gradients, strict=True):
            parameter = self.parameters[name]
            parameter.grad = gradient.view(parameter.shape).to(parameter)
        for name, times in zip(names, said[len(roles) :].tolist(), strict=True):
            if not times:
                self.parameters[name].grad = None
        self._reached.clear()
        return {role: v for role, v, times in zip(roles, values, said.tolist(), strict=False) if times}

    def hand_over(self) -> None:
        """Each gradient to this rank's part of its weight, which the optimiser changes."""
        for name, part in self.trained.items():
            if (parameter := self.parameters[name]) is not part:
                part.grad = None if parameter.grad is None else parameter.grad.to_local()

    def norm(self) -> Tensor:
        """The length of the whole gradient."""
        own = [part.grad for part in self.trained.values() if part.grad is not None]
        if self.ranks.size == 1:
            return torch.nn.utils.get_total_norm(own)
        square = torch.zeros((), dtype=torch.float64)
        for name, part in self.trained.items():
            if part.grad is not None:
                copies = self.copies(self.parameters[name])
                square += torch.linalg.vector_norm(part.grad, dtype=torch.float64).square().cpu() / copies
        return self.ranks.add(square).sqrt()

    def copies(self, parameter: Tensor) -> int:
        """How many ranks hold the same part of a weight."""
        return self.ranks.size // self.divided if is_divided(parameter) else self.ranks.size

    def as_whole(self, name: str, part: Tensor) -> Tensor:
        """What belongs to this rank's part of a weight (a moment, an average), as a tensor that knows its place."""
        parameter = self.parameters[name]
        if not is_divided(parameter) or not part.dim():
            return part
        from torch.distributed.tensor import DTensor

        return DTensor.from_local(
            part.detach(), parameter.device_mesh, parameter.placements, run_check=False,
            shape=parameter.shape, stride=parameter.stride(),
        )  # fmt: skip


def mesh_of(ranks: Ranks, divided: int) -> "DeviceMesh":
    """Groups of ``divided`` ranks that follow each other, as those of a node do; each group has all of the weights.

    Raises TransfuseError where they do not come out even.
    """
    if ranks.size % divided:
        raise TransfuseError(
            f"train.shard: {ranks.size} ranks are no groups of {divided}: give a divisor of {ranks.size}, or null"
        )
    from torch.distributed.device_mesh import init_device_mesh

    if divided == ranks.size:
        return init_device_mesh(ranks.device.type, (divided,), mesh_dim_names=("shard",))
    shape = (ranks.size // divided, divided)
    return init_device_mesh(ranks.device.type, shape, mesh_dim_names=("replicate", "shard"))


def without_memory(model: nn.Module) -> dict[str, Tensor]:
    """The weights, buffers and other tensors of a model's modules that have a shape alone, by name."""
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, module in model.named_modules():
        own = {f"{name}.{key}": value for key, value in vars(module).items() if isinstance(value, Tensor)}
        found |= own
    return {name: tensor for name, tensor in found.items() if tensor.is_meta}


@torch.no_grad()
def put_rows(target: Tensor, first: int, count: int, source: Any) -> None:
    """Write the first ``count`` rows of ``source``, a tensor or what gives slices of one in a file, into the rows of
    ``target`` from ``first`` on; where that is divided among ranks, those of this rank are read, and no other."""
    begin, end = _rows(target)
    part = cast(Any, target).to_local() if is_divided(target) else target
    low, high = max(first, begin), min(first + count, end)
    if low < high:
        part[low - begin : high - begin].copy_(source[low - first : high - first])


def rows_here(table: Tensor, rows: int) -> int:
    """How many of a table's first rows this rank's part of it begins with."""
    begin, end = _rows(table)
    return min(max(rows - begin, 0), end - begin)


def _rows(table: Tensor) -> tuple[int, int]:
    """From which row to which this rank's part goes."""
    if not is_divided(table):
        return 0, len(table)
    (chunk,) = cast(Any, table).__create_chunk_list__()
    return chunk.offsets[0], chunk.offsets[0] + chunk.sizes[0]


def is_divided(tensor: Tensor) -> bool:
    """Whether this rank has a part of it alone: it is a DTensor."""
    return hasattr(tensor, "device_mesh")


def _own_part(parameter: Any) -> nn.Parameter:
    return nn.Parameter(parameter.to_local().detach(), requires_grad=parameter.requires_grad)


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _with_gradient(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Every rank's backward pass goes through all layers, also where nothing before them is trained."""
    x, *rest = inputs
    if torch.is_grad_enabled() and not x.requires_grad:
        x = x.detach().requires_grad_()
    return (x, *rest)
