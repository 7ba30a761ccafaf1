"""What one GPU shows in eight minutes, a stage at a time; bench/gpu.sh runs it. It has not been run on a GPU yet.

    python bench/gpu.py --json gpu.json            # every stage in a process of its own, within --seconds in all
    python bench/gpu.py --json gpu.json --tiny     # a rehearsal: the CPU stands in, everything small
    python bench/gpu.py --json gpu.json --stage training

The file has the date, the card, and a record of each stage: whether it ran to its end, its seconds and figures, what it
skipped and why.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transfuse import Document, Item, Registry, Trainer, build, generate, masks
from transfuse.attention import Backend, Dense, Request
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.masks import Mask
from transfuse.masks.expressions import Flag, atoms
from transfuse.model.precision import computing_in
from transfuse.plugin import Part, Span, hookimpl
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse_adapters import flex, xformers
from transfuse_image.modality import Image, ImageSettings

ROOT = Path(__file__).parents[1]
ORACLES = ROOT / "tests" / "data" / "oracles" / "masks"
TRANSFUSION = masks.parse("same(doc) & (le(idx) | same(span))")
PEAK = {"H100": 989e12, "H200": 989e12}
"""FLOP/s in bf16 by the cards' data sheets, dense; another card's is measured at 8192³."""
PUBLISHED = {"BAGEL-7B on 32 H100, Megatron-Bridge's card": 0.237, "the same, BAGEL's official code": 0.179}
"""MFU by the usual formula."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How large everything is. layers, width, heads, row, side, steps: of the trained model and its pictures."""

    device: str
    positions: int  # of a row under a kernel's test
    rows: int  # without a recompilation
    closure: int  # positions of a row for which create_block_mask asks about all pairs
    layers: int
    width: int
    heads: int
    row: int
    side: int
    steps: int
    pictures: int
    texts: int
    compare: tuple[str, ...]


LARGE = Size(
    "cuda", 1024, 1000, 8192, 24, 2048, 16, 32_768, 64, 5, 4, 64,
    ("model.dim=512", "model.layers=8", "model.heads=8", "train.flops=3e14", "train.budget=4096", "train.fill=true",
     "eval.prompts=200", "eval.trained=20"),
)  # fmt: skip
SMALL = Size(
    "cpu", 256, 20, 1024, 2, 64, 2, 512, 8, 2, 2, 4,
    ("model.dim=32", "model.layers=2", "model.heads=2", "train.flops=1e8", "train.budget=160", "eval.prompts=4",
     "eval.trained=0", "text.vocab=280", "image.codec.width=8", "image.codec.steps=5", "image.codec.batch=8"),
)  # fmt: skip


# -- a modality of two copies, and rows of it


class Copies(Image):
    """A picture as BAGEL trains it: a noised copy that is predicted, and a clean one that what follows sees; markers
    inside, and one rotary position for all of a picture."""

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        n, label = self.length_of(payload), self.label_of(payload)
        clean = Span(payload, n, label, inside=True, loss=False)
        return [replace(clean, noised=True, loss=item.loss), clean] if item.noised else [clean]

    def positions(self, span: Span, cursor: int) -> tuple[np.ndarray, int]:
        return np.full(span.positions, cursor), cursor + (0 if span.noised else 1)


@hookimpl
def transfuse_modalities() -> list[Part]:
    return [Part("copies", ImageSettings, Copies, "a noised and a clean copy of a picture, as in BAGEL")]


RECIPE = """
recipes:
  bagel:
    summary: text, and pictures in two copies
    modalities: {text: text, image: copies}
    mask: same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))
    loss: {text: 1, image: 1}
    train: {fill: true, look_ahead: 16, steps: 1000000, drop: 0, lr: 1e-4, dtype: bfloat16}
modalities:
  copies:
    kind: copies
    codec: pixel
    patcher: {name: linear, patch: 2}
    objective: flow
    sampler: {name: euler, evaluations: 20}
"""


