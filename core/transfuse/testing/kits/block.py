"""The kit for blocks: a backbone of them sees what attention shows it, learns, decodes what it trains, and says which
weights a modality's positions go through.

It is tried in small models of letters and of noised numbers, the modalities of `transfuse.testing.modalities`.
"""

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transfuse import masks
from transfuse.config.parts import Chosen
from transfuse.config.recipe import ModelSettings
from transfuse.documents import Document
from transfuse.generation import generate
from transfuse.model.backbone import Backbone
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.rows import join
from transfuse.sequences.vocabulary import END, vocabulary_for
from transfuse.testing.kits.computing import near_in_bfloat16, nothing_left_on_the_cpu
from transfuse.testing.kits.runner import Kit, LeftOut, close, expect, global_randomness_untouched
from transfuse.testing.modalities import Blob, Letters, document
from transfuse.training.recompute import recompute_layers

BLOCK: Kit["BlockCase"] = Kit("block")
MASK = masks.parse("same(doc) & (le(idx) | same(span))")
DOCUMENTS = (("abca", [0.3, -0.7, 0.1]), ([0.5, 1.0], "bab"), ("cc", [0.2, -0.1], "ad"))
STEPS = 30


class BlockCase:
    """A block as a recipe's ``model.block`` chooses it. settings: of the models that it is tried in."""

    def __init__(self, block: Chosen[Any], **settings: Any) -> None:
        self.block = block
        self.settings: dict[str, Any] = {"dim": 48, "layers": 2, "heads": 2, **settings}

    @property
    def part(self) -> Backbone:
        return self.model.backbone

    @cached_property
    def model(self) -> Model:
        """One whose weights have moved a little: layers may begin at zero."""
        model, generator = self.new_model(), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.trained():
                weight += 0.05 * torch.randn(weight.shape, generator=generator)
        return model.eval()

    def again(self) -> Model:
        """Another with the same weights."""
        other = self.new_model(seed=8)
        other.load_state_dict(self.model.state_dict())
        return other.eval()

    def new_model(self, seed: int = 0) -> Model:
        modalities = {"letters": Letters(), "blob": Blob()}
        settings = ModelSettings(**self.settings, block=self.block)
        model = Model(settings, modalities, vocabulary_for(modalities), MASK, seed=seed)
        model.predictable[:] = True
        return model

    def documents(self) -> list[Document]:
        return [document(*items, id=i) for i, items in enumerate(DOCUMENTS)]

    def batch(self, documents: Sequence[Document] | None = None, model: Model | None = None) -> Batch:
        model = model or self.model
        given = self.documents() if documents is None else documents
        return collate(join([model.layout.sequence(one) for one in given]), model.modalities, Key(0))

    def loss(self, model: Model, batch: Batch) -> Tensor:
        return torch.stack([one.sum / one.count for one in model.losses(batch).values()]).sum()

    def output(self, batch: Batch, x: Tensor | None = None, model: Model | None = None) -> Tensor:
        """What it makes of a row's vectors; of noise where none are given."""
        model = model or self.model
        x = self.vectors(batch) if x is None else x
        t = torch.cat([group.t for group in batch.groups]) if batch.groups else x.new_empty(0)
        return model.backbone(x, model.prepare(batch), t, model.attend(batch.columns))

    def vectors(self, batch: Batch, seed: int = 1) -> Tensor:
        draw = torch.Generator().manual_seed(seed)
        return torch.randn(len(batch), self.settings["dim"], generator=draw)


@BLOCK.check("change forward so that it returns vectors [T, D] as it was given, finite")
def it_gives_a_vector_a_position(at: BlockCase) -> None:
    """The output has the shape and dtype of the vectors that go in, and is finite."""
    x = at.vectors(batch := at.batch())
    y = at.output(batch, x)
    expect(y.shape == x.shape, f"forward returned {list(y.shape)} for vectors {list(x.shape)}")
    expect(y.dtype == x.dtype and y.isfinite().all(), f"{y.dtype}, finite: {bool(y.isfinite().all())}")


@BLOCK.check("change the block so that it draws weights when it is built, and nothing later")
def it_is_fixed_by_its_seed(at: BlockCase) -> None:
    """The same seed gives the same weights, and equal rows the same outputs, without a global random state."""
    one, two = (at.new_model(seed=3).backbone.state_dict() for _ in range(2))
    expect(all(one[name].equal(two[name]) for name in one), "one seed gave two sets of weights")
    with global_randomness_untouched():
        same = at.output(at.batch()).equal(at.output(at.batch()))
    expect(same, "the same row gave other outputs")


