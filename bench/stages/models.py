"""The card, and a model of 1-2 B parameters on rows as BAGEL's: its training and its generation."""

import sys
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transfuse import Document, Item, Registry, Trainer, build, generate
from transfuse.datasets import DataSet
from transfuse.model.precision import computing_in
from transfuse.plugin import Part, Span, hookimpl
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse_image.modality import Image, ImageSettings

from stages.size import Figures, Size, seconds

PEAK = {"H100": 989e12, "H200": 989e12}
"""FLOP/s in bf16 by the cards' data sheets, dense; another card's is measured at 8192³."""
PUBLISHED = {"BAGEL-7B on 32 H100, Megatron-Bridge's card": 0.237, "the same, BAGEL's official code": 0.179}
"""MFU by the usual formula."""


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
