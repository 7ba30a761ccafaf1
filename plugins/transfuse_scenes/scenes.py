"""Scenes of descriptions: drawn evenly among those that fit; whether one fits; and what a scene can be called.

Together with the grammar they give the exact probability of a caption given its picture, jitter aside.
"""

import math
from collections.abc import Iterator
from itertools import permutations, product

import numpy as np

from transfuse_scenes.grammar import RELATIONS, Count, Description, Grammar, Listing, Mention, Relation
from transfuse_scenes.world import CELLS, JITTERS, SIZES, Pair, Scene, Thing

FITTING = 27
"""Ordered couples of cells that a relation fits, of 72."""


def holds(relation: str, first: int, second: int) -> bool:
    """Whether the relation is true of two cells: by columns, or by rows."""
    (y, x), (below, right) = divmod(first, 3), divmod(second, 3)
    return {"left of": x < right, "right of": x > right, "above": y < below, "below": y > below}[relation]


def realise(description: Description, rng: np.random.Generator) -> Scene:
    """A scene that the description fits, each as likely as any other."""
    if isinstance(description, Count):
        cells = rng.permutation(CELLS)[: description.number].tolist()
        things = [(description.pair, None, cell) for cell in cells]
    elif isinstance(description, Relation):
        couples = [c for c in permutations(range(CELLS), 2) if holds(description.relation, *c)]
        cells = couples[rng.integers(len(couples))]
        things = [(pair, None, cell) for pair, cell in zip(description.pairs, cells, strict=True)]
    else:
        told = {mention.cell for mention in description.mentions}
        free = [cell for cell in rng.permutation(CELLS).tolist() if cell not in told]
        things = [(m.pair, m.size, free.pop() if m.cell is None else m.cell) for m in description.mentions]
    return tuple(sorted(_thing(pair, size, cell, rng) for pair, size, cell in things))


def _thing(pair: Pair, size: str | None, cell: int, rng: np.random.Generator) -> Thing:
    down, across = (JITTERS[i] for i in rng.integers(len(JITTERS), size=2))
    return Thing(cell, pair[1], pair[0], size or tuple(SIZES)[rng.integers(2)], down, across)


def fits(description: Description, scene: Scene) -> bool:
    """Whether the scene shows what the description says, and nothing else."""
    if isinstance(description, Count):
        return len(scene) == description.number and all(thing.pair == description.pair for thing in scene)
    by_pair = {thing.pair: thing for thing in scene}
    if len(by_pair) < len(scene) or by_pair.keys() != set(description.pairs):
        return False
    if isinstance(description, Relation):
        first, second = (by_pair[pair].cell for pair in description.pairs)
        return holds(description.relation, first, second)
    return all(
        (m.size is None or by_pair[m.pair].size == m.size)
        and (m.cell is None or by_pair[m.pair].cell == m.cell)
        for m in description.mentions
    )


def descriptions(scene: Scene) -> Iterator[Description]:
    """All that fit, each once."""
    yield from _short(scene)
    if len({thing.pair for thing in scene}) == len(scene):
        for order in permutations(scene):
            for told in product(*[product((thing.size, None), (thing.cell, None)) for thing in order]):
                mentions = (Mention(t.pair, size, cell) for t, (size, cell) in zip(order, told, strict=True))
                yield Listing(tuple(mentions))


def _short(scene: Scene) -> Iterator[Description]:
    """All that fit but listings."""
    pairs = {thing.pair for thing in scene}
    if len(scene) > 1 and len(pairs) == 1:
        yield Count(len(scene), scene[0].pair)
    if len(scene) == len(pairs) == 2:
        for one, two in permutations(scene):
            yield from (Relation(one.pair, r, two.pair) for r in RELATIONS if holds(r, one.cell, two.cell))


def log_probability(scene: Scene, description: Description) -> float:
    """Of the scene given a description that fits it, in nats; jitter, which is always the same, left out."""
    n, sizes = len(scene), len(scene)
    if isinstance(description, Count):
        ways = math.comb(CELLS, n)
    elif isinstance(description, Relation):
        ways = FITTING
    else:
        placed = sum(mention.cell is not None for mention in description.mentions)
        ways = math.perm(CELLS - placed, n - placed)
        sizes = sum(mention.size is None for mention in description.mentions)
    return -math.log(ways) - sizes * math.log(2)


def log_posterior(description: Description, scene: Scene, grammar: Grammar) -> float:
    """Of a description given the scene that it fits, in nats.

    All listings of a scene are equally likely together with it: what a listing does not tell, the scene draws with
    the same probability. So one stands for all.
    """

    def joint(one: Description) -> float:
        return grammar.log_probability(one) + log_probability(scene, one)

    logs = [joint(one) for one in _short(scene)]
    if len({thing.pair for thing in scene}) == len(scene):
        ways = math.factorial(len(scene)) * 4 ** len(scene)  # orders; size and place of each told or not
        logs.append(math.log(ways) + joint(Listing(tuple(Mention(thing.pair) for thing in scene))))
    return joint(description) - float(np.logaddexp.reduce(logs))
