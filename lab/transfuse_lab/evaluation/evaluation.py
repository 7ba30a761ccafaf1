"""Evaluation of a trained model on held-out captioned images, and the record it leaves."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transfuse import checkpoints
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.files import read_json, read_mapping
from transfuse.generation.decoding import generate
from transfuse.metrics import Evaluation
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.registry import Registry
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import collate
from transfuse.sequences.packing import Packer
from transfuse.training.trainer import Spent

from transfuse_lab.progress import bar, say
from transfuse_lab.runs.records import (
    Captioned,
    CurvePoint,
    RunRecord,
    Sample,
    entry_name,
    picture,
    save_record,
)
from transfuse_lab.runs.training import train_facts

AT_ONCE = 100  # documents decoded together
MOST = 1000  # held-out pairs that are evaluated; the first ones
SEEN = 200  # training captions that are prompted, spread evenly, where captions are names
SHOWN = 40  # samples of a split and captions kept in the record


@dataclass(frozen=True)
class Pairs:
    """Captions and images of a split, aligned; and the two modalities' names."""

    text: str
    image: str
    captions: list[str]
    images: list[np.ndarray]

    def prompt(self, i: int) -> Document:
        """Caption i, to be shown as an image."""
        return Document((Item(self.text, self.captions[i], droppable=True),), id=i, source=f"caption {i}")

    def question(self, i: int) -> Document:
        """Image i, to be captioned."""
        return Document((Item(self.image, self.images[i], noised=False),), id=i, source=f"image {i}")

    def answered(self, i: int) -> Document:
        """Image i and its caption: what the likelihood is of."""
        asked = Item(self.image, self.images[i], loss=False, noised=False)
        return Document((asked, Item(self.text, self.captions[i])), id=i, source=f"image {i}")


def pairs(data: DataSet, split: str, text: str, image: str, most: int | None = None) -> Pairs:
    """The split's captioned images. Raises TransfuseError naming a document that is no pair of the two."""
    captions: list[str] = []
    images: list[np.ndarray] = []
    for i in range(min(data.size(split), most or data.size(split))):
        document = data.document(split, i)
        raws = {item.modality: item.data for item in document.items}
        if raws.keys() != {text, image} or len(document.items) != 2:
            raise TransfuseError(
                f"{document.source}: evaluation takes one {text} and one {image} a document, "
                f"not {[item.modality for item in document.items]}"
            )
        captions.append(raws[text])
        images.append(raws[image])
    if not images:
        raise TransfuseError(
            f"data set {data.name!r}: split {split!r} is empty, and evaluation needs some of it"
        )
    shapes = sorted({raw.shape for raw in images})
    if len(shapes) > 1:
        raise TransfuseError(
            f"data set {data.name!r}: evaluation takes images of one shape, not {shapes[0]} and {shapes[1]}; "
            f"give the folder a size, as in --data 'DIR;size=32'"
        )
    return Pairs(text, image, captions, images)


def roles(model: Model) -> tuple[str, str]:
    """The names of the modality that writes captions and of the one that shows images."""
    text = model.layout.marker_modality
    shown = [name for name, modality in model.modalities.items() if modality.labels()]
    if text is None or len(shown) != 1:
        raise TransfuseError("evaluation and captions need a recipe of text and one modality with markers")
    return text, shown[0]


def show(model: Model, prompts: Sequence[Document], image: str, seed: int = 0) -> Iterator[np.ndarray]:
    """One image a prompt, a hundred prompts at a time; noise is keyed by a prompt's place."""
    for start in range(0, len(prompts), AT_ONCE):
        part = prompts[start : start + AT_ONCE]
        made = generate(model, part, want=image, seed=seed, indices=range(start, start + len(part)))
        yield from (document.items[-1].data for document in made)


def describe(
    model: Model, questions: Sequence[Document], text: str, tokens: int, seed: int = 0, greedy: bool = True
) -> Iterator[str]:
    """A caption of each, of at most so many tokens."""
    for start in range(0, len(questions), AT_ONCE):
        part = questions[start : start + AT_ONCE]
        made = generate(
            model, part, want=text, seed=seed, tokens=tokens, greedy=greedy,
            indices=range(start, start + len(part)),
        )  # fmt: skip
        for document in made:
            yield document.items[-1].data if document.items[-1].modality == text else ""


