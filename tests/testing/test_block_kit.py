"""The kit for blocks: no honest block is refused, ours or a stranger's, and each liar is by the check that names it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transfuse.config.parts import Chosen, Part, Settings
from transfuse.model.backbone import Backbone
from transfuse.registry.plugins import Plugins
from transfuse.testing import BLOCK, BlockCase, BlockTests
from transfuse_llama.llama import Attention, FeedForward, draw_weights, rotary_tables

from tests.tiny import models as tiny


class Layer(nn.Module):
    def __init__(self, model) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(model.dim)
        self.attention, self.feedforward = Attention(model), FeedForward(model)

    def forward(self, x, cos, sin, attend):
        inner = self.norm(x)
        return x + self.attention(inner, cos, sin, attend) + self.feedforward(inner)


class Honest(Backbone):
    """Attention and feed-forward side by side, as docs/plugins.md has it."""

    def __init__(self, settings: Settings, model, modalities) -> None:
        super().__init__()
        self.model, self.modalities = model, modalities
        self.blocks = nn.ModuleList(Layer(model) for _ in range(model.layers))
        self.norm = nn.RMSNorm(model.dim)
        draw_weights(self, model)

    def prepare(self, row):
        return rotary_tables(row, self.model)

    def forward(self, x, prepared, t, attend):
        for block, attend_here in zip(self.blocks, attend, strict=True):
            x = block(x, *prepared, attend_here)
        return self.norm(x)


def behind(change: Callable[..., Any]) -> dict[str, Any]:
    """A forward whose input or output is changed: ``change(run, x)``."""

    def forward(self, x, prepared, t, attend):
        return change(lambda x: Honest.forward(self, x, prepared, t, attend), x)

    return {"forward": forward}


def built(more: Callable[[Any], None]) -> dict[str, Any]:
    def init(self, settings: Settings, model, modalities) -> None:
        Honest.__init__(self, settings, model, modalities)
        more(self)

    return {"__init__": init}


def in_place(run: Callable, x: torch.Tensor) -> torch.Tensor:
    y = run(x)
    x.mul_(0)
    return y


def unturned(tables: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones_like(tables[0]), torch.zeros_like(tables[1])


def idle(block: Any) -> None:
    block.idle = nn.Linear(4, 4)


def in_a_list(block: Any) -> None:
    block.scales = [nn.Parameter(torch.rand(1))]


def scaled(self: Any, x: torch.Tensor, prepared: Any, t: torch.Tensor, attend: Any) -> torch.Tensor:
    return Honest.forward(self, x, prepared, t, attend) * self.scales[0]


def elsewhere(block: Any) -> None:
    block.layers = block.blocks
    del block.blocks


LIARS: dict[str, tuple[dict[str, Any], str]] = {
    "float64": (behind(lambda run, x: run(x).double()), "it-gives-a-vector-a-position"),
    "noise of its own": (behind(lambda run, x: run(x + torch.randn_like(x))), "it-is-fixed-by-its-seed"),
    "writes into the vectors": (behind(in_place), "what-it-is-given-stays"),
    "a row's mean": (behind(lambda run, x: run(x + x.mean(0))), "positions-meet-in-attention-alone"),
    "a look ahead": (
        behind(lambda run, x: run(x) + torch.cat([x[1:], x[:1]])), "positions-meet-in-attention-alone"
    ),
    "no attention": (behind(lambda run, x: x.tanh()), "attention-matters"),
    "no order": ({"prepare": lambda self, row: unturned(rotary_tables(row, self.model))}, "the-order-matters"),
    "by the row's length": (behind(lambda run, x: run(x / len(x))), "documents-of-a-row-do-not-meet"),
    "an idle layer": (built(idle), "every-weight-gets-a-gradient"),
    "a detach": (behind(lambda run, x: run(x).detach() + 0 * run(x)), "every-weight-gets-a-gradient"),
    "weights of nobody": (
        {"weights": lambda self, modality: self.blocks.named_parameters()}, "a-modality-has-its-weights"
    ),
    "weights of another": (
        {
            "weights": lambda self, modality: [
                (name, p) for name, p in self.named_parameters() if (name == "norm.weight") == (modality != "letters")
            ]
        },
        "other-weights-change-nothing",
    ),
    "free of charge": ({"flops": lambda self, modality: 0}, "its-cost-is-a-number"),
    "weights in a list": ({**built(in_a_list), "forward": scaled}, "saved-weights-bring-it-back"),
    "layers elsewhere": (
        {
            **built(elsewhere),
            "forward": lambda self, x, prepared, t, attend: self.norm(
                [x := block(x, *prepared, each) for block, each in zip(self.layers, attend, strict=True)][-1]
            ),
        },
        "recomputed-it-has-the-same-gradients",
    ),
    "a table on the CPU": (
        behind(lambda run, x: run(x) * torch.ones(x.shape[1])), "it-trains-on-another-device"
    ),
}  # fmt: skip


def chosen(kind: type) -> Chosen:
    return Chosen("block", Part("own", Settings, kind, "a block of a test"), Settings())


@pytest.mark.parametrize("name", LIARS)
def test_a_liar_is_refused_by_the_check_that_names_its_fault(name: str) -> None:
    methods, check = LIARS[name]
    outcome = BLOCK[check].outcome(BlockCase(chosen(type("Liar", (Honest,), methods))))
    assert outcome.status == "fails", outcome
    assert re.match(rf"{check}: .+; change \w+", outcome.text)


OURS = {
    "llama": "llama",
    "a small hidden width": "llama",
    "a stranger's": None,
    "each its own": "per-modality",
    "one its own, copied": {"name": "per-modality", "own": ["blob"], "start": "copied"},
    "timed": "timed",
    "routed": "routed",
    "routed to one of eight": {"name": "routed", "experts": 8},
    "narrow": "narrow",
    "axes": "axes",
}


@pytest.mark.parametrize("name", OURS)
def test_no_honest_block_is_refused(name: str, installed: Plugins) -> None:
    plugins = installed if "its own" in name else tiny.plugins()
    block = chosen(Honest) if OURS[name] is None else plugins.choose("block", OURS[name])
    case = BlockCase(block, hidden=8) if name == "a small hidden width" else BlockCase(block)
    assert [one.text for one in BLOCK.run(case) if one.status == "fails"] == []


class TestLlama(BlockTests):
    @pytest.fixture
    def block(self, installed: Plugins) -> Chosen:
        return installed.choose("block", "llama")


def test_the_page_counts_its_checks_and_liars() -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    assert f"| `BLOCK`, `BlockTests` | `block` | {len(BLOCK.checks)} | {len(LIARS)} |" in page
    assert [ability for ability in BLOCK.abilities if f"`{ability}`" not in page] == []
