"""What codecs were fit from: the settings that their fit depends on, and the data. Equal origins, equal codecs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfuse.config.merge import differing
from transfuse.config.recipe import Recipe
from transfuse.errors import TransfuseError


def origin(recipe: Recipe, identity: Mapping[str, Any]) -> dict[str, Any]:
    """By role, the settings that matter (`Settings.fit_by`), and the data set's identity; as JSON."""
    learnt = {role: chosen.learnt() for role, chosen in recipe.modalities.items()}
    return {"modalities": learnt, "data": dict(identity)}


def check_origin(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises TransfuseError naming what differs where a folder's codecs are not the recipe's.

    The folder may hold further roles.
    """
    roles = sorted(there["modalities"].keys() & here["modalities"].keys())
    before, now = ({role: side["modalities"][role] for role in roles} for side in (there, here))
    differences = differing(before, now) or differing({"data": there["data"]}, {"data": here["data"]})
    if differences:
        raise TransfuseError(
            f"{folder} holds codecs fit otherwise: {differences}; fit these with `transfuse train-codec`, or repeat "
            f"the settings and data of those"
        )