def caption_likelihood(model: Model, documents: Sequence[Document], text: str) -> tuple[float, int]:
    """Negative log-likelihood in nats of the documents' text, all else given and clean; and its tokens."""
    layout = model.layout
    own = model.vocabulary.range(text)
    nats, count = 0.0, 0
    sequences = [layout.sequence(document) for document in documents]
    budget = max(4096, *map(len, sequences)) if sequences else 4096
    with torch.inference_mode():
        for row in Packer(budget).rows(sequences):
            batch = collate(row, model.modalities, Key(0), model.settings.rope, clean=True)
            batch = batch.to(model.tokens.weight.device)
            hidden, _ = model(batch)
            said = (batch.targets >= own.start) & (batch.targets < own.stop)
            logits = model.logits(hidden[batch.predicted[said]])
            chosen = torch.log_softmax(logits.double(), dim=-1).gather(1, batch.targets[said][:, None])
            nats -= float(chosen.sum())
            count += int(said.sum())
    return nats, count


def evaluate(model: Model, data: DataSet, seed: int) -> Evaluation:
    """Everything the metrics are computed from. Images are drawn at the recipe's guidance."""
    model.eval()
    text, image = roles(model)
    train, held = pairs(data, "train", text, image), pairs(data, "heldout", text, image, MOST)
    everything = range(len(held.captions))
    with bar("evaluate") as progress:
        writer = model.modalities[text]
        longest = max(len(writer.encode(caption)) for caption in {*train.captions, *held.captions})
        captions = list(describe(model, [held.question(i) for i in everything], text, longest + 1))
        nats, count = caption_likelihood(model, [held.answered(i) for i in everything], text)
        progress.update(0.1, "captions")
        seen = seen_places(train.captions, held.captions)
        images = []
        for prompts in ([held.prompt(i) for i in everything], [train.prompt(i) for i in seen]):
            for made in show(model, prompts, image, seed):
                images.append(made)
                progress.update(0.1 + 0.9 * len(images) / (len(held.captions) + len(seen)), "images")
        generated = np.stack(images)
    codec = model.modalities[image]
    return Evaluation(
        train_images=np.stack(train.images),
        train_captions=train.captions,
        heldout_images=np.stack(held.images),
        heldout_captions=held.captions,
        prompts=held.captions,
        generated=generated[: len(held.captions)],
        predicted_captions=captions,
        reconstructions=np.stack([codec.decode(codec.encode(i)) for i in held.images]),
        caption_nats=nats,
        caption_tokens=count,
        caption_bytes=sum(len(caption.encode()) for caption in held.captions),
        seen_prompts=[train.captions[i] for i in seen],
        seen_generated=generated[len(held.captions) :],
    )


def seen_places(train: Sequence[str], heldout: Sequence[str]) -> list[int]:
    """Which training captions are prompted too: a fixed, even spread where captions are names, else none."""
    from transfuse_lab.evaluation.own_image import captions_are_names

    if not captions_are_names([*train, *heldout]):
        return []
    return _evenly(len(train), SEEN)


def measure(evaluation: Evaluation, plugins: Plugins) -> dict[str, float]:
    """Every metric on offer."""
    figures: dict[str, float] = {}
    for name in sorted(plugins.parts("metric")):
        figures |= plugins.choose("metric", {"name": name}, "metric").build().compute(evaluation)
    return figures


def record(
    folder: Path, recipe: Recipe, model: Model, data: DataSet, plugins: Plugins, entry: str | None = None
) -> RunRecord:
    """The record of the trained run in a folder: figures, curve, samples, captions, settings, facts."""
    evaluation = evaluate(model, data, recipe.train.seed)
    figures = measure(evaluation, plugins)
    state = read_json(folder / "checkpoints" / _step(folder) / "state.json", "checkpoint")
    spent = Spent(**state["spent"])
    figures |= {
        "positions_per_second": spent.positions / max(spent.seconds, 1e-9),
        "train_flops": spent.flops,
    }
    text, image = roles(model)
    return RunRecord(
        entry=entry or entry_name(recipe.name),
        recipe=recipe.name,
        seed=recipe.train.seed,
        metrics=figures,
        curve=tuple(_curve(folder / "metrics.jsonl")),
        samples=(*_heldout_samples(evaluation), *_seen_samples(evaluation)),
        captions=tuple(
            Captioned(
                image=picture(evaluation.heldout_images[i]),
                truth=evaluation.heldout_captions[i],
                predicted=evaluation.predicted_captions[i],
            )
            for i in range(min(SHOWN, len(evaluation.heldout_captions)))
        ),
        settings=recipe.dump(),
        facts={
            **train_facts(folder, model, spent),
            "threads": torch.get_num_threads(),
            "evaluated_pairs": len(evaluation.prompts),
            "evaluated_seen_prompts": len(evaluation.seen_prompts),
            "versions": {name: version(name) for name in ("transfuse", "torch", "numpy")},
            "loss_units": {text: "nats a token", image: _unit(model, image)},
        },
    )


