"""What runs that grew have forgotten of digits, and how much of it is the chance that they give to new ids.

``python bench/growing.py runs/digits runs/grown …``: seconds. The first run is the one that the others began from.
Losses are of all held-out digits (split ``test``), text's in nats an id, pictures' a span; *among its ids* is text's
with the new ids left out of the softmax. docs/growing.md quotes it.
"""

import sys

from transfuse import load
from transfuse_lab.datasets.digits import Digits
from transfuse_lab.evaluation.losses import losses


def main(first: str, *grown: str) -> None:
    digits = Digits()
    documents = [digits.document("test", i) for i in range(digits.size("test"))]
    ids = load(first)[1].vocabulary.size
    print(f"{'':24} {'text':>8} {'among its ids':>14} {'pictures':>9}")
    for run in (first, *grown):
        model = load(run)[1]
        whole = losses(model, documents)
        model.predictable[ids:] = False
        among = losses(model, documents)
        print(f"{run:24} {whole['text'].mean:8.4f} {among['text'].mean:14.4f} {whole['image'].mean:9.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
