"""``transfuse sample``: the picture of a grid, captions, and any interleaved document in and out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transfuse import checkpoints
from transfuse.errors import TransfuseError
from transfuse.model.model import Model
from transfuse_lab.commands.sample import read_document
from transfuse_lab.drawing.sheet import GAP

RECIPES = ("transfusion", "chameleon")


@pytest.fixture(scope="module")
def model(trained: Callable) -> Model:
    return checkpoints.load(trained("transfusion"))[1]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


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
            (("--out", "{}/grid"), "grid: cannot be written"),
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
    picture = pictures / "heldout-0.png"
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
            done = cli("sample", trained(recipe), "--document", path, "--out", tmp_path / "out/made.png")
            assert done.exit_code == 0, done.stderr
            for line in done.stdout.splitlines():
                assert line.startswith(("text: ", "image: ", "the model ended the document here"))
                if line.startswith("image: "):
                    assert pixels(Path(line.removeprefix("image: "))).shape[0] > 8

    def test_what_is_read(self, model: Model, pictures: Path, tmp_path: Path, recipe: str) -> None:
        path = self.write(tmp_path, pictures, [{"image": "one.png"}, {"text": "up", "droppable": True}])
        document = read_document(path, model)
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
            ({"text": "up"}, "must be a list such as"),
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
            ([{"image": "none.png"}], "none.png: not a readable PNG or JPEG"),
            ([{"image": "prompt.json"}], "prompt.json: not a readable PNG or JPEG"),
            ([{"image": "a\0b.png"}], "not a readable PNG or JPEG"),
            ([{"image": "."}], "not a readable PNG or JPEG"),
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
        done = cli("sample", trained(recipe), "--document", path, "--out", tmp_path / "made.png")
        assert done.exit_code == 2, (done.exception, done.stdout)
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert str(tmp_path) in done.stderr
        assert not (tmp_path / "made-1.png").exists()

    def test_a_document_that_is_not_there(
        self, cli: Callable, trained: Callable, tmp_path: Path, recipe: str
    ) -> None:
        for path, message in ((tmp_path / "none.json", "is missing"), (tmp_path, "cannot be read")):
            done = cli("sample", trained(recipe), "--document", path)
            assert done.exit_code == 2
            assert f"{path} {message}" in done.stderr

    def test_several_are_numbered(
        self, cli: Callable, trained: Callable, pictures: Path, tmp_path: Path, recipe: str
    ) -> None:
        path = self.write(tmp_path / "in", pictures, [{"text": "up"}])
        done = cli("sample", trained(recipe), "--document", path, "--n", 3, "--out", tmp_path / "made.png")
        assert done.exit_code == 0, done.stderr
        names = sorted(p.name for p in tmp_path.glob("*.png"))
        assert all(name.split("-")[1] in "012" for name in names)


def test_a_picture_that_is_none_of_the_models(cli: Callable, trained: Callable, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    done = cli("sample", trained("transfusion"), "--image", tmp_path / "text.png")
    assert done.exit_code == 2
    assert "text.png: not a readable PNG or JPEG" in done.stderr


def test_read_document_without_the_command(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"imgae": "x.png"}]')
    with pytest.raises(TransfuseError, match=r"entry 0: this model has text and image, not 'imgae'"):
        read_document(tmp_path / "a.json", model)
