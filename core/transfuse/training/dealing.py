"""The rows of a step are dealt to ranks so that each has about as much to compute.

A step waits for its slowest rank. Rows differ: a row of short documents has fewer pairs to attend to than one of long
ones, a span's own layers cost what an id's do not. So rows are dealt by their predicted FLOPs (`counts.Costs`).
"""

from collections.abc import Sequence

import numpy as np


def deal(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Which rows each rank computes: every row once, and on each rank as many as on any other, or one fewer.

    Equal costs give equal parts on every rank that asks, so nobody has to be told. The dearest rows go first, each to
    the rank that has least; then the dearest and the cheapest ranks exchange rows while that lowers what the two have
    at most. A rank's rows stand in their order in the step.

    >>> deal([5, 1, 3, 3], 2)
    [[0, 1], [2, 3]]
    """
    each = np.asarray(costs, float)
    most = -(-len(costs) // ranks)
    full = len(costs) - (most - 1) * ranks  # so many ranks have the most rows
    parts: list[list[int]] = [[] for _ in range(ranks)]
    loads = np.zeros(ranks)
    for row in sorted(range(len(costs)), key=lambda i: (-each[i], i)):
        spare = sum(len(part) == most for part in parts) < full
        open_ranks = [r for r in range(ranks) if len(parts[r]) < most - (not spare)]
        rank = min(open_ranks, key=lambda r: (loads[r], r))
        parts[rank].append(row)
        loads[rank] += each[row]
    _even_out(parts, loads, each)
    return [sorted(part) for part in parts]


def _even_out(parts: list[list[int]], loads: np.ndarray, costs: np.ndarray) -> None:
    """Exchange rows of the dearest rank with others', the best exchange each time, until none helps."""
    for _ in range(4 * len(costs)):
        dear = int(loads.argmax())
        best = (float(loads[dear]) * (1 - 1e-9), None)
        for other in np.argsort(loads, kind="stable")[:8].tolist():
            if other == dear or not parts[other]:
                continue
            less = costs[parts[dear]][:, None] - costs[parts[other]][None, :]
            higher = np.maximum(loads[dear] - less, loads[other] + less)
            i, j = np.unravel_index(int(higher.argmin()), higher.shape)
            if higher[i, j] < best[0]:
                best = (float(higher[i, j]), (other, int(i), int(j)))
        if best[1] is None:
            return
        other, i, j = best[1]
        mine, theirs = parts[dear][i], parts[other][j]
        parts[dear][i], parts[other][j] = theirs, mine
        loads[dear] += costs[theirs] - costs[mine]
        loads[other] += costs[mine] - costs[theirs]


def imbalance(costs: Sequence[float], parts: Sequence[Sequence[int]]) -> float:
    """What the dearest rank has over what ranks have on average: a step takes so many times as long as it could."""
    loads = [sum(costs[row] for row in part) for part in parts]
    return max(loads) * len(loads) / sum(loads)
