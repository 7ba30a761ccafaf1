"""``transfuse train-codec``, and ``train --codecs`` on what it leaves, which is refused where anything differs."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from transfuse import checkpoints
from transfuse.checkpoints import check_provenance, provenance
from transfuse.config.merge import differing
from transfuse.config.parts import Part, Settings
from transfuse.errors import TransfuseError
from transfuse.files import read_mapping
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins

from tests.tiny.packages import install
from tests.tiny.recipes import sets

SETS = sets("chameleon", "image.codec.steps=5")


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory, cli: Callable, data_argument: str) -> Path:
    folder = tmp_path_factory.mktemp("codecs") / "made"
    result = cli("train-codec", "chameleon", "--data", data_argument, "--out", folder, *SETS)
    assert result.exit_code == 0, result.output
    (folder / "said").write_text(result.output)
    return folder


def test_it_leaves_codecs_a_picture_and_says_how_good_they_are(codecs: Path) -> None:
    from PIL import Image

    said = (codecs / "said").read_text()
    for word in (
        "l1 ",
        "commitment ",
        "usage ",
        "perplexity ",
        "of 8 held-out items",
        "next: transfuse train",
    ):
        assert word in said
    assert {"codecs.json", "seconds.json", "image.png", "image.safetensors", "text.safetensors"} <= {
        path.name for path in codecs.iterdir()
    }
    with Image.open(codecs / "image.png") as picture:
        width, height = picture.size
    assert width > height > 64  # a row of originals over a row of reconstructions
    made = json.loads((codecs / "codecs.json").read_text())
    assert made["provenance"]["modalities"]["text"].items() >= {"kind": "text", "vocab": 280}.items()
    assert "temperature" not in made["provenance"]["modalities"]["text"]
    assert set(made["provenance"]["modalities"]["image"]) == {"kind", "codec"}


def test_what_is_no_picture_is_shown_as_its_modality_draws_it(
    cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("tf_series", tmp_path / "site", monkeypatch)
    data = ("--data", "series;train=24;heldout=6", "--out", tmp_path / "codecs")
    result = cli("train-codec", "series-flow", *data)
    assert result.exit_code == 0, result.output
    assert "series: mean squared error 0.00000 of 3 held-out items; shown in" in result.output
    drawings = (tmp_path / "codecs/series.svg").read_text().count("<image ")
    assert drawings == 2 * 3  # each, and what comes back of it


def test_a_run_takes_them_as_they_are(
    codecs: Path, cli: Callable, data_argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another sampler and objective weight: they ask for no other codec."""
    monkeypatch.setattr("transfuse.model.build.fit_modalities", lambda *_: pytest.fail("fit again"))
    more = ("--set", "train.steps=2", "--set", "image.temperature=0.5", "--set", "loss.image=2")
    where = ("--data", data_argument, "--codecs", codecs, "--out", tmp_path / "run")
    result = cli("train", "chameleon", *where, *SETS, *more)
    assert result.exit_code == 0, result.output
    _, model = checkpoints.load(tmp_path / "run")
    weights = read_mapping(codecs / "codecs.json", "codecs", "modalities")["modalities"]
    assert {name: part.facts() for name, part in model.modalities.items()} == weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--set", "image.codec.steps=6"), r"image\.codec\.steps \(there 5, here 6\)"),
        (("--set", "text.vocab=300"), r"text\.vocab \(there 280, here 300\)"),
    ],
)
def test_other_settings_are_refused(
    codecs: Path, cli: Callable, data_argument: str, tmp_path: Path, change: tuple, message: str
) -> None:
    for command in (
        ("train", "--codecs", codecs, "--out", tmp_path / "run"),
        ("train-codec", "--out", codecs),
    ):
        name, *rest = command
        result = cli(
            name, "chameleon", "--data", data_argument, *rest, *SETS, "--set", "train.steps=1", *change
        )
        assert result.exit_code == 2
        assert result.output.count("\n") <= 3
        assert re.search(message, result.output), result.output


def test_other_data_are_refused(codecs: Path, cli: Callable, tmp_path: Path) -> None:
    where = ("--data", "digits", "--codecs", codecs, "--out", tmp_path / "run")
    result = cli("train", "chameleon", *where, *SETS, "--set", "train.steps=1")
    assert result.exit_code == 2
    assert "holds codecs fit otherwise: data." in result.output


def test_the_same_again_fits_nothing_and_runs_are_left_alone(
    codecs: Path, cli: Callable, data_argument: str, tmp_path: Path
) -> None:
    result = cli("train-codec", "chameleon", "--data", data_argument, "--out", codecs, *SETS)
    assert "holds these codecs already" in result.output
    assert "autoencoder step" not in result.output
    (tmp_path / "recipe.json").write_text("{}")
    result = cli("train-codec", "chameleon", "--data", data_argument, "--out", tmp_path, *SETS)
    assert result.exit_code == 2
    assert "holds a run" in result.output


# -- what codecs are fit from


def fit_from(installed: Plugins, *sets: str) -> dict:
    return provenance(Registry.load(installed, [packaged_file()]).recipe("transfusion", sets), {"name": "a"})


@pytest.mark.parametrize(
    "same",
    ["image.sampler.evaluations=7", "image.guidance.scale=1", "image.objective.target=v", "image.patcher.patch=2",
     "text.temperature=1", "loss.image=1", "model.dim=64", "train.seed=3"],
)  # fmt: skip
def test_what_codecs_do_not_depend_on(installed: Plugins, same: str) -> None:
    assert fit_from(installed, same) == fit_from(installed)


@pytest.mark.parametrize("other", ["image.codec.steps=7", "image.codec.loss.l2=0", "text.vocab=300"])
def test_what_they_depend_on(installed: Plugins, other: str) -> None:
    there, here = fit_from(installed), fit_from(installed, other)
    with pytest.raises(TransfuseError, match=other.split("=")[0].replace(".", r"\.")):
        check_provenance(Path("codecs"), there, here)


def test_a_folder_may_hold_more_than_is_asked_for() -> None:
    there = {"modalities": {"a": {"x": 1}, "b": {"x": 2}}, "data": {}}
    check_provenance(Path("codecs"), there, {"modalities": {"a": {"x": 1}}, "data": {}})


@pytest.mark.parametrize("of", ["fit_by", "sampled_by"])
def test_what_settings_say_of_fields_names_fields(of: str) -> None:
    class Odd(Settings):
        codec: int = 1

    setattr(Odd, of, ("codex",))

    with pytest.raises(TransfuseError, match=f"part 'odd': {of} names 'codex', which is no field"):
        Part("odd", Odd, lambda settings: None)


def test_differences_in_words() -> None:
    assert differing({"a": 1}, {"a": 1}) == ""
    assert (
        differing({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}}) == "a.b (there 1, here 3), c (there 2, here None)"
    )
    assert differing({str(i): 0 for i in range(5)}, {}).endswith(", 2 more")
