"""What a column looks like: its runs, rising stretches, and where a lookup in it changes its pace.

All arrays here are computed once a column and only as needed; each costs a few passes over the column.
"""

from functools import cached_property

import numpy as np

from transfuse.masks.columns import NONE, Arrays
from transfuse.masks.normal_form.bands import Ints, expand


def breaks(differs: Ints) -> Ints:
    """Positions 1…T−1 at which `differs[i−1]` says that i begins something new."""
    return np.flatnonzero(differs) + 1


class Column:
    """One column's structure, read by the atoms."""

    def __init__(self, values: Ints) -> None:
        self.values = values

    @cached_property
    def step(self) -> Ints:
        return self.values[1:] - self.values[:-1]

    @cached_property
    def level_breaks(self) -> Ints:
        """Where a new value begins: between these the column is constant."""
        return breaks(self.step != 0)

    @cached_property
    def affine_breaks(self) -> Ints:
        """Where a new affine run begins: between these the column is constant or steps by one.

        A constant run keeps all its positions; a ramp has what lies between constant runs.
        """
        level = self.step == 0
        ramp = self.step == 1
        if level.any():
            padded = np.concatenate([[False], level, [False]])
            in_level = padded[1:] | padded[:-1]
            ramp &= ~(in_level[1:] | in_level[:-1])
        return breaks(~(level | ramp))

    @cached_property
    def runs(self) -> tuple[Ints, Ints, Ints]:
        """Constant runs: start, end, value, in order of position."""
        size = len(self.values)
        start = np.concatenate([[0], self.level_breaks]) if size else np.zeros(0, np.int64)
        return start, np.concatenate([start[1:], [size]])[: len(start)], self.values[start]

    @cached_property
    def runs_by_value(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Constant runs but those of −1, by (value, start): distinct values; then rank, start, end a run."""
        start, end, value = self.runs
        kept = value != NONE
        start, end, value = start[kept], end[kept], value[kept]
        order = np.argsort(value, kind="stable")
        value = value[order]
        new = np.concatenate([[True], value[1:] != value[:-1]])[: len(value)]
        return value[new], np.cumsum(new) - 1, start[order], end[order]

    @cached_property
    def flagged(self) -> tuple[Ints, Ints]:
        """Runs of values other than 0: start, end."""
        return true_runs(self.values != 0)

    @cached_property
    def unflagged(self) -> tuple[Ints, Ints]:
        """Runs of 0: start, end."""
        return true_runs(self.values == 0)

    @cached_property
    def rising(self) -> "Rising":
        """Maximal stretches in which the column never falls."""
        return Rising(self.values, breaks(self.step < 0))

    @cached_property
    def rising_ids(self) -> "Rising":
        """The same without −1: stretches are cut around it and those of it are left out."""
        gap = self.values == NONE
        return Rising(self.values, breaks((self.step < 0) | (gap[1:] != gap[:-1])), gap)


class Structure:
    """The columns of one call with their structure, shared by all atoms that read them."""

    def __init__(self, q: Arrays, k: Arrays) -> None:
        seen: dict[int, Column] = {}
        self.q = {name: seen.setdefault(id(array), Column(array)) for name, array in q.items()}
        self.k = {name: seen.setdefault(id(array), Column(array)) for name, array in k.items()}


def true_runs(flag: Ints) -> tuple[Ints, Ints]:
    """Start and end of each run of True."""
    edge = np.flatnonzero(np.diff(np.concatenate([[False], flag, [False]]).view(np.int8)))
    return edge[::2], edge[1::2]


class Rising:
    """Stretches of keys with rising values, so that "values in [a, b)" is one key interval in each."""

    def __init__(self, values: Ints, cuts: Ints, skipped: Ints | None = None) -> None:
        size = len(values)
        start = np.concatenate([[0], cuts]) if size else np.zeros(0, np.int64)
        end = np.concatenate([start[1:], [size]])[: len(start)]
        self._stretch = np.zeros(size, np.int64)
        self._stretch[cuts] = 1
        self._stretch = np.cumsum(self._stretch)
        self._least = int(values.min()) if size else 0
        self._reach = (int(values.max()) - self._least if size else 0) + 2
        self._code = self._stretch * self._reach + (values - self._least)
        self.ids = np.arange(len(start)) if skipped is None else np.flatnonzero(~skipped[start])
        self.start, self.end = start[self.ids], end[self.ids]

    def position(self, stretch: Ints, value: Ints) -> Ints:
        """Per item the first key of its stretch (index into `start`) of at least that value, or its end."""
        inside = np.clip(value - self._least, 0, self._reach - 1)
        return np.searchsorted(self._code, self.ids[stretch] * self._reach + inside)

    @cached_property
    def _turns(self) -> Ints:
        """Sorted codes (stretch, value) at which `position`, seen as a function of value, must be cut.

        position(x + 1) − position(x) is how often x occurs: it is level where x is absent, steps by one where
        x occurs once, and jumps where x repeats. So cut before x if x − 1 repeats, or if x begins a chain of
        values that occur once; cut before x + 2 if x ends such a chain (x + 1 is still on its line).
        """
        code = self._code
        new = np.concatenate([[True], code[1:] != code[:-1]])[: len(code)]
        first = np.flatnonzero(new)
        count = np.diff(np.concatenate([first, [len(code)]]))
        value = code[first] - self._stretch[first] * self._reach
        stretch = self._stretch[first]
        once = count == 1
        linked = once[1:] & once[:-1] & (np.diff(value) == 1) & (np.diff(stretch) == 0)
        begins = once & ~np.concatenate([[False], linked])[: len(once)]
        ends = once & ~np.concatenate([linked, [False]])[: len(once)]
        at = stretch * (self._reach + 2) + value
        return np.sort(np.concatenate([at[~once] + 1, at[begins], at[ends] + 2]))

    def turns(self, stretch: Ints, first: Ints, last: Ints) -> tuple[Ints, Ints]:
        """Per item the cuts x of its stretch with first < x ≤ last: which item, and x − first."""
        wide = self._reach + 2
        base = self.ids[stretch] * wide
        a, b = first - self._least, last - self._least
        # Cuts lie in 0…reach + 1: clipping keeps the comparison right and the codes in their stretch.
        which, at = expand(
            np.searchsorted(self._turns, base + np.clip(a, -1, wide - 1), "right"),
            np.searchsorted(self._turns, base + np.clip(b, -1, wide - 1), "right"),
        )
        return which, self._turns[at] - base[which] - a[which]
