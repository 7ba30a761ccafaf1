"""``transfuse export``: a run whose checkpoint is in the pieces of many ranks, as one of whole files."""

from pathlib import Path

from transfuse.checkpoints import RunFolder
from transfuse.training.saving import export

from transfuse_lab.output_paths import check_folder
from transfuse_lab.progress import say


def export_command(run: Path, out: Path) -> None:
    """Raises TransfuseError where ``out`` holds something, or the run has no whole checkpoint."""
    check_folder("--out", out)
    folder = RunFolder(run)
    export(folder, out)
    say(f"{out}: step {folder.sound_checkpoint().state['step']} of {run}, in whole files")
