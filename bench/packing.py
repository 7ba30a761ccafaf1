"""How full, how fair and how fast packing is: documents of text and one image, as a data loader meets them.

python bench/packing.py --json packing.json
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from transfuse.masks import NONE
from transfuse.modalities.modality import Column
from transfuse.sequences.packing import Packer, choose
from transfuse.sequences.sequence import DocumentSequence

KINDS = dict.fromkeys(("pos", "item", "mod", "span"), Column.ID)
KINDS |= dict.fromkeys(("noised", "marker", "text", "image"), Column.FLAG)
TEXT, IMAGE = (4, 200), (4, 256)  # positions, drawn uniformly


def document(index: int, text: int, image: int) -> DocumentSequence:
    """Columns as a layout writes them; nothing is embedded here."""
    n = text + image
    is_image = np.arange(n) >= text
    columns = {
        "pos": np.arange(n),
        "item": is_image.astype(np.int64),
        "mod": is_image.astype(np.int64),
        "span": np.where(is_image, 0, NONE),
        "noised": is_image.astype(np.int64),
        "marker": np.zeros(n, np.int64),
        "text": (~is_image).astype(np.int64),
        "image": is_image.astype(np.int64),
    }
    none = np.full(n, NONE)
    table = np.stack([np.zeros(n, np.int64), none, none, *(columns[name] for name in KINDS)])
    return DocumentSequence(index, 0, f"bench {index}", KINDS, table, ())


def documents(count: int, seed: int) -> list[DocumentSequence]:
    rng = np.random.default_rng(seed)
    text = rng.integers(TEXT[0], TEXT[1] + 1, count)
    image = rng.integers(IMAGE[0], IMAGE[1] + 1, count)
    return [document(i, int(text[i]), int(image[i])) for i in range(count)]


def measure(count: int, budget: int, look_ahead: int, seed: int) -> dict[str, float]:
    """Utilisation is of the rows before the stream ends, whose last ones hold what is left. CPU time."""
    stream = documents(count, seed)
    packer = Packer(budget, look_ahead)
    used = offered = longest = made = 0
    arrived_at: list[int] = []  # rows made when a document arrived

    def arriving() -> Iterator[DocumentSequence]:
        for sequence in stream:
            arrived_at.append(made)
            yield sequence

    started = time.process_time()
    for row in packer.rows(arriving()):
        if packer.arrived < count:
            used += row.used
            offered += budget
        longest = max(longest, made - min(arrived_at[a] for a in row.arrivals))
        made += 1
    seconds = time.process_time() - started
    return {
        "utilisation": used / offered,
        "longest_wait_rows": longest,
        "microseconds_a_document": 1e6 * seconds / count,
        "microseconds_a_document_choosing": 1e6 * choosing(stream, budget, look_ahead) / count,
    }


def choosing(stream: list[DocumentSequence], budget: int, look_ahead: int) -> float:
    """Seconds to decide which documents go into which row, without laying them out."""
    lengths = [len(sequence) for sequence in stream]
    waiting: list[int] = []
    started = time.process_time()
    for length in lengths:
        waiting.append(length)
        if len(waiting) >= look_ahead:
            for i in reversed(choose(waiting, budget)):
                del waiting[i]
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--budget", type=int, default=4096)
    parser.add_argument("--look-ahead", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    setting = {"documents": given.documents, "budget": given.budget, "look_ahead": given.look_ahead}
    figures = measure(given.documents, given.budget, given.look_ahead, given.seed)
    for name, value in figures.items():
        print(f"{name:34} {value:.5g}")
    if given.json:
        given.json.write_text(json.dumps({"setting": setting, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
