"""How fast attention under a mask is here: tiles against dense, planning, the normal form, block masks, errors.

    python bench/attention.py [--quick] [--only PART] [--give-back] [--json FILE] [--write]

Process CPU time, one thread, medians of interleaved rounds; 8 heads of 64, documents of 300-600 positions, half
of them in images of 64, fp32. `--write` puts the table into docs/performance.md. About 6 minutes (quick: 1).
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pages import write
from transfuse import masks
from transfuse.attention import Dense, KVCache, Request
from transfuse.attention.kv_cache import CachePlan
from transfuse.masks import Mask
from transfuse_lab.memory import keep_freed_memory
from transfuse_tiles.backend import Tiles
from transfuse_tiles.plan import lower
from transfuse_tiles.tiling import tiling

HEADS, WIDTH = 8, 64
TRANSFUSION = masks.parse("same(doc) & (le(idx) | same(span))")
BAGEL = masks.parse("same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))")
WORLDVLA = masks.parse("same(doc) & le(idx) & ~(q.is_act & k.is_act & ~same(act))")
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Figure:
    """One line of the table; `met` None where it is a context figure without a target."""

    what: str
    value: float
    unit: str
    target: str
    met: bool | None


def rows(T: int, seed: int = 0, image: int = 64) -> Columns:
    """Documents of 300-600, texts of 32-96 between images: about half of the positions in images."""
    rng = np.random.default_rng(seed)
    docs: list[list[int]] = []
    while sum(map(len, docs)) < T:
        size, spans = int(rng.integers(300, 601)), []
        while len(spans) < size:
            spans += [-1] * int(rng.integers(32, 97)) + [len(docs) * 16 + len(spans) // image] * image
        docs.append(spans[:size])
    return packed(T, docs)


def packed(T: int, docs: list[list[int]], **flags: list[list[int]]) -> Columns:
    doc = np.concatenate([np.full(len(d), i) for i, d in enumerate(docs)])[:T]
    more = {name: np.concatenate(values)[:T] for name, values in flags.items()}
    return {"doc": doc, "span": np.concatenate(docs)[:T], "idx": np.arange(T), **more}


def short(T: int) -> Columns:
    """Documents of 23: 3 of text, a marker, an image of 16, markers."""
    count = -(-T // 23)
    return packed(T, [[-1] * 4 + [i] * 16 + [-1] * 3 for i in range(count)])


def bagel(T: int, images: int, text: int = 32, image: int = 64) -> Columns:
    """Each generated image: text, a noised copy, a clean copy."""
    docs, noised, span = [], [], 0
    while sum(map(len, docs)) < T:
        spans: list[int] = []
        for _ in range(images):
            spans += [-1] * text + [span] * image + [span + 1] * image
            span += 2
        docs.append(spans)
        noised.append(([0] * text + [1] * image + [0] * image) * images)
    return packed(T, docs, noised=noised)


def worldvla(T: int, chunks: int, seen: int = 40, act: int = 24) -> Columns:
    """Each step: what is seen, then a chunk of actions that sees no other actions."""
    docs, flags, ids = [], [], []
    while sum(map(len, docs)) < T:
        docs.append([-1] * (seen + act) * chunks)
        flags.append(([0] * seen + [1] * act) * chunks)
        ids.append([x for c in range(chunks) for x in [-1] * seen + [len(ids) * chunks + c] * act])
    return packed(T, docs, is_act=flags, act=ids)


def request(queries: int, keys: int, dtype: torch.dtype = torch.float32, grad: bool = True) -> Request:
    return Request(torch.device("cpu"), dtype, HEADS, HEADS, WIDTH, queries, keys, grad)


def tensors(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(HEADS, n, WIDTH, generator=generator).requires_grad_() for n in lengths]


def medians(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of CPU time of each run: the median over rounds in which each takes its turn.

    Every other round goes backwards, so that no run always follows the one that leaves the caches cold.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in list(runs.items())[:: -1 if turn % 2 else 1]:
            start = time.process_time()
            run()
            if turn:
                taken[name].append(time.process_time() - start)
    return {name: float(np.median(times)) for name, times in taken.items()}


def both(run: Callable[[], torch.Tensor], inputs: list[torch.Tensor]) -> Callable[[], object]:
    """Forward and backward."""
    grad = torch.ones_like(inputs[0])
    return lambda: torch.autograd.grad(run(), inputs, grad)


def causal(columns: Columns, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Callable[[], torch.Tensor]:
    """torch's own causal kernel, document by document: a wrong mask, but the kernel's best case."""
    cuts = [*np.flatnonzero(np.diff(columns["doc"], prepend=-1)).tolist(), len(columns["doc"])]

    def run() -> torch.Tensor:
        parts = [[x[None, :, a:b] for x in (q, k, v)] for a, b in pairwise(cuts)]
        return torch.cat([F.scaled_dot_product_attention(*p, is_causal=True)[0] for p in parts], 1)

    return run


def speed(rounds: int) -> list[Figure]:
    """Forward + backward of tiles against SDPA with the dense boolean mask."""
    cases: list[tuple[str, Mask, Columns, float]] = [
        ("documents of 300-600, T = 1024", TRANSFUSION, rows(1024), 3),
        ("documents of 300-600, T = 4096", TRANSFUSION, rows(4096), 11),
        ("documents of 300-600, T = 8192", TRANSFUSION, rows(8192), 19),
        ("documents of 23, T = 4096", TRANSFUSION, short(4096), 25),
        ("BAGEL, 8 images a document, T = 4096", BAGEL, bagel(4096, 8), 6),
        ("WorldVLA, 8 action chunks, T = 4096", WORLDVLA, worldvla(4096, 8), 6),
    ]
    found = []
    for name, mask, columns, target in cases:
        T = len(columns["idx"])
        inputs = tensors(T, T, T)
        plans = {b: b.plan(mask, columns, None, request(T, T)) for b in (Dense(), Tiles())}
        runs = {b.name: both(lambda b=b, p=p, x=inputs: b.attend(*x, p), inputs) for b, p in plans.items()}
        if T == 4096 and columns.keys() == {"doc", "span", "idx"} and target == 11:
            runs["causal"] = both(causal(columns, *inputs), inputs)
        took = medians(runs, max(rounds // 2, 2) if T > 4096 else rounds if T > 1024 else 4 * rounds)
        ratio = took["dense"] / took["tiles"]
        found.append(Figure(f"tiles over dense, {name}", ratio, "x", f"≥ {target}", ratio >= target))
        if "causal" in took:
            bound = took["tiles"] / took["causal"]
            found.append(
                Figure("tiles over per-document causal, T = 4096", bound, "", "≤ 0.95", bound <= 0.95)
            )
    return found


def planning(rounds: int) -> list[Figure]:
    """Planning a batch against one layer's forward; block masks against the closure over all pairs."""
    T, columns = 4096, rows(4096)
    slices, backend, inputs = TRANSFUSION.slices(columns), Tiles(), tensors(T, T, T)
    plan = backend.plan(TRANSFUSION, columns, None, request(T, T))
    took = medians(
        {
            "forward": lambda: backend.attend(*inputs, plan),
            "intervals": lambda: lower(tiling(slices), request(T, T)),
            "columns": lambda: backend.plan(TRANSFUSION, columns, None, request(T, T)),
        },
        4 * rounds,
    )
    found = []
    for source, target in (("intervals", 3.0), ("columns", 8.0)):
        share = 100 * took[source] / took["forward"]
        what = f"planning from {source} over one forward, T = 4096"
        found.append(Figure(what, share, "%", f"≤ {target:g}", share <= target))
    return found


