"""Known answers of the world, at full size (`make science-check`): what is drawn is read, what is counted is so likely.

Each check is run on what is sound, and has to fail on a planted fault.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from transfuse.documents import Item
from transfuse.metrics import Evaluation, Task
from transfuse_scenes import data_set, edits, metrics, scenes
from transfuse_scenes.data_set import Scenes
from transfuse_scenes.grammar import PRESETS, UNSEEN, Description, Grammar, Listing, couples_apart, read
from transfuse_scenes.metrics import SceneCaptions, SceneEdits, SceneRecall
from transfuse_scenes.parser import Reading, parse
from transfuse_scenes.scenes import descriptions, log_posterior, realise
from transfuse_scenes.settings import ReadingSettings, ScenesSettings
from transfuse_scenes.world import COLOURS, PAIRS, SHAPES, Scene, render

pytestmark = pytest.mark.slow

Render = Callable[[Scene], np.ndarray]
FULL = PRESETS["full"]


def drawn(count: int, grammar: Grammar = FULL, seed: int = 0) -> Iterator[tuple[Description, Scene]]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        description = grammar.draw(rng)
        yield description, realise(description, rng)


# -- 1: what is rendered is read


def exactly_read(count: int, blur: float = 0.0, noise: float = 0.0, draw: Render = render) -> float:
    """The share of scenes that are read as they are, jitter aside."""
    rng, scenes = np.random.default_rng(1), [scene for _, scene in drawn(count)]
    pictures = np.stack([draw(scene) for scene in scenes])
    if blur:
        pictures = gaussian_filter(pictures, (0, 0, blur, blur))
    pictures = (pictures + rng.normal(0, noise, pictures.shape)).clip(0, 1) if noise else pictures
    read_back = parse(pictures)
    return float(
        np.mean([
            [thing.told for thing in reading.scene] == [thing.told for thing in scene]
            for reading, scene in zip(read_back, scenes, strict=True)
        ])
    )  # fmt: skip


def test_ten_thousand_scenes_are_read_exactly() -> None:
    assert exactly_read(10_000) == 1


TABLE = [
    (0, 0.1, 1.0),
    (0, 0.15, 1.0),
    (0, 0.2, 0.99),
    (0.5, 0, 1.0),
    (0.8, 0, 1.0),
    (1.1, 0, 0.998),
    (1.4, 0, 0.995),
]


@pytest.mark.parametrize(("blur", "noise", "share"), TABLE)
def test_the_table_of_blur_and_noise(blur: float, noise: float, share: float) -> None:
    assert exactly_read(2000, blur, noise) == pytest.approx(share, abs=0.01)


def test_a_renderer_that_is_off_is_found() -> None:
    def off(scene: Scene) -> np.ndarray:
        return np.roll(render(scene), 3, axis=2)

    assert exactly_read(500, draw=off) < 0.99


# -- 3: entropies, three ways


def mean_nats(count: int, judge: Grammar, draws: Grammar) -> tuple[float, float]:
    """-log p of what is drawn, by a grammar: the mean and its standard error."""
    rng = np.random.default_rng(3)
    nats = [-judge.log_probability(draws.draw(rng)) for _ in range(count)]
    return float(np.mean(nats)), float(np.std(nats) / math.sqrt(count))


def agrees(grammar: Grammar, draws: Grammar) -> bool:
    mean, error = mean_nats(40_000, grammar, draws)
    return abs(mean - grammar.entropy()) < 4 * error


@pytest.mark.parametrize("preset", PRESETS)
def test_the_formula_is_the_mean_of_what_is_drawn(preset: str) -> None:
    assert agrees(PRESETS[preset], PRESETS[preset])


def test_a_grammar_that_draws_otherwise_than_it_says_is_found() -> None:
    assert not agrees(FULL, replace(FULL, lengths=(0.33, 0.3, 0.2, 0.17)))


def given_pictures(count: int, grammar: Grammar) -> float:
    return float(np.mean([-log_posterior(d, scene, grammar) for d, scene in drawn(count, grammar, 4)]))


@pytest.mark.parametrize(("preset", "nats"), [("full", 2.68), ("easy", 1.72)])
def test_what_a_picture_leaves_open(preset: str, nats: float) -> None:
    assert given_pictures(5000, PRESETS[preset]) == pytest.approx(nats, abs=0.1)


def totals(count: int) -> list[float]:
    """What all descriptions of a scene sum to, given it; of scenes of three things at most."""
    return [
        float(sum(np.exp(log_posterior(d, scene, FULL)) for d in descriptions(scene)))
        for _, scene in drawn(count, seed=5)
        if len(scene) < 4
    ]


def test_posteriors_sum_to_one() -> None:
    assert totals(60) == pytest.approx([1] * len(totals(60)))


def test_a_world_in_which_not_all_listings_are_as_likely_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the sum takes them to be: here a size is left to chance that is told."""
    sound = scenes.log_probability

    def other(scene: Scene, description: Description) -> float:
        told = isinstance(description, Listing) and any(m.size for m in description.mentions)
        return sound(scene, description) - told * math.log(2)

    monkeypatch.setattr(scenes, "log_probability", other)
    assert min(totals(60)) < 0.9


# -- 4: oracles, the blind, wrong bindings, copies

DOCUMENTS = 512