def _unit(model: Model, image: str) -> str:
    return "nats a code" if image in model.token_modalities else "squared error a latent"


def _seen(evaluation: Evaluation) -> list[str | None]:
    """What the classifier reads in each generated image, where captions are classes."""
    from transfuse_lab.evaluation.classifier import classifier_of
    from transfuse_lab.evaluation.metrics import captions_are_classes

    if not captions_are_classes(evaluation):
        return [None] * len(evaluation.prompts)
    judge = classifier_of(evaluation.train_images, evaluation.train_captions)
    return list(judge.read(evaluation.generated))


def _heldout_samples(evaluation: Evaluation) -> Iterator[Sample]:
    read = _seen(evaluation)
    real = dict(zip(evaluation.heldout_captions, evaluation.heldout_images, strict=True))
    for i in _spread(evaluation.prompts, SHOWN):
        prompt = evaluation.prompts[i]
        image, own = picture(evaluation.generated[i]), picture(real[prompt])
        yield Sample(prompt=prompt, image=image, seen=read[i], real=own)


def _seen_samples(evaluation: Evaluation) -> Iterator[Sample]:
    """An even spread of the training captions that were prompted, beside their own images."""
    real = dict(zip(evaluation.train_captions, evaluation.train_images, strict=True))
    for i in _evenly(len(evaluation.seen_prompts), SHOWN):
        prompt = evaluation.seen_prompts[i]
        image, own = picture(evaluation.seen_generated[i]), picture(real[prompt])
        yield Sample(prompt=prompt, image=image, real=own, split="train")


def _spread(prompts: Sequence[str], most: int) -> list[int]:
    """Places of prompts to show: as many of each different one as fit, else an even spread of them."""
    by_prompt: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        by_prompt.setdefault(prompt, []).append(i)
    each = max(1, most // len(by_prompt))
    chosen = sorted(i for places in by_prompt.values() for i in places[:each])
    return [chosen[place] for place in _evenly(len(chosen), most)]


def _evenly(count: int, most: int) -> list[int]:
    """At most so many places of 0 … count − 1, both ends among them."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()


def _curve(log: Path, points: int = 100) -> Iterator[CurvePoint]:
    """The training log in at most so many points, losses averaged between them."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for part in np.array_split(np.arange(len(lines)), min(points, len(lines))):
        rows = [lines[i] for i in part]
        names = sorted({name for row in rows for name in row if name.startswith("loss_")})
        means = {
            name[len("loss_") :]: float(np.mean([row[name] for row in rows if name in row])) for name in names
        }
        last = rows[-1]
        yield CurvePoint(step=last["step"], flops=last["flops"], positions=last["positions"], losses=means)


def _step(folder: Path) -> str:
    newest = checkpoints.newest(folder)
    if newest is None:
        raise TransfuseError(f"{folder} holds no checkpoint: train it first, or name the folder of a run")
    return newest.name


def open_trained(folder: Path, plugins: Plugins) -> tuple[Recipe, Model, DataSet]:
    """A run's recipe, trained model and data. Raises TransfuseError where the data have changed."""
    recipe, model = checkpoints.load(folder, plugins)
    described = read_mapping(folder / "modalities.json", "run", "data", "data_section")
    section = described["data_section"]
    data = plugins.choose("dataset", section, f"{folder / 'modalities.json'}: data_section").build()
    if data.identity() != described["data"]:
        raise TransfuseError(f"{folder}: its data set {data.name} has changed since it was trained")
    return recipe, model, data


def eval_command(run: Path, grid: Path | None = None) -> None:
    """``transfuse eval DIR``: prints the figures and leaves ``DIR/record.json``; and a picture, if asked."""
    from transfuse_lab.drawing.pair_grid import check_grid, pair_grid
    from transfuse_lab.report.figures import figure, ordered

    if grid is not None:
        check_grid(grid)
    plugins = Registry.open().plugins
    recipe, model, data = open_trained(run, plugins)
    made = record(run, recipe, model, data, plugins)
    save_record(run / "record.json", made)
    for name in ordered(list(made.metrics)):
        unit = f" {figure(name).unit}" if figure(name).unit else ""
        say(f"{name:24} {figure(name).show(made.metrics[name])}{unit}")
    say(f"all of it: {run / 'record.json'}")
    if grid is not None:
        from transfuse_lab.commands.sample import save_image

        save_image(pair_grid(made.samples), grid, "--grid")
        say(f"real and generated images: {grid}")
