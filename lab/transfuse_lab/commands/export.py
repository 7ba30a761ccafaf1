"""``transfuse export``: a run in whole files, whoever trained it, or its language-model half for others to open."""

from pathlib import Path
from typing import Annotated

import typer

from transfuse_lab.commands.options import RegistryFile, RunFolder
from transfuse_lab.output_paths import check_folder
from transfuse_lab.progress import say


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder that is empty or not there.")],
    language_model: Annotated[
        bool,
        typer.Option(
            "--language-model",
            help="The language-model half alone, in a folder that transformers opens (Llama, Qwen2, Qwen3).",
        ),
    ] = False,
    registry: RegistryFile = None,
) -> None:
    """Copy a run, its newest checkpoint as whole files: what ranks wrote in pieces becomes one safetensors each."""
    check_folder("--out", out)
    (_language_model if language_model else _whole)(run, out, registry)


def _whole(run: Path, out: Path, _: Path | None) -> None:
    """Raises TransfuseError where ``out`` holds something, or the run has no whole checkpoint."""
    from transfuse.checkpoints import RunFolder
    from transfuse.training.saving import export

    folder = RunFolder(run)
    export(folder, out)
    say(f"{out}: step {folder.sound_checkpoint().state['step']} of {run}, in whole files")


def _language_model(run: Path, out: Path, registry: Path | None) -> None:
    """The same, and where there is no such half, or no architecture of others for it."""
    from transfuse.checkpoints import RunFolder
    from transfuse.registry import Registry
    from transfuse.training.saving import check_vacant

    check_vacant(out)
    folder = RunFolder(run)
    recipe, model = folder.load(Registry.open(registry).plugins)
    model.backbone.save_pretrained(model, out, recipe.train.budget)
    role = model.marker_modality
    say(f"{out}: the language model of {run}, step {folder.checkpoint.state['step']}")
    say(
        f"next: transfuse train ... --set model.pretrained={out} --set {role}.tokenizer={out / 'tokenizer.json'}"
    )
