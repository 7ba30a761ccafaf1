"""Published attention masks as rules, by name; docs/masks.md draws them and says where each is from."""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from transfuse.masks import Flag, Mask, parse
from transfuse.masks.expressions import atoms


@dataclass(frozen=True)
class Published:
    """A rule, and the systems that train under it."""

    title: str
    rule: str

    @property
    def mask(self) -> Mask:
        return parse(self.rule)


PUBLISHED = MappingProxyType(
    {
        "causal": Published("Causal LM, Chameleon, Emu3, Janus", "same(doc) & le(idx)"),
        "transfusion": Published("Transfusion, LMFusion, Tuna-2", "same(doc) & (le(idx) | same(span))"),
        "prefix": Published("PaliGemma, prefix-LM", "same(doc) & le(rank)"),
        "grn": Published("GRN", "same(seg) | (same(doc) & k.text & ~q.text)"),
        "neo_inference": Published("NEO, inference (positions repeat in an image)", "le(idx) | same(at)"),
        "dit": Published("DiT, SD3, UWM, Diffusion-LM, LangFlow", "same(doc)"),
        "bagel": Published("BAGEL", "same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))"),
        "bd3lm": Published(
            "BD3-LM (block diffusion)",
            "(k.noised & q.noised & same(block)) | (~k.noised & q.noised & lt(block)) | "
            "(~k.noised & ~q.noised & le(block))",
        ),
        "monoformer": Published("MonoFormer", "le(idx) | (q.gen & k.gen)"),
        "neo_train": Published("NEO, training", "same(doc) & (le(idx) | same(span))"),
        "omnigen_1": Published(
            "OmniGen, packed", "~k.rightpad & (q.leftpad | (~k.leftpad & (le(idx) | q.out | same(span))))"
        ),
        "pi0": Published("π0", "q.valid & k.valid & le(rank)"),
        "pi05": Published("π0.5", "q.valid & k.valid & le(rank)"),
        "showo2": Published("Show-o2", "le(idx) | same(span)"),
        "showo_mmu": Published("Show-o, understanding", "le(idx) | k.prefix"),
        "showo_t2i_keep_pad": Published("Show-o, text to image", "q.img | le(idx)"),
        "starflow_window": Published("STARFlow-V, window", "le(idx) & (k.text | delta(frame, hi=1))"),
        "transfusion_lucidrains": Published("transfusion-pytorch", "le(idx) | same(span)"),
        "var": Published("VAR", "le(scale)"),
        "worldvla_mask1": Published("WorldVLA, mask 1", "le(idx) & ~(q.is_act & k.is_act & ~same(act))"),
        "worldvla_mask3": Published("WorldVLA, mask 3", "le(idx) & ~(q.trailing & k.is_act & ~same(act))"),
    }
)


def columns_for(mask: Mask, length: int) -> dict[str, np.ndarray]:
    """Columns of so many positions for whatever a mask reads: ids that rise in runs, flags that alternate in runs.

    ``doc`` ends in two positions of filler, and ``span`` has none at every second run.
    """
    flags = {atom.column for atom in atoms(mask.expression) if isinstance(atom, Flag)}
    made = {"idx": np.arange(length)}
    for i, name in enumerate(sorted(mask.columns - {"idx"})):
        runs = np.arange(length) // (3 + 2 * i)
        made[name] = runs % 2 if name in flags else runs
        if name == "span":
            made[name] = np.where(runs % 2, runs // 2, -1)
    if "doc" in made:
        made["doc"] = np.where(np.arange(length) < length - 2, np.arange(length) // (length // 3), -1)
    return made
