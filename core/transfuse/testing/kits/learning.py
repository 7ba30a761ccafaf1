"""What holds of a modality in a model that is trained: gradients, weights, precision, devices, compilers."""

import copy
import json
from collections.abc import Callable

import torch
from torch import Tensor
from torch._dynamo import reset

from transfuse.modalities import seam
from transfuse.modalities.modality import SpanModality
from transfuse.testing.kits.computing import near_in_bfloat16, nothing_left_on_the_cpu
from transfuse.testing.kits.modality_case import ModalityCase
from transfuse.testing.kits.runner import Kit, LeftOut, close, expect

LEARNING: Kit[ModalityCase] = Kit("modality")
STEPS = 30


@LEARNING.check(
    "change connect so that it makes its layers by torch.nn alone, whose weights torch's seed fixes"
)
def connecting_is_fixed_by_the_seed(at: ModalityCase) -> None:
    """Models of one seed have equal weights, all of them finite."""
    one, two = (at.new_model(seed=3).state_dict() for _ in "ab")
    expect(one.keys() == two.keys(), "two models of one seed have other weights by name")
    differ = [name for name in one if not one[name].equal(two[name])]
    expect(not differ, f"two models of one seed differ in {', '.join(differ[:4])}")
    expect(
        all(w.isfinite().all() for w in one.values() if w.is_floating_point()), "weights are NaN or infinite"
    )


