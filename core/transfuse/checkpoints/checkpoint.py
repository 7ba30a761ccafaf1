"""Checkpoints: weights in safetensors, everything else in JSON, each written whole or not at all.

A run's folder holds ``recipe.json``, ``modalities.json`` and ``checkpoints/STEP/`` with
``model.safetensors``, ``optimizer.safetensors``, ``ema.safetensors`` where weights are averaged, and
``state.json``; ``latest`` names the newest complete STEP. No pickle is read or written.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from transfuse.checkpoints.provenance import check_origin
from transfuse.config.recipe import Recipe
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.files import read_json, read_mapping, write_json, write_text
from transfuse.modalities.modality import Modality
from transfuse.model.build import build_modalities, build_model
from transfuse.model.ema import EMA
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins
from transfuse.sequences.vocabulary import Vocabulary, vocabulary_for

FORMAT = 1
EMA_FILE = "ema.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What a run's newest checkpoint holds besides the weights; ``ema``: their average, {} where there is none."""

    step: int
    state: dict[str, Any]
    optimizer: dict[str, Tensor]
    ema: dict[str, Tensor]


def write_description(folder: Path, recipe: Recipe, model: Model, facts: Mapping[str, Any]) -> None:
    """What rebuilds the model: the recipe, each modality's facts, the vocabulary; and further facts."""
    write_json(folder / "recipe.json", recipe.dump())
    described = {
        "format": FORMAT,
        "modalities": {name: modality.facts() for name, modality in model.modalities.items()},
        "vocabulary": model.vocabulary.dump(),
        **facts,
    }
    write_json(folder / "modalities.json", described)


def write_checkpoint(
    folder: Path,
    step: int,
    model: Model,
    optimizer: Mapping[str, Tensor],
    state: Mapping[str, Any],
    ema: Mapping[str, Tensor] | None = None,
) -> None:
    """A new checkpoint; once it is complete ``latest`` moves to it, and older ones are deleted."""
    home = folder / "checkpoints"
    fresh, final = home / f".{step}.new", home / str(step)
    if newest(folder) == final and final.is_dir():
        return  # saved already: a step has one state
    for leftover in (fresh, final):  # of a process that died before ``latest`` moved
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    weights = {name: tensor.detach().contiguous() for name, tensor in _own(model).items()}
    save_file(weights, fresh / "model.safetensors")
    save_file(
        {name: tensor.contiguous() for name, tensor in optimizer.items()}, fresh / "optimizer.safetensors"
    )
    if ema is not None:
        save_file({name: tensor.detach().contiguous() for name, tensor in ema.items()}, fresh / EMA_FILE)
    write_json(fresh / "state.json", {"step": step, **state})
    for file in fresh.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    os.replace(fresh, final)
    write_text(home / "latest", str(step))
    for old in home.iterdir():
        if old.is_dir() and old != final:
            shutil.rmtree(old)


def newest(folder: Path) -> Path | None:
    """The folder of a run's newest complete checkpoint, None where there is none yet."""
    pointer = folder / "checkpoints" / "latest"
    if not pointer.is_file():
        return None
    step = pointer.read_text().strip()
    if not step.isdecimal():
        raise TransfuseError(f"{pointer} is damaged: it should hold a step, not {step!r:.40}")
    return pointer.parent / step


def remains(folder: Path) -> bool:
    """Whether trained checkpoints are left in a folder: steps beyond the one that begins a run."""
    steps = (folder / "checkpoints").glob("[0-9]*")
    return any(path.name.isdecimal() and int(path.name) > 0 for path in steps)


def read_checkpoint(folder: Path, model: Model) -> Checkpoint:
    """Load a run's newest weights into the model; the rest is returned.

    Raises TransfuseError where the checkpoint is missing, truncated, or of another model.
    """
    where = newest(folder)
    if where is None:
        raise TransfuseError(f"{folder} holds no checkpoint: train it first, or name the folder of a run")
    _load_weights(model, where / "model.safetensors")
    state = read_mapping(where / "state.json", "state", "step")
    ema = _tensors(where / EMA_FILE) if (where / EMA_FILE).exists() else {}
    return Checkpoint(state["step"], state, _tensors(where / "optimizer.safetensors"), ema)


def _load_weights(module: nn.Module, path: Path) -> None:
    """All of a module's weights from a file that holds just these; else an error, and no weight changed."""
    weights, expected = _tensors(path), _own(module)
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights:
            raise TransfuseError(f"{path}: the weights {name!r} are missing; it was saved by another recipe")
        if name not in expected:
            raise TransfuseError(f"{path}: the weights {name!r} have no place in the recipe's model")
        if weights[name].shape != expected[name].shape:
            raise TransfuseError(
                f"{path}: the weights {name!r} are {tuple(weights[name].shape)}, "
                f"and the recipe's model has {tuple(expected[name].shape)}"
            )
    module.load_state_dict(weights, strict=False)


