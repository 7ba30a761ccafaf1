"""What ranks do together in tests, each a function of the ranks and of JSON: they train, save and go on."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from torch import nn
from transfuse.checkpoints import Checkpoint, RunFolder
from transfuse.config.recipe import Recipe
from transfuse.documents import Document
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import Batch
from transfuse.sequences.rows import Row
from transfuse.training import Trainer
from transfuse.training.encoding import worth_dealing
from transfuse.training.optimizer import optimizer_tensors
from transfuse.training.ranks import Ranks
from transfuse.training.saving import sound_checkpoint

from tests.tiny.datasets import Shapes
from tests.tiny.recipes import overrides


class Double(Trainer):
    """Trains in float64, to tell a wrong sum from a rounded one."""

    def batch(self, row: Row) -> Batch:
        made = super().batch(row)
        wide = (replace(g, x_t=g.x_t.double(), t=g.t.double(), target=g.target.double()) for g in made.groups)
        return replace(made, groups=tuple(wide))


def recipe_of(*settings: str, name: str = "transfusion") -> Recipe:
    """The tiny recipe, under settings; ``image=null`` leaves the role out."""
    registry = Registry.load(Plugins.load(disabled=["adapters", "lab"]), [packaged_file()])
    gone = next((one.removesuffix("=null") for one in settings if one in ("image=null", "text=null")), None)
    rest = (one for one in settings if one != f"{gone}=null")
    return registry.recipe(name, overrides(name, *rest, without=gone))


def model_of(recipe: Recipe, data: Shapes) -> Model:
    from transfuse.model.build import build

    return build(recipe, data, Plugins.load(disabled=["adapters", "lab"]), lambda line: None)


def seldom_both(document: Document) -> Document:
    """Of four documents two are text alone, one an image alone."""
    items = {0: document.items[:1], 1: document.items[:1], 2: document.items[1:]}
    return replace(document, items=items.get(document.id % 4, document.items))


def losses(
    world: Ranks, steps: int, settings: Sequence[str], name: str = "transfusion", seldom: bool = False
) -> dict[str, Any]:
    """What each step measured in float64, how many numbers of the trained weights lie on this rank, and how many
    items' codecs with weights it ran."""
    sides = (8, 4) if name == "transfusion" else (8,)
    data = Shapes(sides=sides, reversed_share=0, change=seldom_both if seldom else lambda document: document)
    recipe = recipe_of(*settings, name=name)
    model = model_of(recipe, data).double()
    for modality in model.modalities.values():
        if isinstance(codec := getattr(modality, "codec", None), nn.Module):
            codec.float()  # it is frozen, and encodes as it does alone
    trainer, encoded = Double(recipe, model, data, ranks=world), []
    for role in worth_dealing(model.modalities):
        modality: Any = model.modalities[role]
        modality.encode = counted(modality.encode, encoded)
    measured = [trainer.step() for _ in range(steps)]
    held = sum(part.numel() for part in trainer.shards.trained.values())
    return {"steps": measured, "held": held, "encoded": len(encoded)}


def counted(call: Callable[[Any], Any], calls: list[None]) -> Callable[[Any], Any]:
    def made(given: Any) -> Any:
        calls.append(None)
        return call(given)

    return made


class Spoilt(Trainer):
    """In steps 2 and 3 the images of one row are not finite, whoever computes it."""

    def batch(self, row: Row) -> Batch:
        made = super().batch(row)
        if self.progress.step not in (2, 3) or "shapes train 3" not in row.sources:
            return made
        return replace(made, groups=tuple(replace(g, x_t=g.x_t * float("nan")) for g in made.groups))


def spoilt(world: Ranks, settings: Sequence[str]) -> dict[str, Any]:
    """Six steps over four documents, a row each: what they measured, which left the weights alone, what was told."""
    recipe, data = recipe_of(*settings), Shapes(train=4, reversed_share=0)
    trainer = Spoilt(recipe, model_of(recipe, data), data, ranks=world)
    measured, still = [], []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for step in range(6):
            before = bits(trainer, gradients=False)
            measured.append(trainer.step())
            if bits(trainer, gradients=False) == before:
                still.append(step)
    finite = [{k: v for k, v in one.items() if math.isfinite(v)} for one in measured]
    said = [str(one.message) for one in told if "not finite" in str(one.message)]
    return {
        "steps": finite,
        "still": still,
        "said": said,
        "events": trainer.events,
        "guard": trainer.guard.state(),
    }


# -- saved, and gone on with


def trainer_of(world: Ranks, settings: Sequence[str], name: str = "transfusion") -> Trainer:
    data = Shapes()
    recipe = recipe_of(*settings, name=name)
    return Trainer(recipe, model_of(recipe, data), data, ranks=world)


