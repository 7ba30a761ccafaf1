"""transfuse against transfusion-pytorch and against a plain padded model: training and generation on one CPU core.

    pip install -e ".[lab,peer]"
    python bench/peer.py --json peer.json           # everything; --quick: digits and ragged, in a quarter of an hour
    python bench/peer.py --json peer.json --only ragged --dtype bf16    # a part, put into the file beside the others
    python bench/peer.py --json peer.json --page    # the tables of docs/performance.md from the file, nothing measured

The file is ``{workload: {dtype: {"ours": …, "peer": …, "plain": …, "ratio": …}}}``: data positions (pictures, bytes of
text) a CPU-second, ratio over the peer in fp32. What is fair and how it is measured: docs/performance.md.
"""

import argparse
import datetime
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pages import write
from runners import measure, page, peer
from runners.ours import EVALUATIONS, TOKENS, Ours
from runners.peer import Peer
from runners.plain import PlainRunner
from runners.workloads import WORKLOADS, Workload
from transfuse_lab.memory import keep_freed_memory

PEER: dict[str, Any] = {}  # as it is released
PLAIN: dict[str, Any] = {"passes": 1}
"""Settings that each is measured with; --settings tries others."""
TRIED_PLAIN: dict[str, dict[str, Any]] = {
    "plain, compiled": {},
    "plain, two passes by length": {"passes": 2},
    "plain, four passes by length": {"passes": 4},
    "plain, not compiled": {"compiled": False},
}
PROMPTS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LEAST = 1.5  # CPU-seconds of a runner in a round

Cell = dict[str, Any]


def peers(documents: Ours, dtype: str) -> dict[str, Peer]:
    """The peer in a dtype, and in fp32, over which ratios are taken."""
    found = {"peer": Peer(documents, dtype, **PEER)}
    return found if dtype == "fp32" else found | {"peer_fp32": Peer(documents, **PEER)}


def training(workload: Workload, dtype: str, rounds: int, without: set[str]) -> Cell:
    """A cell of the file for one workload in one dtype."""
    print(f"{workload.name}, {dtype}: {workload.about}", flush=True)
    top = measure.peak(measure.DTYPES[dtype])
    documents = Ours(workload)
    runners: dict[str, Any] = {"ours": Ours(workload, dtype)}
    runners |= {} if "peer" in without else peers(documents, dtype)
    if "plain" not in without:
        runners["plain"] = PlainRunner(documents, dtype, **PLAIN)
    kept = {name: _kept(one) for name, one in runners.items() if name != "peer_fp32"}  # a first step of each
    steps = {name: one.step for name, one in runners.items()}
    found = measure.alternate(steps, rounds, LEAST, compiled=["plain"], ready=kept)
    cell: Cell = {name: rate.median for name, rate in found.items()}
    cell["spread"] = {name: rate.spread for name, rate in found.items()}
    cell["paths"] = {name: one.path for name, one in runners.items()}
    cell |= _ratios(cell)
    ours, top = runners["ours"], max(top, measure.peak(measure.DTYPES[dtype]))
    cell["flops_over_peak"] = ours.flops_a_position * cell["ours"] / top
    shares = measure.breakdown(ours.step)
    cell["outside"] = 1 - shares.get("matmul", 0) - shares.get("attention", 0)
    cell["kept_kib"] = kept.pop("ours")
    cell["kept_kib_of_others"] = kept
    cell["peak_gflops"] = top / 1e9
    return cell


def _kept(runner: Any) -> float:
    nbytes, positions = measure.kept_bytes(runner.model, runner.backward_keeps)
    return nbytes / 1024 / positions


def _ratios(cell: Mapping[str, Any]) -> dict[str, float]:
    against = cell.get("peer_fp32", cell.get("peer"))
    found = {"ratio": (cell.get("ours"), against), "over_plain": (cell.get("ours"), cell.get("plain"))}
    return {name: a / b for name, (a, b) in found.items() if a and b}


