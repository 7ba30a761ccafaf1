"""What the command line says, as values: light to import, so that a mistake is found before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transfuse.errors import TransfuseError

from transfuse_lab.device import AUTO

DType = Literal["float32", "bfloat16"]
TOKENS = 256
"""The most tokens of text in a sample, where nobody says."""
CLOSING = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True)
class RecipeOnData:
    """A recipe by name, with ``key=value`` overrides, and what ``--data`` takes; registry: laid over all others."""

    recipe: str
    data: str
    overrides: tuple[str, ...] = ()
    registry: Path | None = None

    @property
    def words(self) -> list[str]:
        """The recipe and its options, as a command takes them."""
        sets = (word for override in self.overrides for word in ("--set", override))
        registry = ["--registry", str(self.registry)] if self.registry else []
        return [self.recipe, "--data", self.data, *sets, *registry]


def recipe_on_data(
    recipe: str | None, data: str | None, overrides: Sequence[str], registry: Path | None
) -> RecipeOnData | None:
    """Of options that may all be missing; None where they are. Raises TransfuseError where one lacks the other."""
    if recipe is not None and data is not None:
        return RecipeOnData(recipe, data, tuple(overrides), registry)
    if recipe is not None:
        raise TransfuseError("--data is missing: whose documents --recipe lays out")
    if data is not None or overrides:
        option = "--data" if data is not None else "--set"
        raise TransfuseError(f"--recipe is missing: what {option} is for")
    return None


@dataclass(frozen=True)
class SampleArguments:
    """What a run is to continue: prompts, pieces by role, a picture or a document; at most one of the four.

    given: roles and values, in a document's order; ``@FILE`` is what the role's modality loads.
    want: ROLE, or ROLE:LABEL of one of its shapes. n: samples of each. tokens: the most tokens of text in one
    (None: `TOKENS`). out: a folder, or a file. overrides: of how samples are drawn, ``image.sampler=heun``.
    device: what ``--device`` takes. dtype: in what matrix products are computed.
    """

    run: Path
    prompts: tuple[str, ...] = ()
    given: tuple[tuple[str, str], ...] = ()
    image: Path | None = None
    document: Path | None = None
    want: str | None = None
    n: int = 1
    tokens: int | None = None
    out: Path | None = None
    seed: int = 0
    overrides: tuple[str, ...] = ()
    device: str = AUTO
    dtype: DType = "float32"

    def __post_init__(self) -> None:
        if sum(bool(given) for given in (self.prompts, self.given, self.image, self.document)) > 1:
            raise TransfuseError("give one of --prompt, --given, --image and --document")


def read_given(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """``ROLE=VALUE`` by role, in order.

    >>> read_given(["text=1 + 1 = 2", "image=@two.png"])
    (('text', '1 + 1 = 2'), ('image', '@two.png'))
    """
    pairs = []
    for text in texts:
        role, equals, value = text.partition("=")
        if not role.strip() or not equals or not value:
            raise TransfuseError(
                f"--given {text!r:.80}: write ROLE=VALUE, such as text=seven or image=@seven.png"
            )
        pairs.append((role.strip(), value))
    return tuple(pairs)


def read_dtype(text: str) -> DType:
    """In what matrix products are computed.

    >>> read_dtype("bfloat16")
    'bfloat16'
    """
    if text == "float32" or text == "bfloat16":
        return text
    raise TransfuseError(f"--dtype {text!r:.40}: write float32 or bfloat16")


def read_seeds(text: str) -> tuple[int, ...]:
    """Distinct whole numbers from 0, separated by commas.

    >>> read_seeds("0,1,2")
    (0, 1, 2)
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 19 for word in words):
        raise TransfuseError(f"--seeds {text!r}: write whole numbers such as 0,1,2")
    seeds = tuple(int(word) for word in words)
    if len(set(seeds)) < len(seeds):
        raise TransfuseError(f"--seeds {text!r}: a seed stands twice")
    return seeds


def read_axes(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``key=v1,v2`` by key, sorted; commas inside brackets belong to a value.

    >>> read_axes(["mask=causal,same(doc) & delta(frame, hi=1)", "loss.image=1,5"])
    {'loss.image': ('1', '5'), 'mask': ('causal', 'same(doc) & delta(frame, hi=1)')}
    """
    axes: dict[str, tuple[str, ...]] = {}
    for text in texts:
        key, equals, given = (part.strip() for part in text.partition("="))
        values = _split(given)
        if not key or not equals or not all(values):
            raise TransfuseError(f"--axis {text!r}: write key=value,value such as loss.image=1,5")
        if key in axes:
            raise TransfuseError(f"--axis {key}: stands twice; give all its values in one")
        if len(set(values)) < len(values):
            raise TransfuseError(f"--axis {text!r}: a value stands twice")
        axes[key] = values
    return dict(sorted(axes.items()))


def _split(text: str) -> tuple[str, ...]:
    values, depth = [""], 0
    for letter in text:
        depth += (letter in CLOSING.values()) - (letter in CLOSING)
        if letter == "," and depth == 0:
            values.append("")
        else:
            values[-1] += letter
    return tuple(value.strip() for value in values)