def asked() -> tuple[list[str], list[np.ndarray]]:
    data = Scenes(ScenesSettings())
    items = [data.document("test", i).items for i in range(DOCUMENTS)]
    return [text.data for text, _ in items], [image.data for _, image in items]


def drawing(
    texts: Sequence[str], made: Sequence[np.ndarray], truth: Sequence[np.ndarray]
) -> dict[str, float]:
    prompts = [(Item("text", text),) for text in texts]
    evaluation = Evaluation(Task("image", ("text",)), prompts, truth, made, rebuilt=truth)
    return dict(SceneRecall(ReadingSettings()).compute(evaluation))


def test_generators_of_known_skill() -> None:
    texts, pictures = asked()
    rng = np.random.default_rng(6)
    told = [read(text) for text in texts]
    perfect = drawing(texts, [render(realise(d, rng)) for d in told if d is not None], pictures)
    assert perfect["object_recall"] == perfect["whole_scene"] == 1
    blind = drawing(texts, [pictures[i] for i in rng.permutation(DOCUMENTS)], pictures)
    assert abs(blind["object_recall"]) < 0.03
    turned = [
        render(tuple(replace(t, shape=SHAPES[(SHAPES.index(t.shape) + 1) % 4]) for t in reading.scene))
        for reading in parse(np.stack(pictures))
    ]
    wrong = drawing(texts, turned, pictures)
    assert wrong["colour_recall"] == 1
    assert wrong["object_recall"] < 0.2


def test_a_parser_that_mistakes_colours_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, pictures = asked()
    following = dict(zip(COLOURS, [*COLOURS][1:] + [*COLOURS][:1], strict=True))

    def mistaken(*given: Any) -> list[Reading]:
        return [
            replace(one, scene=tuple(replace(t, colour=following[t.colour]) for t in one.scene))
            for one in parse(*given)
        ]

    monkeypatch.setattr(metrics, "parse", mistaken)
    assert drawing(texts, pictures, pictures)["object_recall"] < 0.2


def test_an_oracle_of_captions_has_no_excess() -> None:
    texts, pictures = asked()
    nats = sum(
        -log_posterior(d, reading.scene, FULL)
        for text, reading in zip(texts, parse(np.stack(pictures)), strict=True)
        if (d := read(text)) is not None
    )
    prompts, task = [(Item("image", picture),) for picture in pictures], Task("text", ("image",))

    def excess(nats: float) -> float:
        told = Evaluation(task, prompts, texts, texts, nats=nats, tokens=1)
        return SceneCaptions(ReadingSettings()).compute(told)["caption_excess"]

    assert excess(nats) == pytest.approx(0, abs=1e-9)
    assert excess(nats - 0.3 * DOCUMENTS) < -0.2, (
        "a likelihood that leaves out the stop falls below the entropy"
    )


def test_copying_the_picture_keeps_all_and_does_nothing() -> None:
    data = Scenes(ScenesSettings())
    items = [data.document("edits", i).items for i in range(256)]
    prompts = [(before, instruction) for before, instruction, _ in items]
    truth = [after.data for _, _, after in items]

    def scored(made: list[np.ndarray]) -> dict[str, float]:
        return dict(
            SceneEdits(ReadingSettings()).compute(
                Evaluation(Task("image", ("image", "text")), prompts, truth, made)
            )
        )

    assert scored(truth) == {"edit_done": 1, "edit_kept": 1, "edit_right": 1}
    copied = scored([before.data for before, _, _ in items])
    assert copied == {"edit_done": 0, "edit_kept": 1, "edit_right": 0}
    other = scored([*truth[1:], truth[0]])
    assert max(other["edit_done"], other["edit_kept"]) < 0.3, "pictures of other edits are found"


# -- 5: nothing held out leaks


def leaks(count: int, monkeypatch: pytest.MonkeyPatch, **other: Any) -> int:
    """Of so many training documents, those that show or tell what is held out; pictures are not drawn.

    other: of the grammar that training draws from.
    """
    monkeypatch.setattr(data_set, "render", lambda scene: scene)
    data, couples = Scenes(ScenesSettings()), couples_apart()
    data.grammar = replace(data.grammar, **other)

    def leak(item: Item) -> bool:
        if isinstance(item.data, str) and (instruction := edits.read(item.data)) is not None:
            return bool({instruction.pair, instruction.target} & UNSEEN)  # before and after, not together
        if isinstance(item.data, str):
            description = read(item.data)
            assert description is not None, item.data
            pairs = {*description.pairs}
        else:
            pairs = {thing.pair for thing in item.data}
        return bool(pairs & UNSEEN) or any(frozenset(couple) in couples for couple in combinations(pairs, 2))

    return sum(any(map(leak, data.document("train", index).items)) for index in range(count))


def test_nothing_held_out_is_in_a_million_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    assert leaks(1_000_000, monkeypatch) == 0


@pytest.mark.parametrize("other", [{"apart": frozenset()}, {"pairs": PAIRS}], ids=["couples", "pairs"])
def test_a_world_that_keeps_nothing_apart_is_found(monkeypatch: pytest.MonkeyPatch, other: dict) -> None:
    assert leaks(500, monkeypatch, **other)


def test_an_edit_that_brings_together_what_is_apart_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "_lawful", lambda pairs, grammar: len({*pairs}) == len(pairs))
    assert leaks(2000, monkeypatch)
