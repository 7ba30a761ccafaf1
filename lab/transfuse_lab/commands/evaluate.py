"""``transfuse eval``: the figures of a trained run on held-out data, its record, and a picture if asked for."""

from pathlib import Path

from transfuse.checkpoints import RunFolder
from transfuse.registry import Registry

from transfuse_lab.drawing.pair_grid import Pair, save_pairs
from transfuse_lab.evaluation.evaluate import evaluate
from transfuse_lab.evaluation.run_record import run_record
from transfuse_lab.evaluation.shown import shown
from transfuse_lab.output_paths import check_file
from transfuse_lab.progress import say
from transfuse_lab.report.figures import figure, ordered
from transfuse_lab.runs.records import save_record
from transfuse_lab.runs.trained import open_trained, text_and_image


def eval_command(run: Path, grid: Path | None = None) -> None:
    """Prints the figures and leaves ``RUN/record.json``; grid: the file of a picture of real and drawn images."""
    if grid is not None:
        check_file("--grid", grid)
    plugins = Registry.open().plugins
    trained = open_trained(RunFolder(run), plugins)
    evaluation = evaluate(trained.model, trained.data, trained.recipe.train.seed)
    drawn = shown(evaluation)
    record = run_record(trained, evaluation, drawn, plugins)
    save_record(trained.folder.record_file, record)
    for name in ordered(list(record.metrics)):
        one = figure(name)
        say(f"{name:24} {one.show(record.metrics[name])}{f' {one.unit}' if one.unit else ''}")
    say(f"all of it: {trained.folder.record_file}")
    if grid is not None:
        draw = trained.model.modalities[text_and_image(trained.model)[1]].draw
        pairs = [Pair(one.prompt, draw(one.real), draw(one.image), one.split) for one in drawn]
        save_pairs(pairs, grid, "--grid")
        say(f"real and generated: {grid}")
