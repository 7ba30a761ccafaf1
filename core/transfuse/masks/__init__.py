"""The mask algebra: atoms over integer columns, `& | ~`, text and normal form. Needs numpy only."""

from transfuse.masks.algebra import And as And
from transfuse.masks.algebra import Columns as Columns
from transfuse.masks.algebra import Constant as Constant
from transfuse.masks.algebra import Delta as Delta
from transfuse.masks.algebra import Flag as Flag
from transfuse.masks.algebra import Mask as Mask
from transfuse.masks.algebra import Not as Not
from transfuse.masks.algebra import Or as Or
from transfuse.masks.algebra import Same as Same
from transfuse.masks.algebra import Table as Table
from transfuse.masks.algebra import delta as delta
from transfuse.masks.algebra import full as full
from transfuse.masks.algebra import k as k
from transfuse.masks.algebra import le as le
from transfuse.masks.algebra import lt as lt
from transfuse.masks.algebra import none as none
from transfuse.masks.algebra import q as q
from transfuse.masks.algebra import same as same
from transfuse.masks.algebra import table as table
from transfuse.masks.algebra import where as where
from transfuse.masks.orientation import key_order as key_order
from transfuse.masks.orientation import transposed as transposed
from transfuse.masks.simplify import simplify as simplify
from transfuse.masks.slices import Intervals as Intervals
from transfuse.masks.slices import Slices as Slices
from transfuse.masks.text import parse as parse


def equivalent(a: Mask, b: Mask, columns: Columns) -> bool:
    """Do two masks allow the same pairs over these columns? Decided on slices: their difference has none."""
    return not len(((a & ~b) | (~a & b)).slices(columns))