@dataclass(frozen=True)
class Interleaved(DataSet):
    """Documents of one to three pictures of random latents of 16 channels, each behind 50-400 bytes of text."""

    side: int
    longest: int
    name: str = "interleaved"

    def size(self, split: str) -> int:
        return 64

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        draw, items = np.random.default_rng(index), []
        for _ in range(draw.integers(1, 4)):
            text = "a" * int(draw.integers(min(50, self.longest), self.longest + 1))
            items.append(Item("text", text, droppable=True))
            items.append(Item("image", draw.random((16, self.side, self.side), np.float32)))
        return Document(tuple(items), index, f"{self.name} {index}")

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}


def trainer(size: Size, row: int) -> Trainer:
    """A trainer of the two-copy recipe, its model on the device."""
    modules = {point.name: point.load() for point in entry_points(group="transfuse.plugins")}
    plugins = Plugins.of({**modules, "bench": sys.modules[__name__]})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "registry.yaml"
        file.write_text(RECIPE)
        registry = Registry.load(plugins, [packaged_file(), file])
        settings = [f"model.dim={size.width}", f"model.layers={size.layers}", f"model.heads={size.heads}"]
        settings += [f"train.budget={row}", "text.vocab=256"]
        settings += ["attention=flex"] if size.device == "cuda" else []
        recipe = registry.recipe("bagel", settings)
    data = Interleaved(size.side, 400 if size.device == "cuda" else 20)
    model = build(recipe, data, plugins, report=lambda line: None)
    return Trainer(recipe, model.to(size.device), data)


# -- stages


def card(size: Size) -> Figures:
    """What it runs on: name, memory, a matrix product and a copy."""
    if size.device == "cpu":
        return {"card": "none: the CPU stands in", "skipped": ["matrix product and copy: no GPU"]}
    properties = torch.cuda.get_device_properties(0)
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = seconds(lambda: a @ b, size, 10)
    big = torch.empty(2**31, dtype=torch.uint8, device="cuda")
    copy = seconds(lambda: big.clone(), size, 10)
    return {
        "card": properties.name,
        "memory_gib": properties.total_memory / 2**30,
        "matmul_flops_bf16": 2 * 8192**3 / product,
        "copied_bytes_a_second": 2 * 2**31 / copy,
    }


def filled(mask: Mask, columns: dict[str, Any], length: int) -> dict[str, np.ndarray]:
    """A system's small row many times over, each a document of its own where it has documents, and filler."""
    size, found = len(next(iter(columns.values()))), {}
    times = length // size
    flags = {atom.column for atom in atoms(mask.expression) if isinstance(atom, Flag)}
    for name, values in columns.items():
        once = np.asarray(values)
        parts = [once]
        for i in range(1, times):
            step = i * (int(once.max()) + 1) if name in ("doc", "idx", "span") else 0
            parts.append(np.where(once < 0, once, once + step))
        rest = np.full(length - times * size, 0 if name in flags else -1)
        found[name] = np.concatenate([*parts, rest])
    return found


def kernels(size: Size) -> Figures:
    """Every oracle's mask through every kernel: outputs and gradients against float64 written out, in bf16, then fp32.

    A kernel's error may be four times that of torch's dense one in the same dtype. Masks for which no time is left are
    named.
    """
    found: Figures = {"masks": {}, "skipped": []}
    until = time.perf_counter() + 0.8 * limit("kernels", size)
    no_silent_fallback()
    offered: list[Backend] = [flex.Flex(), xformers.XFormers()]
    torch.backends.cuda.matmul.allow_tf32 = False
    for dtype in (torch.bfloat16, torch.float32):
        for path in sorted(ORACLES.glob("*.json")):
            if time.perf_counter() > until:
                found["skipped"].append(f"{path.stem}, {str(dtype)[6:]}: no time was left")
                continue
            system = json.loads(path.read_text())
            mask = masks.parse(system["rule"])
            columns = filled(mask, system["fields"], size.positions)
            wanted = through(Dense(), mask, columns, torch.float64, size, dtype)
            dense = through(Dense(), mask, columns, dtype, size, dtype)
            allowed = 4 * max(apart(dense, wanted)) + 1e-6
            for backend in offered:
                name = f"{path.stem}, {backend.name}, {str(dtype)[6:]}"
                try:
                    got = through(backend, mask, columns, dtype, size, dtype)
                except TransfuseError as reason:
                    if str(reason) not in found["skipped"]:
                        found["skipped"].append(str(reason))
                    continue
                errors = apart(got, wanted)
                found["masks"][name] = {"errors": errors, "allowed": allowed, "right": max(errors) <= allowed}
    if size.device == "cpu":
        found["skipped"].append("gradients: FlexAttention has no backward pass on the CPU")
    found["wrong"] = [name for name, one in found["masks"].items() if not one["right"]]
    return found