def _own(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module without second names of tied weights."""
    once = {name for name, _ in module.named_parameters()}
    second = {name for name, _ in module.named_parameters(remove_duplicate=False)} - once
    return {name: tensor for name, tensor in module.state_dict().items() if name not in second}


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise TransfuseError(f"{path} is missing: the checkpoint is not complete") from None
    except SafetensorError as error:
        raise TransfuseError(f"{path} is damaged ({error}): restore it, or train again") from None


def read_recipe(folder: Path, plugins: Plugins) -> Recipe:
    """The resolved recipe of a run."""
    if not folder.is_dir():
        raise TransfuseError(
            f"{folder} is not there: name the folder of a run (transfuse train ... --out DIR)"
        )
    path = folder / "recipe.json"
    return Recipe.from_dump(read_json(path, "run"), plugins, source=str(path))


def rebuild(folder: Path, plugins: Plugins) -> tuple[Recipe, Model]:
    """A run's model as it was before training, its modalities restored; weights are loaded apart."""
    recipe = read_recipe(folder, plugins)
    path = folder / "modalities.json"
    described = read_mapping(path, "run", "format", "modalities", "vocabulary")
    if described["format"] != FORMAT:
        raise TransfuseError(f"{path}: format {described['format']} is not this version's {FORMAT}")
    modalities = build_modalities(recipe)
    try:
        for name, modality in modalities.items():
            modality.restore(described["modalities"][name])
        vocabulary = Vocabulary.from_dump(described["vocabulary"])
        lacks = vocabulary_for(modalities, vocabulary).size - vocabulary.size
    except Exception as error:  # plugins and tokenizers raise what they like over damaged facts
        raise TransfuseError(f"{path} is damaged ({error!r}): restore it, or train again") from error
    if lacks:
        raise TransfuseError(
            f"{path} is damaged (its vocabulary lacks {lacks} ids): restore it, or train again"
        )
    return recipe, build_model(recipe, modalities, plugins, vocabulary, start=False)


def save_codecs(
    folder: Path, modalities: Mapping[str, Modality], made_from: Mapping[str, Any] | None = None
) -> None:
    """What modalities learnt from the data before any model: facts, frozen weights, and the `origin`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, modality in modalities.items():
        weights = {key: value.detach().contiguous() for key, value in modality.state_dict().items()}
        save_file(weights, folder / f"{name}.safetensors")
    # Written last: a folder without it is not complete.
    facts = {name: modality.facts() for name, modality in modalities.items()}
    write_json(folder / "codecs.json", {"modalities": facts, "origin": made_from})


def restore_codecs(
    folder: Path, modalities: Mapping[str, Modality], made_from: Mapping[str, Any] | None = None
) -> None:
    """The inverse, into modalities built from the same settings and not yet connected.

    made_from: the `origin` that they must have; TransfuseError names what differs.
    """
    read = read_mapping(folder / "codecs.json", "set of codecs", "modalities", "origin")
    facts = read["modalities"]
    if made_from is not None and read["origin"] is not None:
        check_origin(folder, read["origin"], made_from)
    for name, modality in modalities.items():
        if name not in facts:
            raise TransfuseError(f"{folder} holds no codec of modality {name!r}; {did_you_mean(name, facts)}")
        try:
            modality.restore(facts[name])
        except Exception as error:  # as above
            raise TransfuseError(
                f"{folder / 'codecs.json'} is damaged ({error!r}): delete the folder"
            ) from error
        _load_weights(modality, folder / f"{name}.safetensors")


def load(folder: Path | str, plugins: Plugins | None = None) -> tuple[Recipe, Model]:
    """A run's recipe and its trained model, in evaluation mode; with the averaged weights where there are some.

    Raises TransfuseError as `read_checkpoint`, and where the recipe averages and the average is missing.
    """
    folder = Path(folder)
    recipe, model = rebuild(folder, plugins or Plugins.load())
    saved = read_checkpoint(folder, model)
    if recipe.train.ema:
        ema = EMA(model, recipe.train.ema)
        restore_ema(folder, ema, saved)
        ema.apply()
    return recipe, model.eval()


def restore_ema(folder: Path, ema: EMA, saved: Checkpoint) -> None:
    """A checkpoint's averaged weights. Raises TransfuseError where they are missing or of another model."""
    place = f"{folder / 'checkpoints' / str(saved.step) / EMA_FILE}"
    if not saved.ema:
        raise TransfuseError(f"{place} is missing: the checkpoint is not complete")
    try:
        ema.restore(saved.ema, saved.step)
    except TransfuseError as error:
        raise TransfuseError(f"{place}: {error}") from error


def optimizer_tensors(model: Model, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter name, flat: ``NAME/exp_avg`` and so on."""
    flat: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            flat[f"{name}/{key}"] = torch.as_tensor(value)
    return flat


def restore_optimizer(model: Model, optimizer: torch.optim.Optimizer, flat: Mapping[str, Tensor]) -> None:
    """The inverse, parameter by parameter."""
    named = dict(model.named_parameters())
    for path, value in flat.items():
        name, _, key = path.rpartition("/")
        if name not in named:
            raise TransfuseError(f"the optimiser's state is of a parameter {name!r}, which the model has not")
        if value.dim() and value.shape != named[name].shape:
            raise TransfuseError(
                f"the optimiser's state {path!r} is {tuple(value.shape)}, and the parameter {tuple(named[name].shape)}"
            )
        optimizer.state[named[name]][key] = value
