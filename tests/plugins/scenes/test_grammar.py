"""The language of scenes: captions read back, probabilities that sum to one, and an entropy known three ways."""

import math
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse_scenes.grammar import (
    PRESETS,
    UNSEEN,
    Count,
    Grammar,
    Listing,
    Mention,
    Relation,
    caption,
    couples_apart,
    read,
)
from transfuse_scenes.scenes import descriptions, fits, log_posterior, log_probability, realise
from transfuse_scenes.world import PAIRS

GRAMMARS = {**PRESETS, "all together": Grammar()}
SMALL = Grammar(PAIRS[:4], (2, 3), (0.6, 0.4), frozenset({frozenset(PAIRS[1:3])}))
"""So few pairs that all descriptions can be gone through."""
SEEDS = st.integers(0, 2**32)


def everything(grammar: Grammar):
    """All descriptions of a small grammar."""
    for pair in grammar.pairs:
        yield from (Count(number, pair) for number in grammar.numbers)
    for one, two in permutations(grammar.pairs, 2):
        yield from (Relation(one, word, two) for word in ("left of", "right of", "above", "below"))
    for n in range(1, len(grammar.lengths) + 1):
        for pairs in permutations(grammar.pairs, n):
            for told in product(product((None, "small", "large"), (None, *range(9))), repeat=n):
                yield Listing(tuple(Mention(p, s, c) for p, (s, c) in zip(pairs, told, strict=True)))


@given(seed=SEEDS, preset=st.sampled_from(sorted(GRAMMARS)))
def test_a_caption_is_read_back_and_no_two_are_alike(seed: int, preset: str) -> None:
    description = GRAMMARS[preset].draw(np.random.default_rng(seed))
    assert read(caption(description)) == description


@pytest.mark.parametrize(
    "text", ["", "a red", "two red circle", "three crosses", "a red circle and", "a RED circle", "a red circle at",
             "a red circle left of", "a huge red circle", "five red circles", "a red circle ", "two red crosss"]
)  # fmt: skip
def test_what_the_grammar_cannot_say_is_no_caption(text: str) -> None:
    assert read(text) is None


def test_the_entropy_is_the_specifications() -> None:
    assert Grammar().entropy() == pytest.approx(11.8515, abs=1e-4)
    assert Grammar(numbers=(2, 3), lengths=(0.6, 0.4)).entropy() == pytest.approx(8.69, abs=5e-3)


def test_probabilities_sum_to_one_and_the_entropy_is_their_sum() -> None:
    logs = np.array([SMALL.log_probability(d) for d in everything(SMALL)])
    logs = logs[np.isfinite(logs)]
    assert np.exp(logs).sum() == pytest.approx(1, abs=1e-9)
    assert -(np.exp(logs) * logs).sum() == pytest.approx(SMALL.entropy(), abs=1e-9)


@pytest.mark.parametrize("preset", sorted(GRAMMARS))
def test_the_entropy_is_the_mean_of_what_is_drawn(preset: str) -> None:
    grammar, rng = GRAMMARS[preset], np.random.default_rng(0)
    nats = [-grammar.log_probability(grammar.draw(rng)) for _ in range(4000)]
    assert np.mean(nats) == pytest.approx(grammar.entropy(), abs=4 * np.std(nats) / 4000**0.5)


def test_draws_are_as_frequent_as_their_probability_says() -> None:
    rng, draws = np.random.default_rng(0), 20_000
    seen: dict[str, int] = {}
    for _ in range(draws):
        text = caption(SMALL.draw(rng))
        seen[text] = seen.get(text, 0) + 1
    for pair in SMALL.pairs:
        for number in SMALL.numbers:
            count = Count(number, pair)
            expected = draws * math.exp(SMALL.log_probability(count))
            assert abs(seen[caption(count)] - expected) < 5 * expected**0.5


def test_what_is_apart_is_never_drawn_and_a_tenth_of_all_couples_is() -> None:
    trained = [pair for pair in PAIRS if pair not in UNSEEN]
    assert len(couples_apart()) == round(0.1 * math.comb(28, 2))
    assert len(UNSEEN) == 4
    rng = np.random.default_rng(0)
    for _ in range(2000):
        description = PRESETS["full"].draw(rng)
        assert {*description.pairs} <= {*trained}
        assert not any(frozenset(c) in couples_apart() for c in combinations(description.pairs, 2))


@pytest.mark.parametrize(
    "unlawful",
    [
        Count(4, PAIRS[0]), Count(2, PAIRS[9]), Relation(PAIRS[0], "above", PAIRS[0]),
        Relation(PAIRS[1], "above", PAIRS[2]), Listing(()),
        Listing((Mention(PAIRS[0]), Mention(PAIRS[1]), Mention(PAIRS[3]))),
        Listing((Mention(PAIRS[0], None, 3), Mention(PAIRS[3], None, 3))),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_has_no_probability(unlawful) -> None:
    assert SMALL.log_probability(unlawful) == -math.inf


# -- scenes


@given(seed=SEEDS, preset=st.sampled_from(sorted(GRAMMARS)))
def test_a_drawn_scene_fits_and_its_description_is_among_all_that_do(seed: int, preset: str) -> None:
    rng = np.random.default_rng(seed)
    description = GRAMMARS[preset].draw(rng)
    scene = realise(description, rng)
    assert fits(description, scene)
    assert len({thing.cell for thing in scene}) == len(scene)
    found = list(descriptions(scene))
    assert found.count(description) == 1
    assert len(set(found)) == len(found)
    assert all(fits(one, scene) for one in found)


@given(seed=SEEDS)
def test_the_posterior_sums_to_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = realise(SMALL.draw(rng), rng)
    found = list(descriptions(scene))
    joint = np.array([SMALL.log_probability(one) + log_probability(scene, one) for one in found])
    nats = np.array([log_posterior(one, scene, SMALL) for one in found])
    assert np.exp(nats).sum() == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(nats, joint - np.logaddexp.reduce(joint), atol=1e-9)


def test_a_scenes_probability_is_how_often_it_is_drawn() -> None:
    description = Listing((Mention(PAIRS[0], "small", 4), Mention(PAIRS[5])))
    rng, draws = np.random.default_rng(0), 4000
    scenes = [tuple(thing.told for thing in realise(description, rng)) for _ in range(draws)]
    assert len(set(scenes)) == 16  # eight cells, two sizes
    scene = realise(description, rng)
    assert math.exp(log_probability(scene, description)) == pytest.approx(1 / 16)
    assert min(scenes.count(one) for one in set(scenes)) > draws / 16 - 5 * (draws / 16) ** 0.5


def test_captions_given_pictures_have_the_specifications_entropy() -> None:
    """2.68 ± .07 nats by the specification's own enumeration, for the grammar without couples apart."""
    grammar, rng = Grammar(), np.random.default_rng(1)
    nats = []
    for _ in range(1200):
        description = grammar.draw(rng)
        nats.append(-log_posterior(description, realise(description, rng), grammar))
    assert np.mean(nats) == pytest.approx(2.68, abs=0.07 + 3 * np.std(nats) / 1200**0.5)
