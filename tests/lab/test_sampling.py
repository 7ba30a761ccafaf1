"""``transfuse sample``: any role given any others, in every form that it can be asked for and written in."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transfuse import checkpoints
from transfuse.checkpoints import RunFolder
from transfuse.datasets import DataSet
from transfuse.documents import Document, Item
from transfuse.files import read_json
from transfuse.registry import Registry
from transfuse_lab.commands.document_files import DocumentFiles
from transfuse_lab.commands.repeats import Repeats
from transfuse_lab.drawing.sheet import GAP
from transfuse_lab.runs.training import train

from tests.tiny.packages import install

RECIPES = ("transfusion", "chameleon")


class Only(DataSet):
    """The documents of a data set with items of some roles alone."""

    def __init__(self, data: DataSet, roles: frozenset[str]) -> None:
        self.data, self.roles, self.name = data, roles, "only"

    def size(self, split: str) -> int:
        return self.data.size(split)

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        whole = self.data.document(split, index, rng)
        return Document(
            tuple(item for item in whole.items if item.modality in self.roles), whole.id, whole.source
        )

    def identity(self) -> dict[str, Any]:
        return {**self.data.identity(), "roles": sorted(self.roles)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """``run("series-flow", "text", "series")``: the folder of a run of 6 steps on these roles, made once."""
    with pytest.MonkeyPatch.context() as patch:
        install("tf_series", tmp_path_factory.mktemp("site"), patch)
        registry = Registry.open()

        @cache
        def made(recipe: str, *roles: str) -> Path:
            known = registry.recipe(recipe).modalities
            off = [f"{role}=null" for role in known if role not in roles]
            resolved = registry.recipe(recipe, ["train.steps=6", "model.layers=1", "model.dim=32", *off])
            name = recipe.replace("-flow", "")
            data = registry.plugins.choose("dataset", {"name": name, "train": 24, "heldout": 4}).build()
            folder = tmp_path_factory.mktemp("-".join(roles))
            train(
                resolved, Only(data, frozenset(roles)), {}, folder, registry.plugins, report=lambda line: None
            )
            return folder

        yield made


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def refused(done: Any, *words: object) -> None:
    """An error of one line, in which these words are."""
    assert done.exit_code == 2, (done.exception, done.stdout)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert str(word) in done.stderr


# -- any roles


def test_text_alone(cli: Callable, run: Callable, tmp_path: Path) -> None:
    """Nothing has to be said, and nothing but texts comes: printed, in a file each, or as documents."""
    text = run("series-flow", "text")
    for asked in ((), ("--want", "text"), ("--prompt", "wa"), ("--given", "text=wa")):
        done = cli("sample", text, *asked, "--n", 2, "--tokens", 3)
        assert done.exit_code == 0, done.stderr
        assert len(done.stdout.splitlines()) == 2
    done = cli("sample", text, "--n", 2, "--out", tmp_path / "a.txt")
    printed = [line for line in done.stdout.splitlines() if not line.startswith("text: ")]
    assert [(tmp_path / f"a-{i}.txt").read_text() for i in (0, 1)] == printed
    cli("sample", text, "--prompt", "wa", "--out", tmp_path / "docs")
    assert [*map(list, read_json(tmp_path / "docs/0.json", "document"))] == [["text"], ["text"]]
    assert cli("sample", text, "--out", tmp_path / "a.svg").exit_code == 0
    refused(cli("sample", text, "--out", tmp_path / "a.png"), "drawings of text are no PNGs", ".svg")


def test_samples_that_are_all_the_same_are_told_with_what_draws_others(cli: Callable, run: Callable) -> None:
    """Text is the likeliest at each place unless a temperature is set; where something differs nothing is said."""
    text = run("series-flow", "text")
    cure = "--set text.temperature=1"
    for prompts in (("--prompt", "wa"), ("--prompt", "wa", "--prompt", "r")):
        done = cli("sample", text, *prompts, "--n", 3, "--tokens", 5)
        assert len({*done.stdout.splitlines()[:3]}) == 1
        assert done.stderr == (
            f"note: the 3 samples of text are the same: its temperature is 0, the likeliest at each place; {cure} "
            f"draws others\n"
        )
        done = cli("sample", text, *prompts, "--n", 3, "--tokens", 5, *cure.split())
        assert len({*done.stdout.splitlines()[:3]}) > 1
        assert done.stderr == ""
        assert cli("sample", text, *prompts, "--tokens", 5).stderr == ""


def test_a_role_that_draws_without_chance_is_told_as_well(run: Callable) -> None:
    recipe = RunFolder(run("series-flow", "text", "series")).recipe(Registry.open().plugins)
    series, words = Item("series", np.ones(3)), Item("text", "wave")
    for other, told in ((np.ones(3), ["series", "text"]), (np.zeros(3), ["text"])):
        repeats = Repeats(2)
        for number, raw in enumerate((series.data, other)):
            repeats.take(number, (Item("series", raw), words))
        assert [line.split()[4] for line in repeats.lines(recipe)] == told
    repeats = Repeats(2)
    for number in (0, 1):
        repeats.take(number, (series,))
    assert repeats.lines(recipe) == [
        "the 2 samples of series are the same: the model is sure of it, or draws without chance; "
        "try another --set series.sampler or --set series.guidance"
    ]
    repeats.take(2, (series,))
    repeats.take(3, ())
    assert repeats.lines(recipe) == []


def test_pictures_alone(cli: Callable, run: Callable, tmp_path: Path) -> None:
    pictures = run("series-pictures", "image")
    for asked in ((), ("--prompt", ""), ("--want", "image"), ("--want", "image:2x2")):
        done = cli("sample", pictures, *asked, "--n", 4, "--out", tmp_path / "a.png")
        assert (done.exit_code, done.stderr) == (0, "")
        assert pixels(tmp_path / "a.png").shape[:2] == (2 * 64 + 3 * GAP, 2 * 64 + 3 * GAP)
    refused(
        cli("sample", pictures, "--prompt", "wave", "--out", tmp_path / "b.png"),
        "no role of this model (image)",
    )
    refused(cli("sample", pictures), "--out is missing: a folder for image")


def test_series_alone_of_two_shapes_are_asked_for_by_shape(
    cli: Callable, run: Callable, tmp_path: Path
) -> None:
    series = run("series-flow", "series")
    refused(cli("sample", series, "--out", tmp_path / "a.npy"), "16, 24", "--want series:LABEL")
    for length in (16, 24):
        done = cli("sample", series, "--want", f"series:{length}", "--out", tmp_path / "a.npy")
        assert done.exit_code == 0, done.stderr
        assert np.load(tmp_path / "a.npy").shape == (length,)
    refused(
        cli("sample", series, "--want", "series:17", "--out", tmp_path / "a.npy"),
        "has no shape '17'",
        "16, 24",
    )


def test_one_role_of_two_given_the_other(cli: Callable, run: Callable, tmp_path: Path) -> None:
    both = run("series-flow", "text", "series")
    done = cli("sample", both, "--given", "text=wave", "--n", 3, "--out", tmp_path / "a.npy")
    assert [np.load(tmp_path / f"a-{i}.npy").ndim for i in range(3)] == [1, 1, 1], done.output
    told = cli("sample", both, "--given", f"series=@{tmp_path / 'a-0.npy'}", "--n", 2)
    assert len(told.stdout.splitlines()) == 2
    (tmp_path / "wave.txt").write_text("wave")
    for given in ("text=wave", f"text=@{tmp_path / 'wave.txt'}"):
        cli("sample", both, "--given", given, "--want", "series:16", "--out", tmp_path / "b.npy")
        assert np.load(tmp_path / "b.npy").tobytes()
        cli("sample", both, "--prompt", "wave", "--want", "series:16", "--out", tmp_path / "c.npy")
        assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "c.npy").read_bytes()
    cli("sample", both, "--given", "text=@@wave", "--out", tmp_path / "at")
    assert read_json(tmp_path / "at/0.json", "document")[0] == {"text": "@wave"}


def test_two_picture_roles(cli: Callable, run: Callable, tmp_path: Path) -> None:
    two = run("mirrored", "image", "mirror")
    done = cli("sample", two, "--want", "image", "--out", tmp_path / "a.jpg")
    assert done.exit_code == 0, done.stderr
    picture = tmp_path / "a.jpg"
    done = cli("sample", two, "--given", f"image=@{picture}", "--n", 4, "--out", tmp_path / "m.png")
    assert done.exit_code == 0, done.stderr
    assert pixels(tmp_path / "m.png").shape[0] == 2 * 64 + 3 * GAP
    refused(
        cli("sample", two, "--image", picture, "--out", "a.png"), "image and mirror do", "--given image=@FILE"
    )
    refused(cli("sample", two, "--out", tmp_path / "a"), "--want is missing: which of image and mirror")


def test_three_roles(cli: Callable, run: Callable, tmp_path: Path) -> None:
    three = run("series-pictures", "text", "image", "series")
    refused(
        cli("sample", three, "--prompt", "wave", "--out", "a"), "--want is missing: which of series and image"
    )
    refused(cli("sample", three, "--given", "text=wave", "--out", "a"), "such as --want series")
    done = cli("sample", three, "--prompt", "wave", "--want", "image", "--out", tmp_path / "a.png")
    assert done.exit_code == 0, done.stderr
    given = ("--given", "text=wave", "--given", f"image=@{tmp_path / 'a.png'}")
    done = cli("sample", three, *given, "--out", tmp_path / "docs", "--n", 2)
    assert done.exit_code == 0, done.stderr
    for i in (0, 1):
        document = read_json(tmp_path / f"docs/{i}.json", "document")
        assert document == [{"text": "wave"}, {"image": "given-1.png"}, {"series": f"{i}-2.npy"}]
    done = cli("sample", three, "--out", tmp_path / "b.svg", "--n", 2, "--tokens", 2)
    assert done.exit_code == 0, done.stderr
    assert "2 samples" in done.stdout


def test_what_is_written_can_be_given_back(cli: Callable, run: Callable, tmp_path: Path) -> None:
    """Whatever the roles: the documents of a folder, given back, are the same documents with more behind."""
    three = run("series-pictures", "text", "image", "series")
    (tmp_path / "d.json").write_text('[{"text": "wave", "droppable": false}, {"text": "pulse"}]')
    cli("sample", three, "--document", tmp_path / "d.json", "--want", "image", "--out", tmp_path / "a")
    cli("sample", three, "--document", tmp_path / "a/0.json", "--want", "series", "--out", tmp_path / "b")
    cli("sample", three, "--document", tmp_path / "b/0.json", "--want", "image", "--out", tmp_path / "c")
    plugins = Registry.open().plugins
    model = checkpoints.load(three, plugins)[1]
    files = DocumentFiles(model.modalities, {"text"})
    a, b, c = (files.read(tmp_path / name / "0.json").items for name in "abc")
    assert [item.droppable for item in a] == [False, True, False]
    for shorter, longer in ((a, b), (b, c)):
        assert len(longer) == len(shorter) + 1
        for one, two in zip(shorter, longer, strict=False):
            assert (one.modality, one.droppable) == (two.modality, two.droppable)
            np.testing.assert_array_equal(one.data, two.data)


def test_a_save_that_makes_no_folder_finds_one(
    cli: Callable, run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever calls a modality's ``save`` makes the folder: for a document, a given item and a file alike."""
    from tf_series.modality import Series

    series = run("series-flow", "text", "series")
    monkeypatch.setattr(Series, "save", lambda self, raw, path: path.write_bytes(b"own"), raising=False)
    for out in ("docs", "new/deep/a.npy"):
        asked = ("--prompt", "wave", "--want", "series:16", "--n", 2, "--out", tmp_path / out)
        done = cli("sample", series, *asked)
        assert done.exit_code == 0, done.stderr
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.npy"))
    assert written == ["docs/0-1.npy", "docs/1-1.npy", "new/deep/a-0.npy", "new/deep/a-1.npy"]