def generation(name: str, dtype: str, rounds: int, without: set[str]) -> Cell:
    """A cell of the file for ``pictures_N`` or ``text_N``, N of them together."""
    kind, number = name.split("_")
    print(f"{name}, {dtype}", flush=True)
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(int(number))]
    if kind == "text":
        prompts = [f"{prompt:8}" for prompt in prompts]  # the peer takes prompts of one length
    digits, together = WORKLOADS["digits"], len(prompts)
    documents = Ours(digits, together=together)
    runners: dict[str, Any] = {"ours": Ours(digits, dtype, together=together)}
    runners |= {} if "peer" in without else peers(documents, dtype)
    steps: dict[str, Callable[[], int]] = {
        who: lambda one=one: getattr(one, kind)(prompts) for who, one in runners.items()
    }
    if kind == "text" and "peer" in runners and together < 64:  # there it takes minutes
        steps["peer_documents"] = lambda: runners["peer"].documents(prompts)
    found = measure.alternate(steps, rounds, LEAST)
    cell: Cell = {who: rate.median for who, rate in found.items()}
    cell["spread"] = {who: rate.spread for who, rate in found.items()}
    each = 2 * documents.evaluations if kind == "pictures" else 1
    cell |= {f"{who}_ms": 1000 / rate.median / each for who, rate in found.items()}
    return cell | _ratios(cell)


def tried(names: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """Data positions a CPU-second of each setting of the peer and of plain, by workload, in alternating rounds.

    A setting under which a step does not run is named and left out.
    """
    found: dict[str, dict[str, float]] = {}
    for name in names:
        documents, steps = Ours(WORKLOADS[name]), {}
        for setting, given in {**peer.TRIED, **TRIED_PLAIN}.items():
            step = (PlainRunner if setting in TRIED_PLAIN else Peer)(documents, **given).step
            try:
                step()
            except Exception as fault:  # whatever another package raises
                print(f"{name}, {setting}: does not run ({type(fault).__name__} {fault})", flush=True)
                continue
            steps[setting] = step
        rates = measure.alternate(steps, rounds, LEAST, [*steps])
        found[name] = {setting: rate.median for setting, rate in rates.items()}
        for setting, rate in found[name].items():
            print(f"{name}, {setting}: {rate:,.0f}", flush=True)
    return found


def about() -> Cell:
    """What the figures were measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": model[0].split(":")[1].strip() if model else platform.processor(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "evaluations": EVALUATIONS,
        "tokens": TOKENS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*WORKLOADS, *page.GENERATION]
    parser.add_argument("--quick", action="store_true", help="digits and ragged, three rounds")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--dtype", action="append", choices=tuple(measure.DTYPES), help="default: both")
    parser.add_argument("--rounds", type=int, help="of each runner in turn; default 5, with --quick 3")
    parser.add_argument("--without", action="append", choices=("peer", "plain"), default=[])
    parser.add_argument("--settings", action="store_true", help="try all settings of the peer and of plain")
    parser.add_argument("--json", type=Path, required=True, help="the figures; what it has of others is kept")
    parser.add_argument("--page", action="store_true", help="write docs/performance.md from the file")
    given = parser.parse_args()
    if not peer.installed() and "peer" not in given.without and not given.page:
        parser.error(peer.MISSING)
    figures: page.Figures = json.loads(given.json.read_text()) if given.json.exists() else {}
    if given.page:
        write("performance.md", "bench/peer.py", page.page(figures))
        return
    measure.pin()
    keep_freed_memory()
    chosen = given.only or (["digits", "ragged"] if given.quick else names)
    rounds = given.rounds or (3 if given.quick else 5)
    if given.settings:
        of_settings = tried([name for name in chosen if name in WORKLOADS], rounds)
        settings = figures.setdefault("about", {}).setdefault("settings", {})
        settings |= of_settings
        chosen = []
    for name in chosen:
        for dtype in given.dtype or measure.DTYPES:
            make = training if name in WORKLOADS else generation
            cell = make(WORKLOADS.get(name, name), dtype, rounds, set(given.without))  # type: ignore[arg-type]
            figures.setdefault(name, {})[dtype] = cell
            figures["about"] = {**figures.get("about", {}), **about()}
            if "peak_gflops" in cell:
                figures["about"].setdefault("peak_gflops", {})[dtype] = cell["peak_gflops"]
            given.json.write_text(json.dumps(figures, indent=1) + "\n")
            told = {key: value for key, value in cell.items() if isinstance(value, float)}
            print("  " + ", ".join(f"{key} {value:.4g}" for key, value in told.items()), flush=True)
    given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