def through(
    backend: Backend,
    mask: Mask,
    columns: dict[str, np.ndarray],
    dtype: torch.dtype,
    size: Size,
    drawn: torch.dtype,
) -> list[Tensor]:
    """Output and gradients of attention, float64, for inputs that are exact in ``drawn``."""
    T, heads, width, grad = size.positions, 4, 64, size.device == "cuda"
    request = Request(torch.device(size.device), dtype, heads, heads, width, T, T, grad)
    if reasons := backend.supports(request):
        raise TransfuseError(f"{backend.name}: {'; '.join(reasons)}")
    generator = torch.Generator().manual_seed(0)
    q, k, v, g = (torch.randn(heads, T, width, generator=generator).to(drawn) for _ in range(4))
    inputs = [x.to(size.device, dtype).requires_grad_(grad) for x in (q, k, v)]
    out = backend.attend(*inputs, backend.plan(mask, columns, None, request))
    seen = torch.from_numpy(mask.dense(columns).any(1).numpy())[None, :, None].to(out.device)
    out = torch.where(seen, out, 0.0)
    gradients = torch.autograd.grad(out, inputs, g.to(out)) if grad else ()
    return [x.detach().double() for x in (out, *gradients)]


def no_silent_fallback() -> None:
    """torch.compile raises where it would give up compiling and run FlexAttention over all pairs."""
    config = torch._dynamo.config
    config.recompile_limit = config.accumulated_recompile_limit = 1000
    config.fail_on_recompile_limit_hit = True


def apart(got: list[Tensor], wanted: list[Tensor]) -> list[float]:
    return [float((a - b).abs().max()) for a, b in zip(got, wanted, strict=True)]