def block_masks(rounds: int) -> list[Figure]:
    from torch.nn.attention.flex_attention import create_block_mask
    from transfuse_adapters.flex import block_mask, from_tables

    found = []
    for T, of_slices, of_columns in ((8192, 300, 100), (32768, 1000, 500)):
        columns = rows(T)
        slices = TRANSFUSION.slices(columns)
        mod = from_tables(slices.intervals())
        closure = medians({"c": lambda T=T, mod=mod: create_block_mask(mod, None, None, T, T, "cpu")}, 1)["c"]
        took = medians(
            {
                "slices": lambda s=slices, mod=mod: block_mask(s, mod),
                "columns": lambda c=columns, mod=mod: block_mask(TRANSFUSION.slices(c), mod),
            },
            2 * rounds,
        )
        for source, target in (("slices", of_slices), ("columns", of_columns)):
            ratio = closure / took[source]
            what = f"BlockMask from {source} against the closure, T = {T}"
            found.append(Figure(what, ratio, "x", f"≥ {target}", ratio >= target))
    return found


def normal_form(quick: bool) -> list[Figure]:
    T = 2**17 if quick else 2**20
    found = []
    for name, mask, make, limit in (
        ("Transfusion", TRANSFUSION, [lambda: rows(T), lambda: rows(2 * T)], 2),
        ("BAGEL, 16 images", BAGEL, [lambda: bagel(T, 16), lambda: bagel(T, 32)], 5),
    ):
        once, twice = (build() for build in make)
        took = medians(
            {"once": lambda m=mask, c=once: m.slices(c), "twice": lambda m=mask, c=twice: m.slices(c)}, 5
        )
        growth = took["twice"] / took["once"]
        doubled = "T" if name == "Transfusion" else "images a document"
        what = f"normal form, {name}, T = {T}"
        found.append(Figure(what, took["once"], "s", f"≤ {limit}", took["once"] <= limit))
        found.append(Figure(f"{what}: growth when {doubled} double", growth, "x", "≤ 2.3", growth <= 2.3))
    return found


