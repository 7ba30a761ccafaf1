"""How much of a scene codecs leave readable: the ceilings of what scenes measure, as a table in docs/scenes.md.

python bench/ceilings.py [--write]
"""

import argparse

import numpy as np
from pages import write
from transfuse_image.codecs.blocks import BlockCodesCodec, BlockCodesSettings, BlocksCodec, BlocksSettings
from transfuse_scenes.data_set import Scenes
from transfuse_scenes.grammar import read
from transfuse_scenes.metrics import Pictures, recall
from transfuse_scenes.settings import ReadingSettings, ScenesSettings

SEEDS = (0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/scenes.md")
    given = parser.parse_args()
    lines = [
        "| test scenes through a codec that was fit to training's | preset | object recall, by seed of the codec "
        "| whole scene right | legible |",
        "|---|---|---|---|---|",
    ]
    for preset in ("full", "easy"):
        data = Scenes(ScenesSettings(preset=preset, edits=0))
        pictures = list(data.raw("train", "image"))
        held = [data.document("test", i).items for i in range(data.size("test"))]
        asked = [found for text, _ in held if (found := read(text.data)) is not None]
        for name, seeds, codec in (
            ("`blocks`", (0,), BlocksCodec(BlocksSettings())),
            ("`block-codes`", SEEDS, BlockCodesCodec(BlockCodesSettings())),
            ("the same with `codes: 2048`", SEEDS, BlockCodesCodec(BlockCodesSettings(codes=2048))),
        ):
            found = []
            for seed in seeds:
                codec.fit(pictures, seed, print)
                made = [codec.decode(codec.encode(image.data)) for _, image in held]
                back = Pictures(asked, made, ReadingSettings())
                found.append(
                    (np.diag(recall(back.wanted, back.seen)).mean(), back.whole(), back.legible.mean())
                )
            cells = [
                ", ".join(f"{share:.3f}".removeprefix("0") for share in of) for of in zip(*found, strict=True)
            ]
            lines.append(f"| {name} | `{preset}` | {' | '.join(cells)} |")
    print("\n".join(lines))
    if given.write:
        write("scenes.md", "bench/ceilings.py", "\n".join(lines))


if __name__ == "__main__":
    main()