@LEARNING.check("change embed, head and objective so that every layer that connect makes is used")
def every_weight_gets_a_gradient(at: ModalityCase) -> None:
    """After a few steps the losses, its own and of what stands behind it, have reached every weight of its own."""
    model = at.new_model().train()
    touched: set[str] = set()
    own = {n: p for n, p in model.modalities[at.name].named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(model.trained(), lr=0.1)
    batch = at.batch(model=model)
    for _ in range(3):  # layers that begin at zero keep others from a gradient at first
        optimizer.zero_grad()
        torch.stack([loss.sum / loss.count for loss in model.losses(batch).values()]).sum().backward()
        touched |= {n for n, p in own.items() if p.grad is not None and p.grad.any()}
        optimizer.step()
    expect(touched == own.keys(), f"no gradient reached {', '.join(sorted(own.keys() - touched)[:4])}")


@LEARNING.check(
    "change connect so that layers are attributes or in nn.ModuleList, where torch looks for weights"
)
def weights_are_where_torch_finds_them(at: ModalityCase) -> None:
    """Nothing that the loss depends on is left out of parameters()."""
    model = at.new_model().train()
    known = {id(p) for p in model.parameters()}
    loss = at.loss(model, at.batch(model=model))
    strange = [leaf for leaf in _leaves(loss) if id(leaf) not in known]
    shapes = ", ".join(str(list(leaf.shape)) for leaf in strange[:4])
    expect(not strange, f"weights of shape {shapes} have a gradient and are not among parameters()")


@LEARNING.check(
    "change embed, head and objective so that the loss can be lowered: no detach, one loss a target"
)
def training_lowers_the_loss(at: ModalityCase) -> None:
    """On one batch, seen again and again, the loss falls."""
    model = at.new_model().train()
    batch, optimizer = at.batch(model=model), torch.optim.AdamW(model.trained(), lr=1e-2)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = at.loss(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    seen = f"{losses[0]:.3g} at first, and {losses[-1]:.3g} after {STEPS} steps on one batch"
    expect(losses[-1] < 0.95 * losses[0], seen)


@LEARNING.check("change spans, embed and objective so that documents of a row do not meet")
def packing_changes_no_loss(at: ModalityCase) -> None:
    """The losses of a row are those of its documents, each in a row of its own."""
    documents = at.documents()[:3]
    with torch.no_grad():
        whole = at.model.losses(at.batch(at.row(documents)))
        alone = [at.model.losses(at.batch(at.row([document]))) for document in documents]
    if at.name not in whole:
        raise LeftOut("it has no loss in a document of its own")
    parts = torch.stack([found[at.name].sum.reshape(()) for found in alone if at.name in found]).sum()
    total = whole[at.name].sum.reshape(())
    expect(
        close(total, parts),
        f"{float(total):.5g} packed in one row, and {float(parts):.5g} in rows of their own",
    )


@LEARNING.check("change connect so that all that training changes is a parameter or a buffer")
def saved_weights_bring_it_back(at: ModalityCase) -> None:
    """A model made anew, given the saved weights, has the same loss."""
    model, batch = at.model, at.batch()
    other = at.new_model(seed=8).eval()
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    with torch.no_grad():
        here, there = at.loss(model, batch), at.loss(other, batch)
    expect(
        close(here, there),
        f"a loss of {float(here):.5g}, and {float(there):.5g} with the same weights loaded",
    )


@LEARNING.check(
    "change facts and restore so that restore(facts()) sets all that connect, embed and objective read"
)
def restored_it_has_the_same_loss(at: ModalityCase) -> None:
    """Facts through JSON and weights, into one as it was built: the same loss."""
    fresh, model = at.unfit(), at.model
    seam.call(fresh, "restore", json.loads(json.dumps(seam.facts(at.modality))))
    fresh.load_state_dict(at.modality.state_dict())
    other = at.new_model(modality=fresh).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        here, there = at.loss(model, at.batch()), at.loss(other, at.batch(model=other))
    expect(close(here, there), f"a loss of {float(here):.5g}, and {float(there):.5g} restored")


@LEARNING.check(
    "change flops so that it returns multiply-adds × 2 of its layers over a span, a number from 0 on",
    of=SpanModality,
)
def its_cost_is_a_number(at: ModalityCase) -> None:
    """flops is a number, and a longer span costs more, where any costs anything."""
    n = at.alike[0].length
    one, two = (seam.call(at.connected, "flops", length) for length in (n, 2 * n))
    expect(one < two or one == two == 0, f"{one:g} FLOPs for {n} positions, and {two:g} for twice as many")


@LEARNING.check("change embed, head and objective so that no tensor is moved or cast to a set dtype, or say does_not"
                " = {'bf16': reason}", ability="bf16")  # fmt: skip
def it_trains_in_bfloat16(at: ModalityCase) -> None:
    """Under autocast to bfloat16 the loss is finite, near that of float32, and has gradients."""
    near_in_bfloat16(at)


@LEARNING.check("change embed, head and objective so that what they make goes where their weights are and no value is"
                " read, or say does_not = {'device': reason}", ability="device")  # fmt: skip
def it_trains_on_another_device(at: ModalityCase) -> None:
    """Weights and batch on a device that is only pretended: nothing is left on the CPU, and no value is read."""
    nothing_left_on_the_cpu(at)


@LEARNING.check("change embed, head and objective so that torch.compile can trace them, or say does_not = {'compile':"
                " reason}", ability="compile", of=SpanModality)  # fmt: skip
def it_compiles(at: ModalityCase) -> None:
    """torch.compile (aot_eager) gives the same loss and gradients."""
    reset()
    forward = _forward(at.connected, at.alike[0].copy)
    given = vars(at.noised()).values()
    one, two = forward(*given), torch.compile(forward, backend="aot_eager")(*given)
    weights = [p for p in at.connected.parameters() if p.requires_grad]
    grads = [torch.autograd.grad(each, weights, allow_unused=True) for each in (one, two)]
    same = all((a is None) == (b is None) and (a is None or close(a, b)) for a, b in zip(*grads, strict=True))
    expect(close(one, two), f"a loss of {float(two):.5g} compiled, and {float(one):.5g} as it is")
    expect(same, "compiled, it has other gradients")


def _forward(m: SpanModality, copy_: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Its own layers and its loss as one function of x_t, t and target."""

    def loss(x_t: Tensor, t: Tensor, target: Tensor) -> Tensor:
        vectors, state = m.embed(x_t, t, **seam.accepted(m.embed, copy=copy_))
        prediction = m.head(vectors, state, t, **seam.accepted(m.head, copy=copy_))
        return m.objective(prediction, target, t, **seam.accepted(m.objective, copy=copy_)).sum

    return loss


def _leaves(loss: Tensor) -> list[Tensor]:
    """The tensors with a gradient that a loss was made from."""
    found, seen, waiting = [], set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        found += [] if leaf is None else [leaf]
        waiting += [following for following, _ in node.next_functions]
    return found
