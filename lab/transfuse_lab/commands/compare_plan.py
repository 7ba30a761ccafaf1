"""``transfuse compare --plan FILE``: the runs of a plan, within its budget, and what they say of its hypotheses."""

from dataclasses import dataclass
from pathlib import Path

from transfuse.errors import TransfuseError
from transfuse.files import read_json, write_json, write_text
from transfuse.registry import Registry

from transfuse_lab.comparison.budget import Costs, Following, Purse, all_records, listed
from transfuse_lab.comparison.compare import fit_codecs, jobs_of, mask_pictures, train_and_evaluate
from transfuse_lab.comparison.compare_json import write_comparison
from transfuse_lab.comparison.findings import findings
from transfuse_lab.comparison.jobs import cores
from transfuse_lab.comparison.keeping import check_all_alike, records_of, spent
from transfuse_lab.comparison.plan_file import Plan, PlanFile, read_plan
from transfuse_lab.comparison.planned import Planner
from transfuse_lab.comparison.results_page import results_page
from transfuse_lab.comparison.run import Run
from transfuse_lab.comparison.selected import Selected
from transfuse_lab.comparison.tuned import Tuned, read_tuned
from transfuse_lab.device import AUTO, open_devices
from transfuse_lab.lock import locked
from transfuse_lab.output_paths import check_folder, check_room
from transfuse_lab.progress import bar, say
from transfuse_lab.report.page import write_report
from transfuse_lab.runs.records import RunRecord


@dataclass(frozen=True)
class PlanArguments:
    """What the command line says of a plan. out: None: ``runs/`` and the file's name. dry: nothing is started."""

    path: Path
    out: Path | None = None
    registry: Path | None = None
    device: str = AUTO
    dry: bool = False


@dataclass(frozen=True)
class OpenPlan:
    """A plan, and where its runs are made."""

    file: PlanFile
    out: Path
    registry: Registry
    registry_file: Path | None
    places: list[str]


def open_plan(arguments: PlanArguments) -> OpenPlan:
    """Raises TransfuseError for what is wrong with the file or the command."""
    file = read_plan(arguments.path)
    check_required(file)
    own = file.plan.registry
    layer = arguments.registry or (file.at(own) if own else None)
    out = arguments.out or file.out
    check_folder("--out", out)
    places = open_devices(arguments.device) or ["cpu"] * cores()
    return OpenPlan(file, out, Registry.open(layer), layer, places)


def compare_plan_command(arguments: PlanArguments) -> None:
    """Leaves ``compare.json`` and ``report.html`` in the folder of runs, and the plan's page with its figures."""
    opened = open_plan(arguments)
    file, plan = opened.file, opened.file.plan
    sizes = {name: size.flops for name, size in plan.sizes.items()}
    untuned = plan.tuned is None or (arguments.dry and not file.at(plan.tuned).is_file())
    tuned = Tuned() if untuned or plan.tuned is None else read_tuned(file.at(plan.tuned), sizes)
    with locked(opened.out):
        say(f"{plan.title} ({file.path.name}, SHA-256 {file.digest[:16]})")
        if untuned and plan.tuned is not None:
            say("not tuned yet: the trials of `transfuse tune` come on top, and before")
        planner = Planner(file, opened.registry, opened.out, tuned)
        runs = planner.runs()
        opened.registry.metrics()
        carry_out(opened, planner, runs, arguments.dry)
        if arguments.dry:
            return
        records = list(records_of(runs).values())
        if not records:
            say("no run has ended, so there is nothing to say")
            return
        found = findings(file, records, len(runs), tuned)
        page = file.at(plan.result)
        write_json(page.with_suffix(".json"), found)
        write_text(page, results_page(found, f"transfuse compare --plan {file.path}"))
        identity = planner.opened(plan.data).identity
        command = f"transfuse compare --plan {file.path} --out {opened.out}"
        write_comparison(opened.out / "compare.json", records, identity, command, found)
        report = opened.out / "report.html"
        some = shown(file.plan, records)
        masks = list(mask_pictures([run for run in runs if run.entry in {one.entry for one in some}]))
        write_report(report, some, identity, masks, command, found)
        say(f"results: {page}, {page.with_suffix('.json')}")
        say(f"figures: {opened.out / 'compare.json'}")
        say(f"report:  {report}")


def shown(plan: Plan, records: list[RunRecord]) -> list[RunRecord]:
    """Whole runs of the main group, of the last size of which there are some: whose figures and samples are shown."""
    chosen = Selected(plan, records)
    by_size = [chosen.at(group=plan.main, size=size) for size in chosen.sizes(plan.main)]
    return next(filter(None, reversed(by_size)), records)


def check_required(file: PlanFile) -> None:
    """Raises TransfuseError where results that the plan rests on are missing, or a check of theirs does not hold."""
    for name in file.plan.requires:
        path = file.at(name)
        if not path.is_file():
            raise TransfuseError(
                f"{file.path}: requires {path}, which is not there: run the plan that writes it; nothing is started"
            )
        checks = read_json(path, "plan's results").get("checks", {})
        fallen = [name for name, one in checks.items() if one.get("holds") is not True]
        if fallen or not checks:
            raise TransfuseError(
                f"{file.path}: requires {path}, of which {', '.join(fallen) or 'nothing'} does not hold: see its page; "
                f"change what failed there and run it again; nothing is started"
            )


def carry_out(opened: OpenPlan, planner: Planner, runs: list[Run], dry: bool = False) -> None:
    """What is missing of these runs, within the plan's budget; lists it first. dry: nothing is started."""
    plan, folder = opened.file.plan, opened.file.at(opened.file.plan.records)
    done, everything = records_of(runs), all_records(folder)
    todo = [run for run in runs if run.name not in done]
    cure = (
        f"run on the commit and processor of those, or name another folder under records ({folder} is theirs)"
    )
    check_all_alike(done, bool(todo), cure)
    costs = Costs(plan, planner.surveyed, opened.registry.plugins, everything)
    for line in listed(plan, runs, todo, costs, spent(everything), len(opened.places)):
        say(line)
    if dry or not todo:
        return
    check_room("--out", opened.out, sum(costs.of(run).size for run in todo))
    common = {"registry": str(opened.registry_file) if opened.registry_file else None}
    jobs = jobs_of(todo, common)
    by_name = {run.name: costs.of(run).seconds for run in todo}
    expected = {
        job.name: sum(
            by_name[f"{part['entry']}, seed {part['recipe']['train']['seed']}"] for part in job.work["parts"]
        )
        for job in jobs
    }
    purse = Purse(plan, expected, folder)
    fit_codecs([run.trunk for run in todo if run.drawn is None], common, opened.places)
    with bar("plan") as shown:
        train_and_evaluate(
            todo, common, opened.places, Following(jobs, expected, len(opened.places), shown), purse.may_start
        )