def bits(trainer: Trainer, gradients: bool = True) -> str:
    """Of all that a step leaves on this rank: gradients, weights, moments, averages, which ids may be predicted."""
    shards, own = trainer.shards, blake2b()
    tensors = {
        **{f"weight {name}": part for name, part in shards.local.items()},
        **{
            f"gradient {name}": part.grad
            for name, part in shards.trained.items()
            if gradients and part.grad is not None
        },
        **optimizer_tensors(shards.trained, trainer.optimizer),
        **({} if trainer.ema is None else trainer.ema.tensors()),
        "predictable": trainer.model.predictable,
    }
    for key, tensor in sorted(tensors.items()):
        own.update(key.encode() + tensor.detach().contiguous().numpy().tobytes())
    return own.hexdigest()


def every_step(
    world: Ranks, folder: str, steps: int, settings: Sequence[str], name: str = "transfusion"
) -> list[list[Any]]:
    """A run that is saved after each step, and each step again by a trainer that begins from there: what one and the
    other measured, and the bits of what they left."""
    settings = (f"train.steps={steps}", f"train.keep_last={steps + 1}", "train.ema=0.9", *settings)
    trainer, run = trainer_of(world, settings, name), RunFolder(Path(folder))
    if world.first:
        run.write_description(trainer.recipe, trainer.model)
    trainer.save(run, wait=False)  # written while it trains on
    straight = []
    for _ in range(steps):
        measured = trainer.step()
        straight.append([measured, bits(trainer)])
        trainer.save(run, wait=False)
    trainer.finish_saving(wait=True)
    pairs = []
    for step in range(steps):
        again = trainer_of(world, settings, name)
        again.resume(Checkpoint.read(run.path / "checkpoints" / str(step)))
        measured = again.step()
        pairs.append([straight[step], [measured, bits(again)]])
    return pairs


def go_on(
    world: Ranks, folder: str, steps: int, settings: Sequence[str], begin: bool = False
) -> dict[str, Any]:
    """A run begun, or gone on with from what the folder holds: the step, weights and averages it goes on from, the
    documents it reads, what it measures; saved at its end."""
    trainer, run = trainer_of(world, settings), RunFolder(Path(folder))
    if begin:
        if world.first:
            run.write_description(trainer.recipe, trainer.model)
    else:
        trainer.resume(sound_checkpoint(run, world))
    found: dict[str, Any] = {
        "step": trainer.progress.step,
        "sums": sums(trainer),
        "steps": [],
        "documents": [],
    }
    for _ in range(steps):
        waiting = [place for place, _ in trainer.packer.waiting]
        found["documents"].append([trainer.packer.arrived, *waiting])
        found["steps"].append(trainer.step())
    trainer.save(run)
    found["after"] = sums(trainer)
    return found


def go_on_and_fall_back(world: Ranks, folder: str, steps: int, settings: Sequence[str]) -> dict[str, Any]:
    """`go_on`; then what was saved is damaged, and the run is opened once more: at which step."""
    found, run = go_on(world, folder, steps, settings), RunFolder(Path(folder))
    world.first_does(lambda: flip(run))
    trainer = trainer_of(world, settings)
    trainer.resume(sound_checkpoint(run, world))
    return {**found, "fallen_back_to": trainer.progress.step}


def flip(run: RunFolder) -> None:
    """One bit of what the second rank saved last."""
    (piece,) = run.checkpoint.folder.glob("shard-00002-model-00002-*")
    data = bytearray(piece.read_bytes())
    data[-3] ^= 1
    piece.write_bytes(data)


def sums(trainer: Trainer) -> str:
    """The bits of the whole weights, moments and averages, whoever holds them."""
    shards, own = trainer.shards, blake2b()
    tensors = {
        f"moment {n}": (n.rpartition("/")[0], t)
        for n, t in optimizer_tensors(shards.trained, trainer.optimizer).items()
    }
    tensors |= {f"weight {n}": (n, t) for n, t in shards.local.items()}
    tensors |= {f"average {n}": (n, t) for n, t in (trainer.ema.tensors() if trainer.ema else {}).items()}
    for key, (name, part) in sorted(tensors.items()):
        whole = shards.as_whole(name, part)
        full = whole.full_tensor() if hasattr(whole, "full_tensor") else whole
        own.update(key.encode() + full.detach().contiguous().numpy().tobytes())
    return own.hexdigest()


# -- begun from another run


def grown(world: Ranks, folder: str, start: str, settings: Sequence[str]) -> dict[str, Any]:
    """A run that begins from another: the bits that it begins with, and its first step."""
    from transfuse_lab.runs.training import open_run

    recipe, plugins = recipe_of(*settings), Plugins.load(disabled=["adapters", "lab"])
    run, quiet = RunFolder(Path(folder)), lambda line: None
    trainer = open_run(recipe, Shapes(), {}, run, plugins, quiet, start=Path(start), ranks=world)
    return {"sums": sums(trainer), "first": trainer.step()}


def begin_and_grow(
    world: Ranks, folder: str, pairs: Sequence[Sequence[Sequence[str]]]
) -> list[dict[str, Any]]:
    """Of each pair of settings a run under the one, saved in pieces, and another that begins from it."""
    found = []
    for i, (first, then) in enumerate(pairs):
        go_on(world, f"{folder}/{i}", 2, first, begin=True)
        found.append(grown(world, f"{folder}/{i}-two", f"{folder}/{i}", then))
    return found