def rows(size: Size, T: int, count: int) -> Iterator[dict[str, np.ndarray]]:
    """Columns of different Transfusion rows of one length."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        doc, span = [], []
        while len(doc) < T:
            text, image, own = int(rng.integers(4, 100)), int(rng.integers(4, 64)), 1 + max([-1, *doc[-1:]])
            doc += [own] * (text + image)
            span += [-1] * text + [own] * image
        yield {"doc": np.array(doc[:T]), "span": np.array(span[:T]), "idx": np.arange(T)}


def block_masks(size: Size) -> Figures:
    """BlockMask from slices against create_block_mask, which asks about every pair: the same blocks, and the times."""
    from torch.nn.attention.flex_attention import create_block_mask

    T = size.closure
    (columns,) = rows(size, T, 1)
    slices = TRANSFUSION.slices(columns)
    mod = flex.from_tables(slices.intervals(), size.device)
    ours, theirs = (
        flex.block_mask(slices, mod, size.device),
        create_block_mask(mod, None, None, T, T, size.device),
    )
    same = bool((ours.to_dense() == theirs.to_dense()).all())
    full = bool((dense_full(ours) == dense_full(theirs)).all())
    return {
        "positions": T,
        "same_blocks": same,
        "same_full_blocks": full,
        "seconds_from_columns": seconds(
            lambda: flex.block_mask(TRANSFUSION.slices(columns), mod, size.device), size, 3
        ),
        "seconds_create_block_mask": seconds(
            lambda: create_block_mask(mod, None, None, T, T, size.device), size, 3
        ),
        "wrong": [] if same and full else ["blocks"],
    }


def dense_full(mask: Any) -> Tensor:
    """Which blocks are full, [rows, columns]."""
    many, index = mask.full_kv_num_blocks[0, 0], mask.full_kv_indices[0, 0].long()
    found = torch.zeros(len(many), index.shape[1] + 1, dtype=torch.bool, device=index.device)
    place = torch.arange(index.shape[1], device=index.device) < many[:, None]
    return found.scatter_(1, torch.where(place, index, index.shape[1]), True)[:, :-1]


def recompiles(size: Size) -> Figures:
    """Attention, forward and (on a GPU) backward, over many different rows: graphs compiled after the first few."""
    from torch._dynamo.utils import counters

    backend, T, grad = flex.Flex(), size.positions, size.device == "cuda"
    no_silent_fallback()
    request = Request(torch.device(size.device), torch.bfloat16, 4, 4, 64, T, T, grad)
    q, k, v = (
        torch.randn(4, T, 64, device=size.device, dtype=torch.bfloat16, requires_grad=grad) for _ in range(3)
    )
    warm, started = 0, 0.0
    for number, columns in enumerate(rows(size, T, size.rows)):
        if number == 4:
            warm, started = counters["stats"]["unique_graphs"], time.perf_counter()
        out = backend.attend(q, k, v, backend.plan(TRANSFUSION, columns, None, request))
        if grad:
            out.sum().backward()
    more = counters["stats"]["unique_graphs"] - warm
    found = {
        "rows": size.rows,
        "graphs_at_first": warm,
        "graphs_later": more,
        "wrong": ["recompiled"] if more else [],
    }
    found["seconds_a_row"] = (time.perf_counter() - started) / (size.rows - 4)
    if not grad:
        found["skipped"] = ["compilation and backward: on the CPU the kernel runs uncompiled"]
    return found


def training(size: Size) -> Figures:
    """A model of 1-2 B parameters on rows of 32k as BAGEL's: seconds a step, MFU by allowed pairs and as usual."""
    tried: list[str] = []
    for row in (size.row, size.row // 2):
        try:
            return {**trained(size, row), "skipped": tried}
        except torch.OutOfMemoryError:
            tried.append(f"rows of {row}: out of memory")
            torch.cuda.empty_cache()
    return {"skipped": tried, "wrong": ["out of memory"]}


def trained(size: Size, row: int) -> Figures:
    run = trainer(size, row)
    model, s = run.model, run.model.settings
    for _ in range(2):
        run.step()
    before, took = run.progress.flops, seconds(run.step, size, size.steps, warm=0)
    by_pairs = (run.progress.flops - before) / size.steps
    used = sum(p.numel() for p in model.backbone.parameters()) + model.unembed.weight.numel()
    usual = row * (6.0 * used + 12.0 * s.layers * s.dim * row)
    peak = top(size)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "row": row,
        "seconds_a_step": took,
        "positions_a_second": row / took,
        "mfu_by_allowed_pairs": by_pairs / took / peak,
        "mfu_usual_formula": usual / took / peak,
        "flops_a_second_counted_as_peak": peak,
        "published": PUBLISHED,
        "peak_memory_gib": run.progress.peak_memory / 2**30,
    }


def top(size: Size) -> float:
    """The card's FLOP/s in bf16."""
    name = torch.cuda.get_device_name(0) if size.device == "cuda" else ""
    known = [flops for part, flops in PEAK.items() if part in name]
    side = 8192 if size.device == "cuda" else 512
    a = torch.randn(side, side, device=size.device, dtype=torch.bfloat16)
    return known[0] if known else 2 * side**3 / seconds(lambda: a @ a, size, 5)


def generation(size: Size) -> Figures:
    """The same model: pictures of 1,024 positions under guidance, and text, many together."""
    run = trainer(size, size.row)
    run.step()
    prompt = Document((Item("text", "a picture", droppable=True),))
    found: Figures = {}
    with computing_in(run.model, "bfloat16"):
        took = seconds(lambda: generate(run.model, [prompt] * size.pictures, want="image"), size, 1)
        found["milliseconds_an_evaluation_of_a_view"] = 1000 * took / size.pictures / 40
        made = seconds(
            lambda: generate(run.model, [prompt] * size.texts, want="text", tokens=32, greedy=True), size, 1
        )
    return {**found, "pictures": size.pictures, "texts": size.texts, "seconds_of_text_at_most_32_ids": made}


