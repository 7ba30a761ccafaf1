"""The paper's 7 B model on 8 and on 1,024 GPUs, on paper: memory, FLOPs, bytes between GPUs, and what stops it first.

    python bench/scale.py            # the tables
    python bench/scale.py --write    # put them into docs/scale.md

Nothing is run on a GPU. The model's sizes are the recipe's, what a layer keeps for the backward pass is counted in the
code, and the rest is the arithmetic that docs/scale.md shows.
"""

import argparse
from dataclasses import dataclass

import torch
from pages import write
from torch import Tensor
from torch.autograd.function import Function
from transfuse.config.recipe import ModelSettings
from transfuse.model.backbone import RowContext
from transfuse_llama.llama import Llama, LlamaSettings

MODEL = ModelSettings(dim=4096, layers=32, heads=32)
VOCABULARY, UNET = 32_768, 0.27e9
ROW, BATCH, STEPS = 4096, 2 * 2**20, 250_000
"""Positions of a row and of a step, and steps (paper, section 4.1)."""


@dataclass(frozen=True)
class GPU:
    """An H100 SXM, by its data sheet: FLOP/s in bf16, bytes of memory, bytes/s to others of its node and of others."""

    flops: float = 989e12
    memory: float = 80e9
    node: float = 450e9
    network: float = 50e9


H100 = GPU()
USED = 0.4
"""Of the FLOP/s, while it computes: an assumption, not a measurement."""


class _Kernel(Function):
    """What a fused attention kernel keeps: queries, keys, values, output, and a log-sum-exp a head in fp32."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = v.clone()
        ctx.save_for_backward(q, k, v, out, q.new_zeros(q.shape[:2], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, ...]:
        return grads[0], grads[0], grads[0]


def kept_by_a_layer(T: int = 128) -> float:
    """Bytes a position that one block of the code keeps for its backward pass in mixed precision, over its width D.

    Counted on a block of width 192, whose SwiGLU is as wide in proportion.
    """
    from runners.measure import kept_bytes

    found = []
    for layers in (1, 2):
        backbone = Llama(LlamaSettings(), ModelSettings(dim=192, layers=layers, heads=3))
        row = RowContext({}, torch.arange(T)[:, None], torch.zeros(T).numpy(), torch.full((T,), -1))
        x = torch.randn(T, 192, requires_grad=True)

        def loss(backbone: Llama = backbone, row: RowContext = row, x: Tensor = x) -> tuple[Tensor, int]:
            attend = [_Kernel.apply] * len(backbone.blocks)
            with torch.autocast("cpu", torch.bfloat16):
                return backbone(x, backbone.prepare(row), torch.empty(0), attend).float().sum(), T

        found.append(kept_bytes(backbone, loss)[0])
    return (found[1] - found[0] - _cast_weights()) / T / 192


def _cast_weights() -> float:
    """Bytes of a block's weights in bf16, which autocast keeps beside those in fp32, a layer and not a position."""
    return 2.0 * sum(
        p.numel()
        for p in Llama(LlamaSettings(), ModelSettings(dim=192, layers=1, heads=3)).parameters()
        if p.dim() == 2
    )


def parameters() -> dict[str, float]:
    """Weights of the blocks, of embedding and output layer, and of the U-Net patcher."""
    blocks = MODEL.layers * (4 * MODEL.dim**2 + 3 * MODEL.dim * MODEL.swiglu_width)
    return {"blocks": blocks, "vocabulary": 2 * VOCABULARY * MODEL.dim, "unet": UNET}


def flops_a_position() -> tuple[float, float]:
    """Of training: matrix products of weights; attention, where one document fills a row."""
    sizes = parameters()
    used = sizes["blocks"] + sizes["vocabulary"] / 2 / 2 + sizes["unet"]  # half the positions predict an id
    return 6 * used, 12 * MODEL.layers * MODEL.dim * (ROW + 1) / 2


def rows_of(gpus: int) -> list[tuple[str, str]]:
    """One column of the table: what, and how much."""
    total = sum(parameters().values())
    state = 16 * total / gpus
    layer = parameters()["blocks"] / MODEL.layers
    gathered = 2 * 2 * layer
    whole = kept_by_a_layer() * MODEL.dim * MODEL.layers * ROW
    ends = 4 * MODEL.dim * MODEL.layers * ROW + whole / MODEL.layers
    each = BATCH / ROW / gpus
    held = min(max(1, int((H100.memory * 0.9 - state - gathered) / whole)), max(1, int(each)))
    busy = min(1.0, each)
    seconds = ROW * sum(flops_a_position()) / (USED * H100.flops)
    moved, wire = 8 * total, H100.node if gpus <= 8 else H100.network
    compute, transfer = held * seconds, moved / wire
    step = max(1, each / held) * max(compute, transfer)
    hybrid = max(moved / H100.node, 2 * 4 * total / 8 / H100.network)
    return [
        ("rows of 4,096 for each GPU in a step of 2 M positions", f"{each:g}"),
        ("weights, gradients, two moments: 16·N / G", f"{state / 1e9:.1f} GB"),
        ("two blocks gathered in bf16: 4·N_block", f"{gathered / 1e9:.1f} GB"),
        ("kept of one row: k·D·L·T", f"{whole / 1e9:.1f} GB"),
        ("the same with each block computed again: 4·D·L·T + k·D·T", f"{ends / 1e9:.1f} GB"),
        ("rows that fit at once, nothing computed again", f"{held}"),
        ("memory in use, of 80", f"{(state + gathered + held * whole) / 1e9:.0f} GB"),
        ("computing these rows, at 40 % of 989 TFLOP/s", f"{compute:.2f} s"),
        ("gathered twice and scattered: 8·N", f"{moved / 1e9:.0f} GB"),
        (f"the same in time, over {'NVLink, 450' if gpus <= 8 else 'the network, 50'} GB/s", f"{transfer:.2f} s"),
        ("sharded in the node, replicated beyond", "" if gpus <= 8 else f"{hybrid:.2f} s"),
        ("GPUs with something to do", f"{busy:.0%}"),
        ("a step", f"{step:.2f} s"),
        ("250,000 steps", f"{STEPS * step / 86400:.0f} days"),
        ("stopped first by", first(each, compute, transfer)),
    ]  # fmt: skip


def first(each: float, compute: float, transfer: float) -> str:
    """What stops it first, in words."""
    if each < 1:
        return "rows: there are fewer than GPUs; then the network"
    return "arithmetic" if compute >= transfer else "the network"


def table() -> str:
    sizes, (products, attention) = parameters(), flops_a_position()
    words = ", ".join(f"{name} {value / 1e9:.2f} B" for name, value in sizes.items())
    head = [
        f"N = {sum(sizes.values()) / 1e9:.2f} B parameters ({words}); k = {kept_by_a_layer():.1f} bytes a position, "
        f"layer and unit of width, counted in the code; {products / 1e9:.1f} + {attention / 1e9:.1f} GFLOP a position, "
        f"{ROW * (products + attention) / 1e12:.0f} TFLOP a row.",
        "",
        "| | 8 GPUs | 1,024 GPUs |",
        "|---|---|---|",
    ]
    pairs = zip(rows_of(8), rows_of(1024), strict=True)
    return "\n".join(
        head + [f"| {few[0].split(', over')[0]} | {few[1]} | {many[1]} |" for few, many in pairs]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    given = parser.parse_args()
    print(table())
    if given.write:
        write("scale.md", "bench/scale.py", table())


if __name__ == "__main__":
    main()