def test_roles_that_a_run_says_can_be_left_out_are_droppable(
    cli: Callable, run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As prompts of text are: with guidance, a document without them is what a sample is pushed away from."""
    two, made = run("mirrored", "image", "mirror"), []
    described = RunFolder(two).description
    cli("sample", two, "--want", "image", "--out", tmp_path / "a.png")
    for roles in ([], ["image"]):
        monkeypatch.setattr(RunFolder, "description", {**described, "droppable": roles})
        given = ("--given", f"image=@{tmp_path / 'a.png'}", "--out")
        assert cli("sample", two, *given, tmp_path / "b.npy").exit_code == 0
        made.append((tmp_path / "b.npy").read_bytes())
        assert cli("sample", two, *given, tmp_path / "docs").exit_code == 0
        assert read_json(tmp_path / "docs/0.json", "document")[0] == {"image": "given-0.png"}
    assert made[0] != made[1]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--given", "seres=@a.npy"), "--given seres: this model has no such role, did you mean 'series'?"),
        (("--given", "series=a.npy"), "series is no text: give a file, series=@FILE"),
        (("--given", "series=@none.npy"), "none.npy is missing"),
        (("--given", "series=@a.wav"), "a.wav: give a file that ends in .npy or .txt"),
        (("--given", "text=@none.txt"), "none.txt is missing"),
        (("--given", "text"), "--given 'text': write ROLE=VALUE"),
        (("--given", "=x"), "write ROLE=VALUE"),
        (("--want", "seres"), "--want seres: this model has no such role, did you mean 'series'?"),
        (("--prompt", "a", "--want", "series:9"), "modality 'series' has no shape '9'; known: 16, 24"),
        (("--want", "text:9"), "modality 'text' has no shape '9'"),
        (("--want", "series", "--tokens", "3"), "--tokens is not used for series"),
        (("--image", "a.png"), "(text, series) one should load pictures, and none does"),
        (("--prompt", "a", "--given", "text=b"), "give one of --prompt, --given, --image and --document"),
    ],
)
def test_what_cannot_be_asked_for(
    cli: Callable, run: Callable, tmp_path: Path, asked: tuple[str, ...], message: str
) -> None:
    refused(cli("sample", run("series-flow", "text", "series"), *asked, "--out", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


def test_what_a_modality_raises_or_returns_is_told_in_a_line(
    cli: Callable, run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tf_series.modality import Series

    asked = ("sample", run("series-flow", "text", "series"), "--prompt", "wave", "--out")
    for method, found, out in (("draw", 3, "a.svg"), ("save", None, "a.npy")):
        monkeypatch.setattr(Series, method, lambda self, *given, found=found: found or 1 // 0)
        refused(cli(*asked, tmp_path / out), "modality 'series' (tf-series 0.1)", method)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xyz", "give a folder, a sheet (.png, .svg), or a file of series (.npy, .txt)"),
        ("a.wav", "a.wav: cannot be written"),
        ("a.png", "drawings of series are no PNGs: give a name that ends in .svg"),
        ("file/a.svg", "file is a file"),
        ("file/a", "file is a file"),
        ("file", "file is a file"),
    ],
)
def test_where_samples_cannot_go_is_said_before_any_is_drawn(
    cli: Callable, run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("transfuse_lab.commands.sample.generate_chunks", lambda *_: pytest.fail("drawn"))
    done = cli("sample", run("series-flow", "text", "series"), "--prompt", "wave", "--out", tmp_path / name)
    refused(done, message, tmp_path / name)


# -- settings of how samples are drawn


def test_samples_can_be_drawn_otherwise(cli: Callable, run: Callable, tmp_path: Path) -> None:
    both = run("series-flow", "text", "series")

    def drawn(*sets: str) -> bytes:
        words = [word for one in sets for word in ("--set", one)]
        done = cli(
            "sample", both, "--prompt", "wave", "--want", "series:16", "--out", tmp_path / "a.npy", *words
        )
        assert done.exit_code == 0, done.stderr
        return (tmp_path / "a.npy").read_bytes()

    usual = drawn()
    assert drawn("series.sampler.evaluations=20", "series.guidance.scale=2") == usual  # what the run says
    others = [
        drawn(one)
        for one in ("series.sampler.evaluations=3", "series.sampler=heun", "series.guidance.scale=1")
    ]
    assert len({usual, *others}) == 4
    assert drawn("series.guidance.views=[{drop: [text], scale: 2}]") == usual
    before = read_json(both / "recipe.json", "run")
    assert before["modalities"]["series"]["sampler"]["evaluations"] == 20, "the run stays as it is"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("train.lr=1", "--set train.lr: is settled by the training"),
        ("model.dim=64", "--set model.dim: is settled by the training"),
        ("mask=causal", "--set mask: is settled by the training"),
        ("loss.series=2", "--set loss.series: is settled by the training"),
        ("series.objective=ddpm", "--set series.objective: is settled by the training"),
        ("text.vocab=300", "of this run may be set: series.guidance, series.sampler, text.temperature"),
        ("series.sampler.evaluation=3", "did you mean 'evaluations'?"),
        ("image.sampler=heun", "--set image.sampler: unknown key"),
        ("series=small_image", "--set series: is settled by the training"),
        ("series={sampler: heun, objective: ddpm}", "--set series.objective: is settled"),
        ("series.sampler", "write key=value"),
    ],
)
def test_what_training_settled_stays(
    cli: Callable, run: Callable, tmp_path: Path, sets: str, message: str
) -> None:
    both = run("series-flow", "text", "series")
    refused(cli("sample", both, "--prompt", "wave", "--out", tmp_path / "a", "--set", sets), message)


# -- captioned pictures


@pytest.mark.parametrize("recipe", RECIPES)
class TestPrompts:
    def test_a_grid_of_n(self, cli: Callable, trained: Callable, tmp_path: Path, recipe: str) -> None:
        done = cli("sample", trained(recipe), "--prompt", "up", "--n", 5, "--out", tmp_path / "new/grid.png")
        assert (done.exit_code, done.stderr) == (0, "")
        assert "5 x 'up'" in done.stdout
        assert pixels(tmp_path / "new/grid.png").shape[:2] == (2 * 64 + 3 * GAP, 3 * 64 + 4 * GAP)

    def test_equal_seeds_equal_samples(
        self, cli: Callable, trained: Callable, tmp_path: Path, recipe: str
    ) -> None:
        def drawn(seed: int, name: str) -> bytes:
            cli(
                "sample",
                trained(recipe),
                "--prompt",
                "up",
                "--n",
                2,
                "--out",
                tmp_path / name,
                "--seed",
                seed,
            )
            return (tmp_path / name).read_bytes()

        one, two, three = drawn(3, "a.png"), drawn(3, "b.png"), drawn(4, "c.png")
        assert one == two
        assert one != three

    def test_samples_of_one_prompt_differ(
        self, cli: Callable, trained: Callable, tmp_path: Path, recipe: str
    ) -> None:
        cli("sample", trained(recipe), "--prompt", "up", "--n", 2, "--out", tmp_path / "a.png")
        sheet = pixels(tmp_path / "a.png").astype(int)
        half = sheet.shape[1] // 2
        assert np.abs(sheet[:, :half] - sheet[:, half : 2 * half]).max() > 0

    def test_any_words_and_none(self, cli: Callable, trained: Callable, tmp_path: Path, recipe: str) -> None:
        for words in ("Ω 👩‍👩‍👧 never seen", ""):
            done = cli("sample", trained(recipe), "--prompt", words, "--out", tmp_path / "a.png")
            assert done.exit_code == 0, done.stderr

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "--out is missing"),
            (("--out", "{}/grid.xyz"), "grid.xyz: cannot be written"),
            (("--out", "{}/file/grid.png"), "grid.png: cannot be written"),
        ],
    )
    def test_where_it_cannot_go(
        self, cli: Callable, trained: Callable, tmp_path: Path, recipe: str, arguments: tuple, message: str
    ) -> None:
        (tmp_path / "file").write_text("")
        done = cli("sample", trained(recipe), "--prompt", "up", *(a.format(tmp_path) for a in arguments))
        assert done.exit_code == 2
        assert message in done.stderr
        assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_caption(cli: Callable, trained: Callable, pictures: Path, recipe: str) -> None:
    picture = pictures / "test-0.png"
    told = []
    for seed in (0, 9):
        done = cli("sample", trained(recipe), "--image", picture, "--n", 2, "--seed", seed)
        assert done.exit_code == 0, done.stderr
        told.append(done.stdout.splitlines())
    assert len(told[0]) == 2
    assert all(told[0])
    assert told[0] == told[1]  # greedy


@pytest.mark.parametrize("recipe", RECIPES)
class TestDocuments:
    def write(self, folder: Path, pictures: Path, value: object) -> Path:
        folder.mkdir(exist_ok=True)
        shutil.copy(pictures / "train-0.png", folder / "one.png")
        path = folder / "prompt.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    def test_interleaved_items_in_any_order(
        self, cli: Callable, trained: Callable, pictures: Path, tmp_path: Path, recipe: str
    ) -> None:
        entries = [
            {"text": "up"}, {"image": "one.png"}, {"text": "down", "droppable": True}, {"image": "one.png"},
            {"image": "one.png"},
        ]  # fmt: skip
        for given in (entries, entries[::-1], entries[:1], []):
            path = self.write(tmp_path / "in", pictures, given)
            done = cli("sample", trained(recipe), "--document", path, "--out", tmp_path / "out", "--n", 2)
            assert done.exit_code == 0, done.stderr
            *lines, last = done.stdout.splitlines()
            assert last == f"2 documents: {tmp_path / 'out'}"
            for line in lines:
                assert line.startswith(("text: ", "image: ", "the model ended the document here"))
                if line.startswith("image: "):
                    assert pixels(Path(line.removeprefix("image: "))).shape == (8, 8)

    def test_what_is_read(self, trained: Callable, pictures: Path, tmp_path: Path, recipe: str) -> None:
        path = self.write(tmp_path, pictures, [{"image": "one.png"}, {"text": "up", "droppable": True}])
        model = checkpoints.load(trained(recipe))[1]
        document = DocumentFiles(model.modalities, {"text"}).read(path)
        assert [(i.modality, i.noised, i.droppable) for i in document.items] == [
            ("image", False, False),
            ("text", False, True),
        ]
        assert document.items[0].data.shape == (1, 8, 8)
        assert document.items[0].data.dtype == np.float32
        assert document.items[0].data.max() <= 1
        assert document.source == str(path)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("[{", "is damaged"),
            ("[" * 100_000, "is damaged"),
            ("\ud800".encode("utf-8", "surrogatepass").decode("latin1"), "is damaged"),
            ({"text": "up"}, "must be a list: write a list such as"),
            ("3", "must be a list"),
            ([3], "entry 0 must be"),
            ([{"text": "up"}, "down"], "entry 1 must be"),
            ([{"text": "up", "image": "one.png"}], "entry 0 must be"),
            ([{}], "entry 0 must be"),
            ([{"droppable": True}], "entry 0 must be"),
            ([{"text": "up", "droppable": "yes"}], "entry 0 must be"),
            ([{"text": 7}], "entry 0 must be"),
            ([{"text": None}], "entry 0 must be"),
            ([{"txet": "up"}], "entry 0: this model has text and image, not 'txet'"),
            ([{"text": ""}], r"item 0 (text): it is empty"),
            ([{"text": "a\ud800"}], r"item 0 (text): text must be UTF-8"),
            ([{"image": "none.png"}], "none.png: cannot be read"),
            ([{"image": "prompt.json"}], "prompt.json: not a readable image"),
            ([{"image": "a\0b.png"}], "not a readable image"),
            ([{"image": "."}], "cannot be read"),
        ],
    )
    def test_malformed(
        self,
        cli: Callable,
        trained: Callable,
        pictures: Path,
        tmp_path: Path,
        recipe: str,
        value: object,
        message: str,
    ) -> None:
        path = self.write(tmp_path, pictures, value)
        done = cli("sample", trained(recipe), "--document", path, "--out", tmp_path / "made")
        assert done.exit_code == 2, (done.exception, done.stdout)
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert str(tmp_path) in done.stderr
        assert not (tmp_path / "made").exists()

    def test_a_document_that_is_not_there(
        self, cli: Callable, trained: Callable, tmp_path: Path, recipe: str
    ) -> None:
        for path, message in ((tmp_path / "none.json", "is missing"), (tmp_path, "cannot be read")):
            done = cli("sample", trained(recipe), "--document", path, "--out", tmp_path / "out")
            assert done.exit_code == 2
            assert f"{path} {message}" in done.stderr


def test_a_picture_that_is_none_of_the_models(cli: Callable, trained: Callable, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    done = cli("sample", trained("transfusion"), "--image", tmp_path / "text.png")
    assert done.exit_code == 2
    assert "text.png: not a readable image" in done.stderr
