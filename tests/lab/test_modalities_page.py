"""docs/modalities.md: its two plugins are installed as the page says, train and sample, and its commands run."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.generation import generate
from transfuse.modalities.modality import SpanModality
from transfuse.model.build import build
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.registry import Registry
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join
from transfuse.training import Trainer
from transfuse_lab.datasets import open_data

from tests.tiny.packages import install

PAGE = (Path(__file__).parents[2] / "docs" / "modalities.md").read_text()
RECIPES = ("waves", "waves-copies")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page's files in a folder, installed and the working directory."""
    folder = tmp_path_factory.mktemp("tf_waves")
    names = re.findall(r"`(tf_\w+\.py)`", PAGE)
    for name, source in zip(names, blocks("python"), strict=True):
        (folder / name).write_text(source)
    (folder / "pyproject.toml").write_text(blocks("toml")[0])
    with pytest.MonkeyPatch.context() as patch:
        install(folder, tmp_path_factory.mktemp("site"), patch)
        patch.chdir(folder)
        yield folder
    for name in names:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.fixture(scope="module")
def registry(page: Path) -> Registry:
    return Registry.open()


@pytest.fixture(scope="module")
def model(registry: Registry) -> Callable[[str], Model]:
    def make(name: str) -> Model:
        data = open_data("waves", registry.plugins)
        recipe = registry.recipe(name, ["train.steps=2"])
        trainer = Trainer(recipe, build(recipe, data, registry.plugins, lambda line: None), data)
        for _ in range(2):
            assert set(trainer.step()) >= {"loss_text", "loss_series"}
        return trainer.model.eval()

    return make


def test_every_method_of_the_interface_is_on_the_page() -> None:
    own = {
        name
        for name in dir(SpanModality)
        if not name.startswith("_") and callable(getattr(SpanModality, name))
    }
    left = {name for name in own if f"`{name}`" not in PAGE and f"`{name}(" not in PAGE}
    assert left <= {"flops", "suffix_for"}


@pytest.mark.parametrize("name", ["waves", "copies", "sets"])
def test_its_modalities_and_its_data_set_pass_the_kits(name: str, registry: Registry, cli: Callable) -> None:
    done = cli("plugins", "check", name)
    assert done.exit_code == 0, [line for line in done.stdout.splitlines() if "FAILS" in line]
    assert re.search(r"^modality \w+: \d+ holds", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", [*RECIPES, "waves-sets"])
def test_it_trains_and_draws_both_lengths(name: str, model: Callable, registry: Registry) -> None:
    assert registry.faults() == []
    made = model(name)
    for marker in ("<series 16>", "<series 24>"):
        assert made.predictable[made.vocabulary.marker(marker)]
    prompts = [Document((Item("text", word, droppable=True),)) for word in ("slow", "fast", "slow", "fast")]
    lengths = {len(one.items[-1].data) for one in generate(made, prompts, want="series")}
    assert lengths <= {16, 24}


def test_the_copies_share_positions_and_only_the_clean_one_is_seen_from_outside(
    model: Callable, registry: Registry
) -> None:
    made, data = model("waves-copies"), open_data("waves", registry.plugins)
    document = data.document("train", 0)
    row = made.layout.sequence(Document(document.items[::-1], id=document.id))
    noised, clean = ((row.columns["span"] == i).nonzero()[0] for i in (0, 1))
    np.testing.assert_array_equal(row.columns["pos"][noised], row.columns["pos"][clean])
    np.testing.assert_array_equal(row.columns["step"][noised], np.arange(6))
    assert (row.columns["step"][row.columns["text"] == 1] == -1).all()
    seen = made.mask.dense({**row.columns, "doc": np.zeros(len(row), int), "idx": np.arange(len(row))})
    after = np.arange(clean[-1] + 1, len(row))
    assert not seen[np.ix_(after, noised)].any()
    assert seen[np.ix_(after, clean)].all()
    assert [bool(seen[noised[1], key]) for key in noised] == [True, True, True, True, False, False]


def test_a_set_has_no_order_but_between_its_markers(model: Callable, registry: Registry) -> None:
    """Elements in another order give what the model makes of them in that order; of waves they do not."""
    text, series = open_data("waves", registry.plugins).document("train", 0).items
    n = len(series.data) // 4
    turned = series.data.reshape(n, 4)[::-1].reshape(-1).copy()
    for name, unordered in (("waves-sets", True), ("waves", False)):
        made, hidden = model(name), []
        for data in (series.data, turned):
            row = join([made.layout.sequence(Document((text, Item("series", data)), id=1))])
            with torch.no_grad():
                hidden.append(made(collate(row, made.modalities, Key(0), clean=True))[0])
            inside = (row.columns["span"] == 0).nonzero()[0]
            begin = inside[0] - 1
            own = row.columns["pos"][begin : begin + n + 2] - row.columns["pos"][begin]
            assert own.tolist() == [0, *([1] * n if unordered else range(1, n + 1)), n + 1]
        forth, back = (one[inside] for one in hidden)
        assert torch.allclose(forth, back.flip(0), atol=1e-4) == unordered


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_what_is_drawn_has_learnt_its_word(name: str, registry: Registry) -> None:
    """In seconds: a fast wave turns about three times as often as a slow one."""
    data, recipe = open_data("waves", registry.plugins), registry.recipe(name)
    trainer = Trainer(recipe, build(recipe, data, registry.plugins, lambda line: None), data)
    while not trainer.done:
        trainer.step()
    trainer.model.eval()

    def turns(word: str) -> float:
        prompt = Document((Item("text", word, droppable=True),))
        drawn = [one.items[-1].data for one in generate(trainer.model, [prompt] * 20, want="series")]
        return float(np.mean([(np.diff(np.sign(x)) != 0).sum() for x in drawn]))

    assert turns("fast") > 2 * turns("slow")


def test_a_fault_is_told_as_on_the_page(
    model: Callable, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = sys.modules["tf_waves"].Series
    embed = series.embed

    def longer(self: SpanModality, x_t: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, None]:
        vectors, state = embed(self, x_t, t)
        return torch.cat([vectors, vectors[:, :1]], dim=1), state

    monkeypatch.setattr(series, "embed", longer)
    (shown,) = re.findall(r"``(modality 'series' .*?)``", PAGE)
    pattern = re.sub(r"\d+", r"\\d+", re.escape(shown).replace(r"0\.1", "VERSION")).replace(
        "VERSION", r"0\.1"
    )
    with pytest.raises(TransfuseError, match=f"^{pattern}$"):
        model("waves")


FIRST, SECOND = blocks("sh")


@pytest.mark.parametrize("commands", [FIRST, pytest.param(SECOND, marks=pytest.mark.slow)], ids=RECIPES)
def test_the_commands_run(commands: str, page: Path, cli: Callable) -> None:
    for command in commands.strip().splitlines():
        _, *words = command.split()
        quick = {"train": ["--set", "train.steps=2"], "compare": ["--set", "train.flops=1e8"]}.get(
            words[0], []
        )
        done = cli(*words, *quick)
        assert done.exit_code == 0, (command, done.stderr, done.stdout)
