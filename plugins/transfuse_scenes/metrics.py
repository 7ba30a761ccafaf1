"""What is measured of scenes: what a parser reads in pictures, and captions against their exact probability.

Chance is what pictures get that were drawn for another prompt: the mean over all couples of the evaluation's own
prompts and real pictures. Of a share r with chance c, the corrected one is (r - c) / (1 - c).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from transfuse.metrics import AppliesTo, Evaluation, Figure, Metric

from transfuse_scenes import edits
from transfuse_scenes.grammar import PRESETS, Count, Description, Listing, read
from transfuse_scenes.parser import Reading, parse
from transfuse_scenes.scenes import fits, log_posterior
from transfuse_scenes.settings import ReadingSettings
from transfuse_scenes.world import COLOURS, JITTERS, PAIRS, SIDE, SIZES

PICTURES = AppliesTo(given_data="text", want_data="array", axes=3, one_shape=True)


class Pictures:
    """Pictures and what they were to show, in arrays by prompt.

    asked: the descriptions. readings: of the pictures.
    """

    def __init__(
        self, asked: Sequence[Description], pictures: Sequence[np.ndarray], settings: ReadingSettings
    ) -> None:
        self.asked = asked
        self.readings = parse(np.stack(pictures), settings.blurs)
        self.legible = np.array([reading.legible(settings.legible) for reading in self.readings])

    @cached_property
    def wanted(self) -> np.ndarray:
        """``[n, 32]``: which colours and shapes each prompt names."""
        return np.array([[pair in {*d.pairs} for pair in PAIRS] for d in self.asked])

    @cached_property
    def seen(self) -> np.ndarray:
        """``[n, 32]``: which each picture shows; what is illegible shows none."""
        return np.array(
            [
                [legible and pair in {thing.pair for thing in reading.scene} for pair in PAIRS]
                for reading, legible in zip(self.readings, self.legible, strict=True)
            ]
        )

    def whole(self) -> float:
        """The share of pictures that show all that was asked, and nothing else."""
        return self._share(fits)

    def number(self) -> float:
        """The share of pictures with as many things as were asked for."""
        return self._share(lambda asked, scene: things(asked) == len(scene))

    def _share(self, right) -> float:
        return float(
            np.mean(
                [
                    bool(legible) and right(asked, reading.scene)
                    for asked, reading, legible in zip(self.asked, self.readings, self.legible, strict=True)
                ]
            )
        )


def things(description: Description) -> int:
    """How many things it speaks of."""
    return description.number if isinstance(description, Count) else len(description.pairs)


def recall(wanted: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """``[n, m]``: of what each of n prompts names, the share that each of m pictures shows."""
    return (wanted.astype(float) @ seen.astype(float).T) / wanted.sum(1, keepdims=True)


def colours(pairs: np.ndarray) -> np.ndarray:
    """``[n, 8]``: the colours of ``[n, 32]`` pairs."""
    return np.any(pairs.reshape(len(pairs), len(COLOURS), -1), axis=-1)


def corrected(share: float, chance: float) -> float:
    """0 at chance, 1 where all is right."""
    return (share - chance) / (1 - chance)


class SceneRecall(Metric):
    """What pictures show of what their prompts ask for; and the ceiling, the same of real ones through the codec."""

    name = "scene_recall"
    applies_to = PICTURES
    figures = (
        Figure(
            "object_recall", "Object recall", "", "higher", "percent",
            "of the colours and shapes that a prompt names, the share that its picture shows, over chance",
            "of what was asked for is shown, over chance",
        ),
        Figure("object_recall_raw", "Object recall, chance included", "", "higher", "percent", "the same, uncorrected",
               detail=True),
        Figure("object_recall_chance", "Object recall of pictures of other prompts", "", "", "percent",
               "what a model that is blind to prompts has", detail=True),
        Figure("object_recall_ceiling", "Object recall through the codec", "", "", "percent",
               "the same of real pictures through the codec: below 99 % nothing can be compared", detail=True),
        Figure("colour_recall", "Colour recall", "", "higher", "percent",
               "of the colours that a prompt names, the share that its picture shows, over chance"),
        Figure("number_right", "Number of things right", "", "higher", "percent", "the share of pictures with as many "
               "things as were asked for"),
        Figure("whole_scene", "Whole scene right", "", "higher", "percent",
               "the share of pictures that show all that was asked, and nothing else"),
        Figure("legible", "Legible pictures", "", "higher", "percent",
               "the share of pictures near enough to a scene to be read"),
        Figure("jitter_even", "Evenness of jitter", "", "higher", "number",
               "entropy of how things stand off their cells' centres, which no caption tells; 1 is even", detail=True),
        Figure("size_even", "Evenness of sizes not told", "", "higher", "number",
               "entropy of the sizes of things whose captions tell none; 1 is even", detail=True),
    )  # fmt: skip

    def __init__(self, settings: ReadingSettings) -> None:
        self.settings = settings

    def compute(self, evaluation: Evaluation) -> Mapping[str, float]:
        asked = [read(str(items[-1].data)) for items in evaluation.prompts]
        if (
            len(evaluation.task.given) != 1
            or None in asked
            or np.shape(evaluation.truth[0]) != (3, SIDE, SIDE)
        ):
            return {}
        known = [description for description in asked if description is not None]
        made = Pictures(known, list(evaluation.made), self.settings)
        real = Pictures(known, list(evaluation.truth), self.settings)
        figures = {
            **_recalls(made, real),
            "number_right": made.number(),
            "whole_scene": made.whole(),
            "legible": float(made.legible.mean()),
            **_evenness(made),
        }
        if len(evaluation.rebuilt):
            ceiling = Pictures(known, list(evaluation.rebuilt), self.settings)
            figures["object_recall_ceiling"] = float(np.diag(recall(ceiling.wanted, ceiling.seen)).mean())
        return figures

    def notes(self, evaluation: Evaluation) -> Sequence[str] | None:
        if read(str(evaluation.prompts[0][-1].data)) is None:
            return None
        readings = parse(np.stack(list(evaluation.made)), self.settings.blurs)
        return [_words(reading, self.settings.legible) for reading in readings]


def _recalls(made: Pictures, real: Pictures) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, part in (("object_recall", lambda x: x), ("colour_recall", colours)):
        wanted = part(made.wanted)
        others = recall(wanted, part(real.seen))
        np.fill_diagonal(others, np.nan)
        chance = float(np.nanmean(others))
        share = float(np.diag(recall(wanted, part(made.seen))).mean())
        figures[name] = corrected(share, chance)
        if name == "object_recall":
            figures |= {"object_recall_raw": share, "object_recall_chance": chance}
    return figures


def _evenness(made: Pictures) -> dict[str, float]:
    """Entropies over their greatest: of jitters, and of sizes where the caption told none."""
    jitters, sizes = np.zeros((len(JITTERS), len(JITTERS))), np.zeros(len(SIZES))
    for asked, reading, legible in zip(made.asked, made.readings, made.legible, strict=True):
        told = {m.pair for m in asked.mentions if m.size} if isinstance(asked, Listing) else set()
        for thing in reading.scene if legible else ():
            jitters[JITTERS.index(thing.down), JITTERS.index(thing.across)] += 1
            if thing.pair not in told:
                sizes[list(SIZES).index(thing.size)] += 1
    return {
        name: _entropy(counts.ravel()) / float(np.log(counts.size))
        for name, counts in (("jitter_even", jitters), ("size_even", sizes))
        if counts.sum()
    }


def _entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def _words(reading: Reading, limit: float) -> str:
    if not reading.legible(limit):
        return "illegible"
    return ", ".join(f"{' '.join(thing.pair)}" for thing in reading.scene) or "nothing"


class SceneCaptions(Metric):
    """Captions of pictures against what is known of them: nats beyond the exact posterior, and attributes."""

    name = "scene_captions"
    applies_to = AppliesTo(given_data="array", want_data="text")
    figures = (
        Figure("caption_excess", "Caption NLL beyond the exact one", "nats", "lower", "number",
               "negative log-likelihood of held-out captions given their pictures, less that of the caption's exact "
               "probability given the scene: 0 for a perfect model"),
        Figure("caption_gain", "Share of a picture's information that captions use", "", "higher", "percent",
               "how far the caption's negative log-likelihood falls, from none of what a picture tells of it to all"),
        Figure("attribute_f1", "Attributes told rightly", "", "higher", "percent",
               "F1 of colours with shapes, sizes and places in greedy captions, by what the scene holds"),
        Figure("lawful_captions", "Captions of the grammar", "", "higher", "percent",
               "the share of greedy captions that the grammar can say"),
    )  # fmt: skip

    def __init__(self, settings: ReadingSettings) -> None:
        self.settings = settings

    def compute(self, evaluation: Evaluation) -> Mapping[str, float]:
        asked = [read(str(text)) for text in evaluation.truth]
        picture = evaluation.prompts[0][-1].data
        if len(evaluation.task.given) != 1 or None in asked or np.shape(picture) != (3, SIDE, SIDE):
            return {}
        truth = [description for description in asked if description is not None]
        shown = Pictures(truth, [items[-1].data for items in evaluation.prompts], self.settings)
        grammar = PRESETS[self.settings.preset]
        figures = {
            "attribute_f1": _f1([str(text) for text in evaluation.made], shown.readings),
            "lawful_captions": float(np.mean([read(str(text)) is not None for text in evaluation.made])),
        }
        prior = -np.mean([grammar.log_probability(d) for d in truth])
        if evaluation.tokens and np.isfinite(prior):
            exact = -np.mean(
                [log_posterior(d, r.scene, grammar) for d, r in zip(truth, shown.readings, strict=True)]
            )
            nats = evaluation.nats / len(truth)
            figures["caption_excess"] = float(nats - exact)
            figures["caption_gain"] = float((prior - nats) / (prior - exact))
        return figures


def _f1(captions: Sequence[str], readings: Sequence[Reading]) -> float:
    """Of what captions say, and of what they could have said: each colour with its shape; each size and place told."""
    right = said = there = 0
    for text, reading in zip(captions, readings, strict=True):
        description = read(text)
        if description is None:
            there += len(reading.scene)
            continue
        by_pair = {thing.pair: thing for thing in reading.scene}
        there += len(by_pair)
        for pair in {*description.pairs}:
            said += 1
            right += pair in by_pair
        for mention in description.mentions if isinstance(description, Listing) else ():
            thing = by_pair.get(mention.pair)
            for told, held in ((mention.size, thing and thing.size), (mention.cell, thing and thing.cell)):
                if told is not None:
                    said, there, right = said + 1, there + 1, right + (thing is not None and told == held)
    return 2 * right / (said + there) if said + there else 0.0


class SceneEdits(Metric):
    """Whether edits did what they were told, and nothing else."""

    name = "scene_edits"
    applies_to = AppliesTo(want_data="array", axes=3, one_shape=True)
    figures = (
        Figure("edit_done", "Edits done", "", "higher", "percent",
               "the share of edited pictures in which the thing is as the instruction wants it"),
        Figure("edit_kept", "Rest kept", "", "higher", "percent",
               "the share of edited pictures in which all else is as it was, jitter aside"),
        Figure("edit_right", "Edits done with the rest kept", "", "higher", "percent", "the share in which both hold"),
    )  # fmt: skip

    def __init__(self, settings: ReadingSettings) -> None:
        self.settings = settings

    def compute(self, evaluation: Evaluation) -> Mapping[str, float]:
        texts = [[item.data for item in items if isinstance(item.data, str)] for items in evaluation.prompts]
        asked = [edits.read(some[0]) if len(some) == 1 else None for some in texts]
        if (
            len(evaluation.task.given) != 2
            or None in asked
            or np.shape(evaluation.made[0]) != (3, SIDE, SIDE)
        ):
            return {}
        before = [
            next(item.data for item in items if not isinstance(item.data, str))
            for items in evaluation.prompts
        ]
        old = parse(np.stack(before), self.settings.blurs)
        new = parse(np.stack(list(evaluation.made)), self.settings.blurs)
        scores = np.array(
            [
                edits.done(edit, one.scene, two.scene)
                if two.legible(self.settings.legible)
                else (False, False)
                for edit, one, two in zip(asked, old, new, strict=True)
                if edit is not None
            ]
        )
        return {
            "edit_done": float(scores[:, 0].mean()),
            "edit_kept": float(scores[:, 1].mean()),
            "edit_right": float(scores.all(1).mean()),
        }