@BLOCK.check("change prepare and forward so that they write into nothing that they are given")
def what_it_is_given_stays(at: BlockCase) -> None:
    """Vectors and columns are as they were."""
    batch = at.batch()
    x, kept = at.vectors(batch), copy.deepcopy(batch.columns)
    at.output(batch, x)
    expect(x.equal(at.vectors(batch)), "forward wrote into the vectors")
    changed = [name for name in kept if not np.array_equal(kept[name], batch.columns[name])]
    expect(not changed, f"the column {', '.join(changed)} was changed")


@BLOCK.check("change forward so that positions meet in attend alone")
def positions_meet_in_attention_alone(at: BlockCase) -> None:
    """A position's output rests on what the mask shows it, through all layers, and on nothing else."""
    batch = at.batch()
    shown = MASK.dense(batch.columns).float()
    reached = torch.linalg.matrix_power(shown, at.settings["layers"]) > 0
    plain, x = at.output(batch), at.vectors(batch)
    for j in range(0, len(x), 3):
        moved = x.clone()
        moved[j] += 1
        changed = (at.output(batch, moved) - plain).abs().amax(dim=1) > 1e-5
        wrong = (changed & ~reached[:, j]).nonzero().flatten().tolist()
        expect(not wrong, f"positions {wrong} change with position {j}, which they do not see")


@BLOCK.check("change forward so that q, k and v come from all of x, and what attend gives enters the output")
def attention_matters(at: BlockCase) -> None:
    """Positions do change with others that they see."""
    batch = at.batch()
    plain, moved = at.output(batch), at.vectors(batch)
    moved[0] += 1
    changed = (at.output(batch, moved) - plain).abs().amax(dim=1) > 1e-6
    expect(int(changed.sum()) > 1, "the first position of a document changes no other")


@BLOCK.check("change prepare so that it turns queries and keys by row.positions, or say does_not = {'order': reason}",
             ability="order")  # fmt: skip
def the_order_matters(at: BlockCase) -> None:
    """What is said at other rotary positions is something else; a block may read them in the column too."""
    batch = at.batch()
    plain = at.output(batch)
    batch.positions.mul_(2)
    batch.columns["pos"] = 2 * batch.columns["pos"]
    expect(not close(at.output(batch), plain), "rotary positions twice as far apart change nothing")


@BLOCK.check("change prepare and forward so that nothing of a row rests on the row's other documents")
def documents_of_a_row_do_not_meet(at: BlockCase) -> None:
    """Documents packed together have the losses that each has alone."""
    with torch.no_grad():
        whole = at.model.losses(at.batch())
        alone = [at.model.losses(at.batch([one])) for one in at.documents()]
    for role, loss in whole.items():
        total = torch.stack([found[role].sum for found in alone if role in found]).sum()
        seen = f"the losses of {role} are {float(loss.sum):.5g} packed and {float(total):.5g} alone"
        expect(close(loss.sum.reshape(()), total), seen)


@BLOCK.check("change the block so that every weight is used, or leave out what is not")
def every_weight_gets_a_gradient(at: BlockCase) -> None:
    """After a few steps the losses have reached every weight; so that routers send something everywhere, outputs of
    random vectors count as well."""
    model, touched = at.new_model().train(), set[str]()
    batch, optimizer = at.batch(model=model), torch.optim.SGD(model.trained(), lr=0.1)
    own = {name: p for name, p in model.backbone.named_parameters() if p.requires_grad}
    for i in range(6):
        optimizer.zero_grad()
        outputs = at.output(batch, at.vectors(batch, seed=10 + i), model) * at.vectors(batch)
        (at.loss(model, batch) + outputs.mean()).backward()
        touched |= {name for name, p in own.items() if p.grad is not None and p.grad.any()}
        optimizer.step()
    expect(touched == own.keys(), f"no gradient reached {', '.join(sorted(own.keys() - touched)[:4])}")


@BLOCK.check("change forward so that gradients go through it: no detach, and a residual past each layer")
def training_lowers_the_loss(at: BlockCase) -> None:
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
    expect(losses[-1] < 0.8 * losses[0], f"{losses[0]:.3g} at first, {losses[-1]:.3g} after {STEPS} steps")


