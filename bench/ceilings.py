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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/scenes.md")
    given = parser.parse_args()
    data = Scenes(ScenesSettings())
    pictures = list(data.raw("train", "image"))
    held = [data.document("test", i).items for i in range(data.size("test"))]
    asked = [found for text, _ in held if (found := read(text.data)) is not None]
    lines = [
        f"| {len(held)} test scenes through the codec, fit to {len(pictures):,} pictures | object recall "
        "| whole scene right | legible |",
        "|---|---|---|---|",
    ]
    codecs = {"blocks": BlocksCodec(BlocksSettings()), "block-codes": BlockCodesCodec(BlockCodesSettings())}
    for name, codec in codecs.items():
        codec.fit(pictures, 0, print)
        back = Pictures(
            asked, [codec.decode(codec.encode(image.data)) for _, image in held], ReadingSettings()
        )
        shares = (np.diag(recall(back.wanted, back.seen)).mean(), back.whole(), back.legible.mean())
        lines.append(f"| `{name}` | {' | '.join(f'{share:.3f}'.lstrip('0') for share in shares)} |")
    print("\n".join(lines))
    if given.write:
        write("scenes.md", "bench/ceilings.py", "\n".join(lines))


if __name__ == "__main__":
    main()
