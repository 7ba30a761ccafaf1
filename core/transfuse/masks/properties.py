"""Questions about a mask over given columns, answered from slices: the properties models rely on."""

from transfuse.masks.columns import Columns
from transfuse.masks.expressions import Flag
from transfuse.masks.mask import Mask, same


def equivalent(a: Mask, b: Mask, columns: Columns, keys: Columns | None = None) -> bool:
    """Do two masks allow the same pairs over these columns? Their difference has no slices.

    >>> from transfuse import masks
    >>> masks.equivalent(masks.le("idx"), ~masks.parse("delta(idx, hi=-1)"), {"idx": [3, 1, 2]})
    True
    """
    return not len(((a & ~b) | (~a & b)).slices(columns, keys))


def cacheable(mask: Mask, columns: Columns, noised: str = "noised") -> bool:
    """Is a KV cache exact: does no clean query see a noised key?

    True of BAGEL and BD3-LM. False of Transfusion in training, where later text sees the noised image; so in
    decoding the finished, clean image is run once more before its keys are kept.
    """
    query, key = Mask(Flag("q", noised)), Mask(Flag("k", noised))
    return not len((mask & ~query & key).slices(columns))


def separate(mask: Mask, columns: Columns, group: str = "doc") -> bool:
    """Does no pair cross groups: is every query confined to keys with its own value of `group`?"""
    return not len((mask & ~same(group)).slices(columns))
