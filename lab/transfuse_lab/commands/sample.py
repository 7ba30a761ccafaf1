"""``transfuse sample``: images for a prompt, a caption for an image, or what follows any document."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transfuse import checkpoints
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.files import read_json
from transfuse.generation import GenerationConfig
from transfuse.model.model import Model
from transfuse.registry import Registry

from transfuse_lab.commands.arguments import TOKENS, SampleArguments
from transfuse_lab.datasets.file_names import on_disk
from transfuse_lab.drawing.sheet import Cell, save_sheet
from transfuse_lab.output_paths import check_file
from transfuse_lab.progress import say
from transfuse_lab.runs.trained import draw_images, generate_all, text_and_image, write_captions

Draw = Callable[[Any], str | bytes]


def sample_command(arguments: SampleArguments) -> None:
    """``n`` samples for each prompt, a row each if there are several; or of the image, or of the document."""
    out = _where(arguments)
    _, model = checkpoints.load(arguments.run, Registry.open().plugins)
    if arguments.prompts:
        _prompts(model, arguments, out)
    elif arguments.image is not None:
        _image(model, arguments, arguments.image)
    else:
        assert arguments.document is not None
        _document(model, arguments, arguments.document, out)


def _where(arguments: SampleArguments) -> Path:
    """The file of the picture, or after which the document's are named; known to be one that can be written."""
    out = arguments.out or Path("sample.png")
    if arguments.document is not None and not out.suffix:
        out = out.parent / f"{out.name}.png"
    check_file("--out", out)
    return out


def _prompts(model: Model, arguments: SampleArguments, out: Path) -> None:
    prompts, n = arguments.prompts, arguments.n
    text, image = text_and_image(model)
    documents = [
        Document((Item(text, prompt, droppable=True),) if prompt else (), source="--prompt")
        for prompt in prompts
        for _ in range(n)
    ]
    draw = model.modalities[image].draw
    cells = [Cell(draw(one)) for one in draw_images(model, documents, image, arguments.seed)]
    across = n if len(prompts) > 1 else math.ceil(math.sqrt(n))
    save_sheet([cells[i : i + across] for i in range(0, len(cells), across)], out, "--out")
    say(f"{n} x {', '.join(map(repr, prompts))}: {out}")


def _image(model: Model, arguments: SampleArguments, path: Path) -> None:
    text, image = text_and_image(model)
    raw = model.modalities[image].load(path)
    document = Document((Item(image, raw, noised=False),), source=str(path))
    config = GenerationConfig(want=text, tokens=arguments.tokens or TOKENS, seed=arguments.seed)
    for caption in write_captions(model, [document] * arguments.n, config):
        say(caption)


def _document(model: Model, arguments: SampleArguments, path: Path, out: Path) -> None:
    _, image = text_and_image(model)
    document = read_document(path, model)
    config = GenerationConfig(tokens=arguments.tokens or TOKENS, seed=arguments.seed)
    for i, continued in enumerate(generate_all(model, [document] * arguments.n, config)):
        new = continued.items[len(document.items) :]
        _show_items(new, image, model.modalities[image].draw, out, i if arguments.n > 1 else None)


def _show_items(items: tuple[Item, ...], image: str, draw: Draw, out: Path, number: int | None) -> None:
    """What was generated, a line an item; images go to files named after ``out``."""
    if not items:
        say("the model ended the document here")
    for i, item in enumerate(items):
        if item.modality != image:
            say(f"{item.modality}: {item.data}")
            continue
        name = "-".join(str(part) for part in (out.stem, number, i) if part is not None)
        path = out.with_name(f"{name}{out.suffix}")
        save_sheet([[Cell(draw(item.data))]], path, "--out")
        say(f"{item.modality}: {path}")


def read_document(path: Path, model: Model) -> Document:
    """A prompt from JSON: ``[{"text": "seven"}, {"image": "seven.png"}, …]``, in any order.

    Guidance compares with the document without its droppable entries: texts are, unless they say
    ``"droppable": false``, and images are not, unless they say true.
    Images are paths beside the file. Raises TransfuseError naming the file and the entry.
    """
    text, image = text_and_image(model)
    example = f'a list such as [{{"{text}": "seven"}}]'
    entries = read_json(path, "document", cure=f"write {example}")
    if not isinstance(entries, list):
        raise TransfuseError(f"--document {path}: must be {example}")
    items = []
    for i, entry in enumerate(entries):
        place = f"--document {path}: entry {i}"
        rest = dict(entry) if isinstance(entry, dict) else {}
        droppable = rest.pop("droppable", text in rest)
        if (
            len(rest) != 1
            or not isinstance(droppable, bool)
            or not all(isinstance(v, str) for v in rest.values())
        ):
            raise TransfuseError(
                f'{place} must be {{"{text}": "words"}} or {{"{image}": "file.png"}}, not {entry!r:.80}'
            )
        ((role, value),) = rest.items()
        if role == image:
            value = model.modalities[image].load(path.parent / on_disk(value))
        elif role != text:
            raise TransfuseError(f"{place}: this model has {text} and {image}, not {role!r}")
        items.append(Item(role, value, noised=False, droppable=droppable))
    return Document(tuple(items), source=str(path))
