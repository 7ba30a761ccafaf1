"""What ``transfuse train --dry-run`` shows: shapes, parameters, memory, and one batch."""

from collections.abc import Mapping
from functools import partial
from math import prod

import torch
from torch import Tensor
from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.datasets import ENDLESS, DataSet, restrict
from transfuse.modalities.modality import Modality
from transfuse.model.build import build, build_model, fit_modalities
from transfuse.registry.plugins import Plugins
from transfuse.training import Trainer, grow, inherit
from transfuse.training.counts import flops, parameter_counts

from transfuse_lab.runs.stored import restored, stored_codecs
from transfuse_lab.visible import visible_line


def describe(
    recipe: Recipe,
    data: DataSet,
    plugins: Plugins,
    device: torch.device | str = "cpu",
    start: RunFolder | None = None,
) -> str:
    """A model with untrained codecs, or those that the data were encoded with, is put through one real batch, forward
    and backward; nothing is kept.

    start: a run that it would begin from.
    """
    data, inherited = restrict(data, recipe.modalities), None
    if start is not None:
        there = start.recipe(plugins)
        inherited = inherit(start, there, recipe)
        model = grow(start, there, recipe, plugins, partial(_untrained, data)).to(device)
    elif (codecs := stored_codecs(data)) is None:
        model = build(recipe, data, plugins, report=lambda line: None, effort=0.0).to(device)
    else:
        model = build_model(recipe, restored(recipe, codecs), plugins).to(device)
    trainer = Trainer(recipe, model, data, inherited)
    trainer.check_mask()
    row = next(trainer.rows)
    batch = trainer.batch(row)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model.losses(batch)
        combined = trainer.combiner.combine(losses, batch.counts)
    combined.total.backward()
    weights = sum(p.numel() * p.element_size() for p in model.trained())
    averaged = trainer.ema is not None
    weights *= 4 + averaged
    frozen = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    activations = sum(size for place, size in kept.items() if place not in own)
    counts = parameter_counts(model)
    train, each = recipe.train, flops(model, row) * recipe.train.rows
    steps = train.steps or (train.flops or 0) / each
    used, held_out = f"{row.used} of {train.budget}", data.size(recipe.eval.split)
    lines = [
        f"recipe       {recipe.name} on {data.name}: {_documents(data)} training, {held_out} held-out",
        f"mask         {recipe.mask}",
        f"parameters   {sum(counts.values()):,}: " + ", ".join(f"{k} {v:,}" for k, v in counts.items()),
        f"memory       {_mib(weights + frozen + activations)}: weights, gradients, AdamW's two moments"
        f"{' and their average' if averaged else ''} {_mib(weights)}, frozen codecs {_mib(frozen)}, "
        f"kept for backward {_mib(activations)} a row",
        f"a step       {train.rows} row(s) of at most {train.budget} positions, {each:.3g} FLOPs; "
        f"about {steps:.0f} steps",
        f"one row      {used} positions, {len(row.arrivals)} documents, "
        f"{model.mask.pairs(row.columns):,} allowed pairs of {prod((len(row), len(row))):,}",
    ]
    if left_out := data.left_out():
        lines.insert(1, f"data         {left_out}")
    for group in batch.groups:
        lines.append(
            f"  {group.modality:10} {len(group.x_t)} spans of {group.index.shape[1]} positions, "
            f"payload {tuple(group.x_t.shape[1:])}, {int(group.loss.sum())} with a loss"
        )
    lines += [f"  {name:10} loss {loss.mean:.4f} over {loss.count:.0f}" for name, loss in losses.items()]
    first = slice(row.bounds[0], row.bounds[1])
    lines.append(f"  first document ({row.sources[0]}): {spell(model.vocabulary, row.tokens[first])}")
    return "\n".join(map(visible_line, lines))


def _untrained(data: DataSet, modalities: Mapping[str, Modality]) -> None:
    fit_modalities(modalities, data, 0, lambda line: None, effort=0.0)


def spell(vocabulary, tokens) -> str:
    """Tokens by name, runs of vectors as their number."""
    words: list[str] = []
    vectors = 0
    for token in [*tokens, None]:
        if token == -1:
            vectors += 1
            continue
        if vectors:
            words.append(f"{vectors} vectors")
            vectors = 0
        if token is not None:
            words.append(vocabulary.name(int(token)))
    return " ".join(words)


def _documents(data: DataSet) -> str:
    size = data.size("train")
    return "endless" if size == ENDLESS else str(size)


def _mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"
