"""``transfuse sample``: images for a prompt, a caption for an image, or what follows any document."""

from pathlib import Path
from typing import Any

import numpy as np
from transfuse import checkpoints
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.files import read_json
from transfuse.generation.decoding import generate
from transfuse.model.model import Model
from transfuse.registry import Registry

from transfuse_lab.datasets.picture import read_image
from transfuse_lab.evaluation.evaluation import AT_ONCE, describe, roles, show
from transfuse_lab.progress import say


def grid(images: list[np.ndarray], across: int | None = None, zoom: int | None = None) -> Any:
    """Images ``[channels, h, w]`` in [0, 1] in rows of ``across``, or of nearly equal number, as a Pillow image.

    zoom: each pixel becomes a square of so many; by default small images are enlarged to about 64.
    """
    from PIL import Image

    across = across or int(np.ceil(np.sqrt(len(images))))
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    zoom = zoom or max(1, 64 // height)
    gap = 4
    down = -(-len(images) // across)
    sheet = np.ones((3, down * (height * zoom + gap) + gap, across * (width * zoom + gap) + gap), np.float32)
    for i, image in enumerate(images):
        y, x = (
            gap + (n * (side * zoom + gap))
            for n, side in zip(divmod(i, across), (height, width), strict=True)
        )
        big = image.repeat(zoom, axis=1).repeat(zoom, axis=2)
        sheet[:, y : y + big.shape[1], x : x + big.shape[2]] = big
    return Image.fromarray((sheet.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0))


def save_image(image: Any, out: Path, option: str = "--out") -> None:
    """Raises TransfuseError where the file's ending names no picture format or it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        image.save(out)
    except (ValueError, OSError) as error:
        raise TransfuseError(
            f"{option} {out}: cannot be written ({error}); use a name such as grid.png"
        ) from None


def read_document(path: Path, model: Model) -> Document:
    """A prompt from JSON: ``[{"text": "seven"}, {"image": "seven.png"}, …]``, in any order.

    Guidance compares with the document without its droppable entries: texts are, unless they say
    ``"droppable": false``, and images are not, unless they say true.
    Images are paths beside the file. Raises TransfuseError naming the file and the entry.
    """
    text, image = roles(model)
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
            value = read_for(model, image, path.parent / value)
        elif role != text:
            raise TransfuseError(f"{place}: this model has {text} and {image}, not {role!r}")
        items.append(Item(role, value, noised=False, droppable=droppable))
    return Document(tuple(items), source=str(path))


def read_for(model: Model, image: str, path: Path) -> np.ndarray:
    """A picture as the model's images are: its channels, and its size where it knows only one square."""
    modality = dict(model.parts())[image]
    shapes = {modality.decode(modality.blank(label)).shape for label in modality.labels()}
    channels, height, width = next(iter(shapes))
    side = height if len(shapes) == 1 and height == width else None
    return read_image(path, channels, side).astype(np.float32) / 255


def sample_command(
    run: Path,
    prompts: list[str],
    image: Path | None,
    document: Path | None,
    n: int,
    out: Path | None,
    seed: int,
    tokens: int,
) -> None:
    """Either prompts, an image or a document is given; ``n`` samples of each. Several prompts: a row each."""
    _, model = checkpoints.load(run, Registry.open().plugins)
    text, shown = roles(model)
    if prompts:
        if out is None:
            raise TransfuseError("--out is missing: where the picture goes, such as grid.png")
        asked = [
            Document((Item(text, prompt, droppable=True),) if prompt else (), source="--prompt")
            for prompt in prompts
            for _ in range(n)
        ]
        save_image(grid(list(show(model, asked, shown, seed)), across=n if len(prompts) > 1 else None), out)
        say(f"{n} x {', '.join(map(repr, prompts))}: {out}")
    elif image is not None:
        raw = read_for(model, shown, image)
        asked = Document((Item(shown, raw, noised=False),), source=str(image))
        for said in describe(model, [asked] * n, text, tokens, seed, greedy=False):
            say(said)
    else:
        assert document is not None
        asked = read_document(document, model)
        for start in range(0, n, AT_ONCE):
            part = range(start, min(n, start + AT_ONCE))
            made = generate(model, [asked] * len(part), seed=seed, tokens=tokens, indices=part)
            for i, continued in zip(part, made, strict=True):
                _tell(continued, len(asked.items), shown, out, i if n > 1 else None)


def _tell(made: Document, given: int, shown: str, out: Path | None, number: int | None) -> None:
    """What was generated, a line an item; images go to files named after ``out``."""
    if len(made.items) == given:
        say("the model ended the document here")
    for i, item in enumerate(made.items[given:]):
        if item.modality != shown:
            say(f"{item.modality}: {item.data}")
            continue
        base = out or Path("sample.png")
        name = "-".join(str(part) for part in (base.stem, number, i) if part is not None)
        path = base.with_name(f"{name}{base.suffix or '.png'}")
        save_image(grid([item.data]), path)
        say(f"{item.modality}: {path}")