def comparison(size: Size) -> Figures:
    """`transfuse compare` on digits with models larger than a CPU trains: what its report says."""
    with tempfile.TemporaryDirectory() as folder:
        sets = [word for one in size.compare for word in ("--set", one)]
        command = [
            sys.executable,
            "-c",
            "from transfuse_lab.cli import main; main()",
            "compare",
            "--data",
            "digits",
        ]
        command += ["--seeds", "0", "--out", folder, "--device", size.device, *sets]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        said = ran.stdout.splitlines()[-25:]
        if ran.returncode:
            return {"wrong": [f"exit {ran.returncode}"], "said": said, "error": ran.stderr[-2000:]}
        return {"said": said, "compare": json.loads((Path(folder) / "compare.json").read_text())}


def tests(size: Size) -> Figures:
    """The tests that `make test-gpu` runs."""
    where = ["tests/devices", "tests/gpu"] if size.device == "cuda" else ["tests/gpu"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *where, "-rs", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        "said": ran.stdout.splitlines()[-30:],
        "wrong": [f"exit {ran.returncode}"] if ran.returncode else [],
    }


STAGES: dict[str, tuple[Callable[[Size], Figures], int]] = {
    "card": (card, 30),
    "kernels": (kernels, 130),
    "block_masks": (block_masks, 30),
    "recompiles": (recompiles, 60),
    "training": (training, 100),
    "generation": (generation, 60),
    "tests": (tests, 110),
    "comparison": (comparison, 120),
}
"""In this order, and seconds that each may take at most."""


def limit(stage: str, size: Size) -> float:
    """Seconds for a stage; a rehearsal may run beside other work."""
    return STAGES[stage][1] * (1 if size.device == "cuda" else 5)


def seconds(work: Callable[[], Any], size: Size, times: int, warm: int = 1) -> float:
    """Wall-clock seconds of one of ``times``, the device waited for."""
    for _ in range(warm):
        work()
    wait(size)
    started = time.perf_counter()
    for _ in range(times):
        work()
    wait(size)
    return (time.perf_counter() - started) / times


def wait(size: Size) -> None:
    if size.device == "cuda":
        torch.cuda.synchronize()


def run_all(file: Path, tiny: bool, in_all: float) -> bool:
    """Every stage in its own process, the file written after each; whether all ran, and nothing was wrong."""
    record: Figures = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    record |= {"torch": torch.__version__, "python": sys.version.split()[0], "tiny": tiny, "stages": {}}
    until, good = time.monotonic() + in_all, True
    for name in STAGES:
        left = min(limit(name, SMALL if tiny else LARGE), until - time.monotonic())
        started, part = time.monotonic(), file.with_suffix(f".{name}.json")
        one: Figures = {"ok": False, "skipped": ["no time was left"]}
        if left > 5:
            command = [sys.executable, __file__, "--json", str(part), "--stage", name, *["--tiny"] * tiny]
            try:
                ran = subprocess.run(command, capture_output=True, text=True, timeout=left, check=False)
                if ran.returncode:
                    one = {"ok": False, "error": ran.stderr[-2000:]}
                else:
                    one = json.loads(part.read_text())
                    one = {"ok": not one.get("wrong"), **one}
            except subprocess.TimeoutExpired:
                one = {"ok": False, "error": f"stopped after {left:.0f} s"}
            part.unlink(missing_ok=True)
        record["stages"][name] = {**one, "seconds": time.monotonic() - started}
        record["card"] = record["stages"]["card"].get("card", "unknown")
        file.write_text(json.dumps(record, indent=1) + "\n")
        print(
            f"{name}: {'good' if one['ok'] else 'NOT GOOD'}, {time.monotonic() - started:.0f} s", flush=True
        )
        good = good and one["ok"]
    return good


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="the figures")
    parser.add_argument("--tiny", action="store_true", help="the CPU stands in")
    parser.add_argument("--stage", choices=STAGES, help="one stage, in this process")
    parser.add_argument(
        "--seconds", type=float, help="for all stages together; default 470, of a rehearsal 2000"
    )
    given = parser.parse_args()
    if not given.tiny and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device: on a machine without one, rehearse with --tiny")
    if given.stage is None:
        sys.exit(not run_all(given.json, given.tiny, given.seconds or (2000 if given.tiny else 470)))
    found = STAGES[given.stage][0](SMALL if given.tiny else LARGE)
    given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
