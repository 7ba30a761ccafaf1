"""``transfuse tune PLAN``: searches each arm's settings, and leaves them in the file that the plan takes in."""

from pathlib import Path

from transfuse.errors import TransfuseError
from transfuse.files import write_text

from transfuse_lab.commands.compare_plan import PlanArguments, carry_out, open_plan
from transfuse_lab.comparison.planned import Planner
from transfuse_lab.comparison.run import Run
from transfuse_lab.comparison.tuned import Choice, Tuned, write_tuned
from transfuse_lab.comparison.tuning import Search
from transfuse_lab.lock import locked
from transfuse_lab.progress import say
from transfuse_lab.report.sensitivity import sensitivity


def tune_command(arguments: PlanArguments) -> None:
    """Leaves the plan's ``tuned`` file, and beside it a picture of how scores depend on each setting."""
    opened = open_plan(arguments)
    file, plan = opened.file, opened.file.plan
    if plan.tune is None or plan.tuned is None:
        raise TransfuseError(f"{file.path} has no section tune: write down what is to be searched")
    sizes = {name: size.flops for name, size in plan.sizes.items()}
    with locked(opened.out):
        planner = Planner(file, opened.registry, opened.out, Tuned())
        opened.registry.metrics()

        def do(runs: list[Run]) -> None:
            if runs:
                carry_out(opened, planner, runs)

        found: dict[str, dict[str, list[Choice]]] = {arm: {} for arm in plan.tune.arms}
        for size in plan.tune.sizes:
            for arm, choices in Search(planner, size, do).choices().items():
                found[arm][size] = choices
    tuned, path = Tuned(found, sizes), file.at(plan.tuned)
    asked = {"score": plan.tune.score, "drawn_score": plan.tune.drawn_score, "share": plan.tune.share}
    write_tuned(path, tuned, {"plan": file.digest, "seeds": list(plan.tune.seeds), **asked})
    picture = path.with_suffix(".svg")
    write_text(picture, sensitivity(found))
    for arm, by_size in found.items():
        for size in by_size:
            say(f"{arm} {size}: {' '.join(tuned.settings(arm, size))}")
    if tuned.edges:
        say(f"at an edge of what was tried, so better ones may lie beyond: {', '.join(tuned.edges)}")
    say(f"tuned:   {path}")
    say(f"picture: {Path(picture)}")
