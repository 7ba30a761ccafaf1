"""Samples and evaluations of a run: what it lacks, done as it is told, and something is made."""
# ruff: noqa: E501, UP031 (a command and what it must do stand on one line)

import shlex

import pytest

from tests.cures.situation import Situation, cures

TWO = (
    "recipes: {two: {modalities: {image: {kind: image, codec: pixel, patcher: {patch: 2}}, depth: {kind: image, codec: pixel, "
    "patcher: {patch: 2}}}, mask: bidirectional, loss: {image: 1, depth: 1}, model: {dim: 32, layers: 2, heads: 2}, "
    "train: {steps: 4, budget: 160}}}"
)


@pytest.fixture
def run(s: Situation) -> Situation:
    s.pets()
    s.works(*s.train())
    return s


@pytest.fixture
def pictures_only(s: Situation) -> Situation:
    s.pets()
    s.works(*s.train(without="text"))
    return s


@pytest.fixture
def two(s: Situation) -> Situation:
    """A run of two roles of pictures, and none that begins them."""
    s.pets(captions=False)
    line = '{"items": [{"image": "p%d.png"}, {"depth": "p%d.png"}], "split": "%s"}\n'
    s.write("pets/documents.jsonl", "".join(line % (i, i, "heldout" if i > 4 else "train") for i in range(6)))
    s.write("registry.yaml", TWO)
    s.works("train", "two", "--data", "pets;images=[image,depth]", "--out", "run")
    return s


class TestNext:
    """Every command that stands behind ``next:``."""

    def follow(self, s: Situation) -> None:
        for command in s.finds("next: (.*)").split("   or   "):
            s.works(*shlex.split(command)[1:])

    @pytest.mark.parametrize("without", ["text", "image"])
    @pytest.mark.parametrize("recipe", ["transfusion", "chameleon"])
    def test_of_one_role(self, s: Situation, recipe: str, without: str) -> None:
        s.pets()
        s.works(*s.train(recipe=recipe, without=without))
        self.follow(s)

    @pytest.mark.parametrize("out", ["run", "my runs/a; b"])
    def test_of_both(self, s: Situation, out: str) -> None:
        s.pets()
        s.works(*s.train(out=out))
        self.follow(s)

    def test_of_two_roles_that_nothing_begins(self, two: Situation) -> None:
        self.follow(two)

    def test_of_nothing_held_out(self, s: Situation) -> None:
        s.pets(captions=False)
        s.write(
            "pets/captions.jsonl",
            "".join('{"image": "p%d.png", "caption": "a", "split": "train"}\n' % i for i in range(6)),
        )
        s.works(*s.train())
        self.follow(s)
        assert "eval" not in s.finds("next: (.*)", -2)

    def test_of_documents_of_several_pictures(self, s: Situation) -> None:
        s.pets(captions=False)
        line = '{"items": [{"text": "a"}, {"image": "p%d.png"}, {"text": "b"}, {"image": "p0.png"}], "split": "%s"}\n'
        s.write(
            "pets/documents.jsonl", "".join(line % (i, "heldout" if i > 4 else "train") for i in range(6))
        )
        s.works(*s.train())
        self.follow(s)


class TestSamples:
    @cures("sample.py: --prompt: no role of this model")
    @pytest.mark.parametrize("way", ["out", "given"])
    def test_a_prompt_for_pictures_only(self, pictures_only: Situation, way: str) -> None:
        s = pictures_only
        s.refused("sample", "run", "--prompt", "pet", "--out", "x.png")
        option = s.finds("say (--given) ROLE=VALUE")
        s.works(
            "sample", "run", *([option, "image=@pets/p0.png"] if way == "given" else []), "--out", "x.png"
        )

    @cures("sample.py: none does: leave it out")
    def test_a_picture_for_texts_only(self, s: Situation) -> None:
        s.pets()
        s.works(*s.train(without="image"))
        s.refused("sample", "run", "--image", "pets/p0.png")
        s.works("sample", "run")

    @cures("sample.py: {' and '.join(roles)} do: say", "sample.py: --want is missing")
    def test_a_picture_for_two_roles(self, two: Situation) -> None:
        two.refused("sample", "run", "--image", "pets/p0.png", "--out", "x.png")
        given = two.finds("say (--given .*=@)FILE").split()
        two.works("sample", "run", given[0], given[1] + "pets/p0.png", "--out", "x.png")
        two.refused("sample", "run", "--out", "x.png")
        two.works("sample", "run", *two.finds("such as (--want .*)").split(), "--out", "x.png")

    @cures("files.py: {place}: cannot be read")
    def test_a_picture_that_is_not_there(self, run: Situation) -> None:
        run.refused("sample", "run", "--image", "pets/none.png")
        run.works("sample", "run", "--image", "pets/p0.png")

    @cures("document_files.py: write a list")
    @pytest.mark.parametrize("text", [b"pet", b'{"text": "pet"}', '[{"text": "café"}]'.encode("latin-1")])
    def test_a_document(self, run: Situation, text: bytes) -> None:
        run.write("d.json", text)
        run.refused("sample", "run", "--document", "d.json")
        run.write("d.json", run.finds(r"write a list such as (\[.*\])").replace("file.png", "pets/p0.png"))
        run.works("sample", "run", "--document", "d.json", "--out", "made")

    @cures("raw.py: {path}: give a file that ends in")
    def test_a_file_of_another_kind(self, s: Situation, series_installed: None) -> None:
        s.pets()
        s.works(*s.train())
        s.refused("sample", "run", "--given", "text=@pets/p0.png", "--out", "x.png")
        name = "prompt" + s.finds(r"ends in (\.\w+)")
        s.write(name, "pet")
        s.works("sample", "run", "--given", f"text=@{name}", "--out", "x.png")


class TestEvaluations:
    @cures("tasks.py: data set {data.name}: split {split} holds nothing")
    def test_nothing_held_out(self, s: Situation) -> None:
        s.pets(captions=False)
        line = '{"image": "p%d.png", "caption": "a", "split": "%s"}\n'
        s.write("pets/captions.jsonl", "".join(line % (i, "train") for i in range(6)))
        s.works(*s.train())
        s.refused("eval", "run")
        assert s.finds('("split": "test")')
        s.write("pets/captions.jsonl", "".join(line % (i, "train" if i < 4 else "test") for i in range(6)))
        s.refused("eval", "run")
        s.works("eval", "run", s.finds("say (--data)"), "pets")

    @cures("tasks.py: data set {data.name}: split {split} holds nothing")
    @pytest.mark.parametrize("way", ["call", "other"])
    def test_data_without_its_roles(self, run: Situation, way: str) -> None:
        run.pets(folder="photos", captions=False)
        line = '{"items": [{"photo": "p%d.png"}], "split": "%s"}\n'
        documents = "".join(line % (i, ("train", "test")[i > 3]) for i in range(6))
        run.write("photos/documents.jsonl", documents)
        run.refused("eval", "run", "--data", "photos;images=[photo]")
        if way == "call":
            run.write("photos/documents.jsonl", documents.replace("photo", "image"))
        run.works("eval", "run", "--data", "photos" if way == "call" else "pets")

    @cures("metrics.py: task {text}: write roles")
    def test_a_task_that_is_none(self, run: Situation) -> None:
        run.refused("eval", "run", "--task", "text->")
        run.works("eval", "run", "--task", run.finds("roles such as ([^,]+),"))
