"""Draws the pictures of docs/masks.md and docs/gallery.md, and writes their lists: `python docs/mask_gallery.py`.

Titles and rules are those of `transfuse.testing.PUBLISHED`. Systems with an oracle are drawn on the tiny layout
whose mask their own code computed (tests/data/oracles); the others on a layout written here.
"""

import json
from pathlib import Path

from transfuse import masks
from transfuse.testing import PUBLISHED
from transfuse_lab.drawing import mask_drawing, mask_layout

DOCS = Path(__file__).parent
ORACLES = DOCS.parent / "tests" / "data" / "oracles" / "masks"

ATOMS = {
    "same": ("same(doc)", "equal on both sides, and not −1", "a:3 b:2 / c:3"),
    "le": ("le(idx)", "key ≤ query: causal, itself included", "a:8"),
    "lt": ("lt(block)", "key < query: strictly earlier blocks", "a:3 b:2 c:3"),
    "delta": ("delta(block, lo=0, hi=1)", "query − key within bounds: a window of blocks", "a:2 b:2 c:2 d:2"),
    "q": ("q.image", "a flag of the query", "text:3 image:3 text:2"),
    "k": ("k.image", "a flag of the key", "text:3 image:3 text:2"),
    "table": (
        "table(seg, [[1, 0, 0], [1, 1, 0], [0, 1, 1]])",
        "an adjacency of values, row = query's",
        "a:2+seg=0 b:3+seg=1 c:3+seg=2",
    ),
    "and": ("same(doc) & le(idx)", "both", "a:4 / b:4"),
    "or": ("le(idx) | same(span)", "either", "text:3 image:3 text:2"),
    "not": ("le(idx) & ~k.noised", "not", "text:2 image:3+noised text:3"),
    "where": ("where(q.image, same(doc), le(idx))", "by cases", "text:3 image:3 text:2"),
}

ATOMS_HEAD = ["| rule | says | picture |", "|---|---|---|"]

WRITTEN = {
    "causal": (
        "a:5 b:4 / c:5",
        "arXiv:2405.09818 (Chameleon), arXiv:2409.18869 (Emu3), arXiv:2410.13848 (Janus)",
    ),
    "transfusion": (
        "text:3 image:4 text:2 / image:4 text:2",
        "arXiv:2408.11039 (Transfusion, section 3.2), arXiv:2412.15188 (LMFusion), arXiv:2604.24763 (Tuna-2)",
    ),
    "prefix": (
        "image:4+rank=0 prompt:2+rank=0 a:1+rank=1 b:1+rank=2 c:1+rank=3",
        "arXiv:2407.07726 (PaliGemma), arXiv:1910.10683 (prefix-LM, section 3.2.1)",
    ),
    "grn": (
        "text:3+seg=0 image:4+seg=1 image:4+seg=2",
        "arXiv:2604.13030 (GRN, whose code names for each segment those it sees)",
    ),
    "neo_inference": (
        "text:1+at=0 text:1+at=1 image:4+at=2 text:1+at=3 text:1+at=4",
        "arXiv:2510.14979 (NEO)",
    ),
    "dit": (
        "image:5 / image:6",
        "arXiv:2212.09748 (DiT), arXiv:2403.03206 (SD3), arXiv:2504.02792 (UWM), arXiv:2205.14217 (Diffusion-LM), "
        "arXiv:2604.11748 (LangFlow)",
    ),
}


def atoms() -> dict[str, tuple[str, str, str]]:
    """Per picture its rule, what it says, and the picture."""
    return {
        name: (rule, said, mask_drawing.svg(masks.parse(rule), mask_layout.columns(layout)))
        for name, (rule, said, layout) in ATOMS.items()
    }


def systems() -> dict[str, tuple[str, str, str, str]]:
    """Per system its title, rule, source and picture."""
    found = {}
    for name, (layout, source) in WRITTEN.items():
        title, mask = PUBLISHED[name].title, PUBLISHED[name].mask
        found[name] = (title, str(mask), source, mask_drawing.svg(mask, mask_layout.columns(layout)))
    for name in (name for name in PUBLISHED if name not in WRITTEN):
        oracle = json.loads((ORACLES / f"{name}.json").read_text())
        where = oracle["source"]
        lines = "-".join(f"L{line}" for line in where["lines"])
        link = f"https://github.com/{where['repo']}/blob/{where['commit']}/{where['path']}#{lines}"
        title, mask = PUBLISHED[name].title, PUBLISHED[name].mask
        source = f"[{where['repo']}]({link})"
        found[name] = (title, str(mask), source, mask_drawing.svg(mask, oracle["fields"]))
    return found


def pages() -> dict[Path, str]:
    """Every file this script writes, with its text."""
    made = {DOCS / "masks" / f"atom_{name}.svg": svg for name, (_, _, svg) in atoms().items()}
    made |= {DOCS / "masks" / f"{name}.svg": svg for name, (*_, svg) in systems().items()}
    atom_rows = [
        f"| `{_cell(rule)}` | {said} | ![{name}](masks/atom_{name}.svg) |"
        for name, (rule, said, _) in atoms().items()
    ]
    system_rows = [
        line
        for name, (title, rule, source, _) in systems().items()
        for line in (f"## {title}", "", f"`{rule}`", "", f"![{title}](masks/{name}.svg)", "", source, "")
    ]
    masks_page = _between((DOCS / "masks.md").read_text(), "atoms", [*ATOMS_HEAD, *atom_rows])
    gallery_page = _between((DOCS / "gallery.md").read_text(), "gallery", ["", *system_rows])
    return {**made, DOCS / "masks.md": masks_page, DOCS / "gallery.md": gallery_page}


def _cell(rule: str) -> str:
    return rule.replace("|", "\\|")


def _between(page: str, name: str, lines: list[str]) -> str:
    """The page with what stands between its two markers replaced."""
    start, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, after = page.split(start, 1)[0], page.split(end.strip("\n"), 1)[1]
    return before + start + "\n".join(lines) + end + after


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
