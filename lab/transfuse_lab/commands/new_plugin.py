"""`transfuse plugins new NAME`: a package of a modality, filled from the templates that lie beside the commands."""

import keyword
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from transfuse.config.parts import noun
from transfuse.config.recipe import RESERVED
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.files import write_bytes
from transfuse.registry import Registry

from transfuse_lab.output_paths import check_folder
from transfuse_lab.progress import say

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
TEMPLATES = files("transfuse_lab") / "templates"
SUFFIX = ".tmpl"

MODALITY = {
    "own": "modality",
    "own_says": "raw data to numbers and back, labels, layers, `fit` and `facts`",
    "interface": "SpanModality",
    "part": "SpanModality",
    "brings": "a modality",
    "hook": "transfuse_modalities",
    "classes": "DataSetTests, ModalityTests",
    "codec_tests": "",
    "given": "--given text=fast",
    "tasks": "",
    "compared": """`transfuse compare --axis $name.objective=flow,ddpm` draws both with one sampler, and they do not \
share a best one ("Which sampler" on transfuse's page on objectives). Draw each as suits it, `transfuse eval RUN --set \
$name.sampler=ancestral --set $name.sampler.evaluations=100`, or tune the sampler of each arm in a plan: `drawn: \
{$name.sampler.eta: [0, 1], $name.sampler.evaluations: [25, 100]}` with `$name.sampler=ddim`.

""",
    "roles": '            "$name": {"kind": "$name"},',
    "mask": "bidirectional",
    "loss": '"text": 1, "$name": 5',
}
WAVES = '''def make(draw: np.random.Generator) -> tuple[Item, ...]:
    """CHANGE: one document's items: here a word, and a wave of that speed."""
    word, turns = (("slow", 1), ("fast", 3))[draw.integers(2)]
    x = np.linspace(0, 1, (16, 24)[draw.integers(2)], dtype=np.float32)
    wave = np.sin(2 * np.pi * (turns * x + draw.random())).astype(np.float32)
    return Item("text", word, droppable=True), Item("$name", wave)'''
KINDS: Mapping[str, Mapping[str, str]] = {
    "span": {**MODALITY, "what": "$Name as spans of numbers, diffused whole", "make": WAVES},
    "token": {
        **MODALITY,
        "what": "$Name as ids, predicted one by one",
        "interface": "TokenModality",
        "part": "TokenModality",
        "compared": "",
        "own_says": "the alphabet, raw data to ids and back, labels",
        "given": "--given text=up",
        "mask": "causal",
        "loss": '"text": 1, "$name": 1',
        "make": '''def make(draw: np.random.Generator) -> tuple[Item, ...]:
    """CHANGE: one document's items: here a word, and a tune that goes so, of letters A to G."""
    word, step = (("up", 1), ("down", -1))[draw.integers(2)]
    steps = step * draw.integers(1, 5, (8, 12)[draw.integers(2)])
    tune = "".join("ABCDEFG"[note] for note in steps.cumsum() % 7)
    return Item("text", word, droppable=True), Item("$name", tune)''',
    },
    "codes": {
        **MODALITY,
        "what": "$Name as a grid of codes, predicted one by one",
        "own": "codec",
        "own_says": "raw data to codes and back, what `fit` learns of them",
        "interface": "Codec",
        "part": "TokenModality",
        "brings": "a codec",
        "compared": "",
        "hook": "transfuse_codecs",
        "classes": "CodecTests, DataSetTests, ModalityTests",
        "codec_tests": """

class TestCodec(CodecTests):
    @pytest.fixture
    def codec(self):
        return RECIPE.modalities["$name"].settings.codec.build()

    @pytest.fixture
    def raws(self):
        return list(DATA.raw("train", "$name"))[:8]
""",
        "roles": '            "$name": {"kind": "vq", "codec": "$name"},',
        "mask": "causal",
        "loss": '"text": 1, "$name": 1',
        "make": WAVES,
    },
    "actions": {
        **MODALITY,
        "what": "$Name as chunks of actions, diffused given a state and a word",
        "given": "--given text=left --given $name=@state.npy",
        "tasks": '\n    tasks = ("text+$name->$name",)',
        "make": '''def make(draw: np.random.Generator) -> tuple[Item, ...]:
    """CHANGE: one document's items: where to go, where one is (a step that is shown), eight steps that go there."""
    word, goal = (("left", -1.0), ("right", 1.0))[draw.integers(2)]
    place = draw.uniform(-1, 1, 2).astype(np.float32)
    share = np.linspace(0, 1, 8, dtype=np.float32)[:, None]
    steps = (np.array([goal, 0], np.float32) - place) * share * (1 - share)
    state = Item("$name", place[None], loss=False, noised=False)
    return Item("text", word, droppable=True), state, Item("$name", steps)''',
    },
}  # fmt: skip


