"""Metrics of scenes on pictures and captions whose scores are known: oracles, the blind, wrong bindings, copies."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from transfuse.documents import Item
from transfuse.metrics import Evaluation, Task
from transfuse_scenes.data_set import Scenes
from transfuse_scenes.grammar import PRESETS, Listing, caption, read
from transfuse_scenes.metrics import SceneCaptions, SceneEdits, SceneRecall
from transfuse_scenes.parser import parse
from transfuse_scenes.scenes import log_posterior, realise
from transfuse_scenes.settings import ReadingSettings, ScenesSettings
from transfuse_scenes.world import SHAPES, SIZES, render

COUNT = 256
SETTINGS = ReadingSettings()
DRAWN = [Scenes(ScenesSettings()).document("test", i).items for i in range(COUNT)]
TEXTS, PICTURES = [text.data for text, _ in DRAWN], [image.data for _, image in DRAWN]


def drawing(made: list[np.ndarray]) -> dict[str, float]:
    return dict(
        SceneRecall(SETTINGS).compute(
            Evaluation(
                Task("image", ("text",)),
                [(Item("text", text),) for text in TEXTS],
                PICTURES,
                made,
                rebuilt=PICTURES,
            )
        )
    )


def test_an_oracle_scores_one() -> None:
    rng = np.random.default_rng(1)
    figures = drawing([render(realise(read(text), rng)) for text in TEXTS])  # type: ignore[arg-type]
    for name in (
        "object_recall",
        "object_recall_raw",
        "colour_recall",
        "number_right",
        "whole_scene",
        "legible",
    ):
        assert figures[name] == 1, name
    assert figures["object_recall_ceiling"] == 1
    assert min(figures["jitter_even"], figures["size_even"]) > 0.99


def test_a_model_that_is_blind_to_prompts_is_at_chance() -> None:
    rng = np.random.default_rng(2)
    figures = drawing([PICTURES[i] for i in rng.permutation(COUNT)])
    assert abs(figures["object_recall"]) < 0.05
    assert abs(figures["colour_recall"]) < 0.08
    assert figures["object_recall_chance"] == pytest.approx(0.068, abs=0.02), "the specification's chance"
    assert figures["whole_scene"] < 0.02


def test_a_wrong_binding_has_the_colours_and_not_the_objects() -> None:
    made = []
    for picture in PICTURES:
        (reading,) = parse(picture[None])
        swapped = [replace(t, shape=SHAPES[(SHAPES.index(t.shape) + 1) % 4]) for t in reading.scene]
        made.append(render(tuple(swapped)))
    figures = drawing(made)
    assert figures["colour_recall"] == 1
    assert figures["object_recall"] < 0.2
    assert figures["number_right"] == 1


def test_noise_shows_nothing_and_what_never_varies_is_uneven() -> None:
    noise = list(np.random.default_rng(0).uniform(size=(COUNT, 3, 32, 32)))
    assert drawing(noise)["legible"] == drawing(noise)["object_recall_raw"] == 0
    stiff = []
    for picture in PICTURES:
        (reading,) = parse(picture[None])
        stiff.append(render(tuple(replace(thing, down=0, across=0) for thing in reading.scene)))
    assert drawing(stiff)["jitter_even"] == 0
    assert drawing(stiff)["whole_scene"] == 1


def test_notes_say_what_is_read() -> None:
    evaluation = Evaluation(Task("image", ("text",)), [(Item("text", TEXTS[0]),)] * 2, PICTURES[:2],
                            [PICTURES[0], np.zeros((3, 32, 32))])  # fmt: skip
    notes = SceneRecall(SETTINGS).notes(evaluation)
    assert notes is not None
    assert notes[1] == "illegible"
    (reading,) = parse(PICTURES[0][None])
    assert notes[0].split(", ") == [" ".join(thing.pair) for thing in reading.scene]


@pytest.mark.parametrize("change", [lambda text: f"a photo of {text}", lambda text: ""])
def test_other_data_are_not_measured(change: Callable[[str], str]) -> None:
    prompts = [(Item("text", change(text)),) for text in TEXTS[:4]]
    other = Evaluation(Task("image", ("text",)), prompts, PICTURES[:4], PICTURES[:4])
    assert SceneRecall(SETTINGS).compute(other) == {}
    assert SceneRecall(SETTINGS).notes(other) is None


# -- captions


def captioning(made: list[str], nats: float) -> dict[str, float]:
    prompts = [(Item("image", picture),) for picture in PICTURES]
    task = Task("text", ("image",))
    return dict(SceneCaptions(SETTINGS).compute(Evaluation(task, prompts, TEXTS, made, nats=nats, tokens=1)))


def exact() -> tuple[float, float]:
    """Nats of all captions: given their pictures, and alone."""
    grammar, given, alone = PRESETS["full"], 0.0, 0.0
    for text, reading in zip(TEXTS, parse(np.stack(PICTURES)), strict=True):
        description = read(text)
        assert description is not None
        given -= log_posterior(description, reading.scene, grammar)
        alone -= grammar.log_probability(description)
    return given, alone


def test_a_perfect_captioner_has_no_excess_and_one_without_eyes_gains_nothing() -> None:
    given, alone = exact()
    perfect = captioning(TEXTS, given)
    assert perfect["caption_excess"] == pytest.approx(0, abs=1e-9)
    assert perfect["caption_gain"] == pytest.approx(1)
    assert perfect["attribute_f1"] == perfect["lawful_captions"] == 1
    blind = captioning(TEXTS[1:] + TEXTS[:1], alone)
    assert blind["caption_gain"] == pytest.approx(0, abs=1e-9)
    assert blind["caption_excess"] == pytest.approx((alone - given) / COUNT)
    assert blind["attribute_f1"] < 0.3


def test_words_that_are_no_caption_score_nothing() -> None:
    figures = captioning(["a nice picture"] * COUNT, exact()[0])
    assert figures["attribute_f1"] == figures["lawful_captions"] == 0


def test_a_wrong_size_costs_an_attribute() -> None:
    texts = []
    for text in TEXTS:
        description = read(text)
        if isinstance(description, Listing):
            other = tuple(
                replace(m, size=next(s for s in SIZES if s != m.size) if m.size else None)
                for m in description.mentions
            )
            text = caption(Listing(other))
        texts.append(text)
    assert 0.7 < captioning(texts, exact()[0])["attribute_f1"] < 0.95


# -- edits


def editing(make: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> dict[str, float]:
    data = Scenes(ScenesSettings())
    documents = [data.document("edits", i).items for i in range(100)]
    truth = [after.data for _, _, after in documents]
    made = [make(before.data, after.data) for before, _, after in documents]
    prompts = [(before, instruction) for before, instruction, _ in documents]
    evaluation = Evaluation(Task("image", ("image", "text")), prompts, truth, made)
    return dict(SceneEdits(SETTINGS).compute(evaluation))


def test_edits_are_scored_on_what_was_asked_and_on_the_rest() -> None:
    assert editing(lambda before, after: after) == {"edit_done": 1, "edit_kept": 1, "edit_right": 1}
    copied = editing(lambda before, after: before)
    assert copied == {"edit_done": 0, "edit_kept": 1, "edit_right": 0}
    empty = editing(lambda before, after: np.full((3, 32, 32), 0.9, np.float32))
    assert empty["edit_kept"] < 0.6
    assert empty["edit_done"] < 0.5, "only what was to be removed"