def errors() -> list[Figure]:
    """Largest errors of output and gradients against float64 dense."""
    columns, T = rows(1024), 1024
    exact = [x.detach().double() for x in tensors(T, T, T)]
    grad = torch.randn(HEADS, T, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    error: dict[tuple[str, torch.dtype], float] = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        inputs = [x.to(dtype).double().requires_grad_() for x in exact]
        out = Dense().attend(*inputs, Dense().plan(TRANSFUSION, columns, None, request(T, T)))
        wanted = [out.detach(), *torch.autograd.grad(out, inputs, grad.to(dtype).double())]
        for backend in (Tiles(), Dense()):
            x = [x.to(dtype).requires_grad_() for x in exact]
            out = backend.attend(*x, backend.plan(TRANSFUSION, columns, None, request(T, T, dtype)))
            got = [out.detach(), *torch.autograd.grad(out, x, grad.to(dtype))]
            error[backend.name, dtype] = max(
                float((a.double() - b).abs().max()) for a, b in zip(got, wanted, strict=True)
            )
    found = []
    for dtype, limit in ((torch.float64, 1e-13), (torch.float32, 5e-6)):
        value = error["tiles", dtype]
        found.append(Figure(f"error of tiles, {str(dtype)[6:]}", value, "", f"≤ {limit:g}", value <= limit))
    ratio = error["tiles", torch.bfloat16] / error["dense", torch.bfloat16]
    return [*found, Figure("error of tiles over error of dense, bfloat16", ratio, "x", "≤ 1.5", ratio <= 1.5)]


def cached(rounds: int) -> list[Figure]:
    """A denoising step of 256 positions against a cached prefix, over SDPA on prefix and span with a mask."""
    found, n = [], 256
    for prefix, target in ((1024, 5), (4096, 18)):
        T = prefix + n
        cache = KVCache(TRANSFUSION, 1, HEADS, WIDTH, streams=1, capacity=T)
        columns = {"doc": np.zeros(T, int), "idx": np.arange(T), "span": np.repeat([-1, 0], [prefix, n])}
        q, k, v = (x.detach() for x in tensors(T, T, T))
        written = cache.plan([(0, 1, prefix)], {name: values[:prefix] for name, values in columns.items()})
        cache.attend(0, written, *(x[:, :prefix] for x in (q, k, v)))
        cache.commit(written)
        plan = cache.plan([(0, 1, n)], {name: values[prefix:] for name, values in columns.items()})
        step = [x[:, prefix:] for x in (q, k, v)]
        dense = TRANSFUSION.dense(columns)

        def whole(x: list[torch.Tensor] = [q, k, v], allowed: torch.Tensor = dense) -> object:  # noqa: B006
            return F.scaled_dot_product_attention(*(part[None] for part in x), attn_mask=allowed)

        def one(x: list[torch.Tensor] = step, c: KVCache = cache, p: CachePlan = plan) -> object:
            return c.attend(0, p, *x)

        took = medians({"whole": whole, "one": one}, 2 * rounds)
        ratio = took["whole"] / took["one"]
        what = f"a denoising step of {n} on a cached prefix of {prefix}"
        found.append(Figure(what, ratio, "x", f"≥ {target}", ratio >= target))
    return found


def table(figures: list[Figure]) -> str:
    lines = ["| | measured | target | |", "|---|---|---|---|"]
    for f in figures:
        said = "" if f.met is None else "met" if f.met else "**missed**"
        lines.append(f"| {f.what} | {f.value:.3g} {f.unit} | {f.target} | {said} |")
    return "\n".join(lines)


PARTS: dict[str, Callable[[bool], list[Figure]]] = {
    "blocks": lambda quick: block_masks(2 if quick else 5),
    "normal-form": normal_form,
    "errors": lambda quick: errors(),
    "cached": lambda quick: cached(2 if quick else 5),
    "speed": lambda quick: speed(2 if quick else 5),
    "planning": lambda quick: planning(2 if quick else 5),
}
"""What is measured, by name and in this order; each takes whether to be quick about it."""
AS_TRAINED = ("speed", "planning")
"""Parts measured as `transfuse train` runs, which keeps freed memory; they come last, as nothing undoes that."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter rows")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"{', '.join(PARTS)}")
    parser.add_argument("--give-back", action="store_true", help="freed memory goes back to the system")
    given = parser.parse_args()
    if given.only and given.write:
        parser.error("--write takes the whole table, not --only some of it")
    torch.set_num_threads(1)
    figures: list[Figure] = []
    for part in (part for part in PARTS if part in (given.only or PARTS)):
        if part in AS_TRAINED and not given.give_back:
            keep_freed_memory()
        figures += (new := PARTS[part](given.quick))
        print("\n".join(f"{f.what}: {f.value:.4g} {f.unit} (target {f.target})" for f in new), flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n")
    if given.write:
        write("performance.md", "bench/attention.py", table(figures))


if __name__ == "__main__":
    main()