def new_command(name: str, kind: str, out: Path) -> None:
    """Writes the package into ``out``, and says what to do next.

    name: of the plugin, its modality (or codec), data set and recipe. kind: one of `KINDS`. Raises TransfuseError
    where the name is none or is taken, or ``out`` is no new or empty folder.
    """
    if kind not in KINDS:
        raise TransfuseError(f"--kind {kind!r}: {did_you_mean(kind, KINDS)}")
    _check_name(name)
    check_folder("--out", out)
    if out.is_dir() and any(out.iterdir()):
        raise TransfuseError(f"--out {out} holds files already: name a folder that is new or empty")
    written = 0
    for path, text in package(name, kind):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out / path, text.encode())
        written += 1
    say(f"{written} files in {out}; what to change is marked CHANGE. Next:")
    say(f"  pip install -e {out}")
    say(f"  transfuse plugins check {name}")
    say(f"  transfuse train {name} --data {name} --out runs/{name}")


def package(name: str, kind: str) -> Iterator[tuple[str, str]]:
    """The files of a package, each with its path in it and its text."""
    words = {
        "name": name,
        "Name": "".join(word.capitalize() for word in name.split("_")),
        "package": f"tf_{name}",
        "distribution": f"tf-{name.replace('_', '-')}",
        "kind": kind,
    }
    own = f"from tf_{name}.{KINDS[kind]['own']} import {words['Name']}, {words['Name']}Settings"
    data = f"from tf_{name}.data import {words['Name']}Data, {words['Name']}DataSettings"
    words["imports"] = "\n".join(sorted([own, data]))
    words |= {key: Template(text).substitute(words) for key, text in KINDS[kind].items()}
    for folder in ("all", kind):
        for path, text in _templates(TEMPLATES / folder):
            place = path.replace("package", words["package"], 1).replace("NAME", name)
            yield place.removesuffix(SUFFIX), Template(text).substitute(words)


def _templates(folder: Traversable, place: str = "") -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _templates(entry, f"{place}{entry.name}/")
        else:
            yield f"{place}{entry.name}", entry.read_text(encoding="utf-8")


def _check_name(name: str) -> None:
    """Raises TransfuseError where this cannot be the name of a plugin, a Python module, a role and a column."""
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise TransfuseError(
            f"{name!r:.60} is no name for a plugin: small letters, digits and _, a letter first, at most 40, no word "
            f"of Python, such as audio"
        )
    registry = Registry.open()
    plugins = registry.plugins
    taken = {row.plugin.name: f"the plugin {row.plugin.name!r}" for row in plugins.listing()}
    for kind in ("modality", "codec", "dataset"):
        taken |= {part: f"the {noun(kind)} {part!r}" for part in plugins.parts(kind)}
    taken |= {recipe: f"the recipe {recipe!r}" for recipe in registry.names("recipes")}
    taken |= {word: f"{word!r}, which is a column of every document" for word in RESERVED}
    if name in taken:
        raise TransfuseError(f"{name!r} is taken: there is {taken[name]}; choose another name")