@BLOCK.check(
    "change weights so that it yields (name, parameter) of what a modality's positions go through, each once"
)
def a_modality_has_its_weights(at: BlockCase) -> None:
    """``weights`` yields parameters of the block, each once, and every weight is some modality's."""
    names = {id(p): name for name, p in at.part.named_parameters()}
    found: set[int] = set()
    for role in at.model.modalities:
        own = list(at.part.weights(role))
        expect(len({name for name, _ in own}) == len(own), f"weights({role!r}) has a name twice")
        expect(
            all(id(p) in names for _, p in own), f"weights({role!r}) has what is no parameter of the block"
        )
        found |= {id(p) for _, p in own}
    missing = [name for key, name in names.items() if key not in found]
    expect(not missing, f"{', '.join(missing[:3])} is no modality's: a run that grows would lose it")


@BLOCK.check("change weights so that it names all that a modality's positions go through")
def other_weights_change_nothing(at: BlockCase) -> None:
    """A document of one modality does not change with the weights that are none of its own."""
    model = at.again()
    own = {id(p) for _, p in model.backbone.weights("letters")}
    others = [p for p in model.backbone.parameters() if id(p) not in own]
    if not others:
        raise LeftOut("all modalities share all weights")
    batch = at.batch([document("abcab")])
    plain = at.output(batch, model=model)
    with torch.no_grad():
        for weight in others:
            weight += 1
    expect(at.output(batch, model=model).equal(plain), "letters change with weights that are not theirs")


@BLOCK.check("change flops so that it returns multiply-adds × 2 of a position, a number over 0")
def its_cost_is_a_number(at: BlockCase) -> None:
    """``flops`` of each modality is a finite number over 0."""
    for role in at.model.modalities:
        cost = at.part.flops(role)
        expect(0 < cost < float("inf"), f"flops({role!r}) is {cost!r}")


@BLOCK.check("change the block so that all that training changes is a parameter or a buffer")
def saved_weights_bring_it_back(at: BlockCase) -> None:
    """A model made anew, given the saved weights, has the same outputs."""
    batch = at.batch()
    expect(close(at.output(batch, model=at.again()), at.output(batch)), "the same weights give other outputs")


@BLOCK.check("change forward so that it rests on prepare's row and attend alone, not on the row being whole")
def decoding_is_what_it_trained(at: BlockCase) -> None:
    """What is written letter by letter over a cache is likeliest in one pass over the whole document too."""
    prompt = document("ab", [0.3, -0.7, 0.1])
    (made,) = generate(at.model, [prompt], want="letters", greedy=True, tokens=5)
    row = join([at.model.layout.sequence(made)])
    with torch.no_grad():
        logits = at.model.logits(at.model(collate(row, at.model.modalities, Key(0), clean=True))[0])
    letters, start = at.model.vocabulary.range("letters"), len(at.model.layout.prompt(prompt)[0])
    allowed = [at.model.vocabulary.marker(END), *range(letters.start, letters.stop)]
    for place in range(
        start, len(row.tokens) - 1
    ):  # the end was set by the number of letters, of which one is least
        may = allowed[place == start :]
        behind = float(logits[place - 1, may].max() - logits[place - 1, row.tokens[place]])
        expect(behind < 1e-3, f"position {place} is written with {behind:.3g} nats less than the likeliest")


@BLOCK.check("change the block so that its layers are in an nn.ModuleList named blocks and draw nothing, or say"
             " does_not = {'recompute': reason}", ability="recompute")  # fmt: skip
def recomputed_it_has_the_same_gradients(at: BlockCase) -> None:
    """Layers that are computed again for the backward pass give the same gradients (``train.recompute``)."""
    grads = []
    for again in (False, True):
        model = at.again().train()
        if again:
            recompute_layers(model)
        at.loss(model, at.batch(model=model)).backward()
        grads.append([p.grad for p in model.backbone.parameters()])
    same = all((a is None) == (b is None) and (a is None or close(a, b)) for a, b in zip(*grads, strict=True))
    expect(same, "recomputed, it has other gradients")


@BLOCK.check("change prepare and forward so that no tensor is cast to a set dtype, or say does_not = {'bf16': reason}",
             ability="bf16")  # fmt: skip
def it_trains_in_bfloat16(at: BlockCase) -> None:
    """Under autocast to bfloat16 the loss is near that of float32, and has gradients."""
    near_in_bfloat16(at)


@BLOCK.check("change prepare and forward so that what they make goes where the vectors are and no value is read, or say"
             " does_not = {'device': reason}", ability="device")  # fmt: skip
def it_trains_on_another_device(at: BlockCase) -> None:
    """Weights and batch on a device that is only pretended: nothing is left on the CPU, and no value is read."""
    nothing_left_on_the_cpu(at)


BLOCK.declared()
