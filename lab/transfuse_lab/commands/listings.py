"""What is there to choose from: recipes and plugins, as tables."""

from dataclasses import astuple
from pathlib import Path

from transfuse.errors import TransfuseError
from transfuse.registry import Registry

from transfuse_lab.tables import print_table


def recipes_command(registry: Path | None) -> None:
    """Every recipe with what it is made of; one that does not resolve is shown with its fault."""
    known = Registry.open(registry)
    rows = [_recipe_row(known, name) for name in known.names("recipes")]
    print_table(("recipe", "modalities", "mask", "loss", "model", "budget", "summary"), rows)


def plugins_command(registry: Path | None) -> None:
    """Every plugin, loaded or not, with what it offers, or why it is not loaded."""
    rows = [
        (*astuple(row.plugin), row.status, ", ".join(row.provides) or row.reason)
        for row in Registry.open(registry).plugins.listing()
    ]
    print_table(("plugin", "distribution", "version", "status", "provides, or why not"), rows)


def _recipe_row(registry: Registry, name: str) -> tuple[str, ...]:
    try:
        recipe = registry.recipe(name)
    except TransfuseError as error:
        return (name, "", "", "", "", "", str(error))
    model, train = recipe.model, recipe.train
    return (
        name,
        " ".join(f"{role}={chosen.name}" for role, chosen in recipe.modalities.items()),
        str(recipe.mask),
        " ".join(f"{role}={weight:g}" for role, weight in recipe.loss.items()),
        f"dim {model.dim}, layers {model.layers}, heads {model.heads}",
        f"{train.steps} steps" if train.steps is not None else f"{train.flops:g} FLOPs",
        registry.summary(name),
    )
