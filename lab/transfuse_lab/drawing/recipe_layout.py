"""The first documents of a data set as a recipe lays them out: what its mask is drawn over."""

from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, Restriction, in_either_order, restrict
from transfuse.errors import TransfuseError
from transfuse.masks import Mask
from transfuse.model.build import build_modalities, fit_modalities
from transfuse.randomness import Key
from transfuse.sequences.layout import Layout, check_columns
from transfuse.sequences.rows import Row, join
from transfuse.sequences.vocabulary import Vocabulary, vocabulary_for
from transfuse.training.mask_checks import check_leak

from transfuse_lab.drawing.mask_layout import LARGEST
from transfuse_lab.runs.dry_run import spell


def layout_of(recipe: Recipe, data: DataSet, mask: Mask) -> tuple[Layout, Restriction]:
    """A recipe's layout, its codecs made but not trained, and what it reads of the data.

    Raises TransfuseError where the mask names a column that the layout lacks.
    """
    modalities, data = build_modalities(recipe), restrict(data, recipe.modalities)
    check_columns(mask, Layout(modalities, Vocabulary()))
    fit_modalities(modalities, data, 0, lambda line: None, effort=0.0)
    return Layout(modalities, vocabulary_for(modalities)), data


def example(layout: Layout, data: DataSet) -> Row:
    """A row of the first training document in both orders, or of the first two where the data reverse none.

    Raises TransfuseError where it is too long to draw.
    """
    first = data.document("train", 0)
    if data.reversed_share:
        documents = [first, in_either_order(first, 1.0, Key(0).rng("reversed"))]
    else:
        documents = [data.document("train", index) for index in range(min(2, data.size("train")))]
    row = join([layout.sequence(document) for document in documents])
    if len(row) > LARGEST:
        raise TransfuseError(
            f"{' and '.join(dict.fromkeys(row.sources))}: {len(row)} positions are too many to draw; {LARGEST} at "
            f"most: draw the mask over a --layout"
        )
    return row


def described(mask: Mask, layout: Layout, row: Row) -> list[str]:
    """A line for each document, the columns at hand, and whether the mask shows what is to be predicted."""
    bounds = zip(row.sources, row.bounds, row.bounds[1:], strict=False)
    lines = [f"{i} {source}: {spell(layout.vocabulary, row.tokens[start:stop])}"
             for i, (source, start, stop) in enumerate(bounds)]  # fmt: skip
    lines.append(f"columns {', '.join(sorted(row.columns))}")
    try:
        check_leak(mask, row)
    except TransfuseError as fault:
        lines.append(f"not to be trained with: {fault}")
    return lines
