"""A small convolutional classifier of images by their caption: the eye that judges what models draw.

Trained on the real training images in seconds, with the caption as the class. Its labels say whether a
prompted picture shows what was asked for; its penultimate features are where Fréchet distances are
taken. Those are comparable only between pictures judged by the same classifier.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transfuse.errors import TransfuseError

FEATURES = 64
EPOCHS = 20
BATCH = 50
PEAK_LR = 4e-3
SEED = 20240822


class _Net(nn.Module):
    """Images [n, C, H, W] in [0, 1] -> features [n, 64] -> logits [n, classes]."""

    def __init__(self, channels: int, height: int, width: int, classes: int) -> None:
        super().__init__()
        halvings = 1
        while min(height, width) >> (halvings + 1) >= 4:
            halvings += 1
        widths = [24] + [48] * halvings
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip([channels, *widths[:-1]], widths, strict=True)
        )
        cells = (height >> halvings) * (width >> halvings)
        self.features = nn.Linear(widths[-1] * cells, FEATURES)
        self.labels = nn.Linear(FEATURES, classes)

    def embed(self, images: Tensor) -> Tensor:
        x = images * 2 - 1
        for number, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            if number:
                x = F.max_pool2d(x, 2)
        return F.relu(self.features(x.flatten(1)))


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    classes: the distinct training captions, sorted: the class of each logit.
    shape: [channels, height, width] of the images it was trained on.
    """

    classes: tuple[str, ...]
    shape: tuple[int, ...]
    net: _Net

    def features(self, images: np.ndarray) -> np.ndarray:
        """Penultimate activations, float64 ``[n, 64]``, of images ``[n, channels, height, width]``."""
        return self._forward(images)[0].numpy().astype(np.float64)

    def read(self, images: np.ndarray) -> list[str]:
        """The most likely caption of each image."""
        return [self.classes[index] for index in self._forward(images)[1].argmax(1).tolist()]

    def accuracy(self, images: np.ndarray, captions: list[str]) -> float:
        """The share of images read as their caption."""
        return share_equal(self.read(images), captions)

    def _forward(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        if images.shape[1:] != self.shape:
            raise TransfuseError(f"classifier: images are {images.shape[1:]}, it was trained on {self.shape}")
        if not np.isfinite(images).all():
            raise TransfuseError("classifier: an image holds NaN or Inf")
        with torch.no_grad():
            parts = [self.net.embed(part) for part in torch.tensor(images, dtype=torch.float32).split(512)]
            features = torch.cat(parts) if parts else torch.empty(0, FEATURES)
            return features, self.net.labels(features)


def share_equal(given: list[str], truth: list[str]) -> float:
    """The share of places at which two lists of equal length agree."""
    if len(given) != len(truth) or not truth:
        raise TransfuseError(f"cannot compare {len(given)} with {len(truth)} captions")
    return sum(one == two for one, two in zip(given, truth, strict=True)) / len(truth)


def train_classifier(images: np.ndarray, captions: list[str], seed: int = SEED) -> Classifier:
    """Trains on real images ``[n, channels, height, width]`` in [0, 1]; the caption is the class.

    Half the images of a batch are shifted by at most one pixel. AdamW, a one-cycle rate, label smoothing
    0.05. The same arguments give the same classifier on one machine; the global random state is neither
    read nor moved. Raises TransfuseError for fewer than two classes or less than 4 x 4 pixels.
    """
    if images.ndim != 4 or len(images) != len(captions):
        raise TransfuseError(f"classifier: images {images.shape} do not go with {len(captions)} captions")
    classes = tuple(sorted(set(captions)))
    if len(classes) < 2 or min(images.shape[2:]) < 4:
        raise TransfuseError(
            f"classifier: {len(classes)} distinct captions on images of {images.shape[2:]} pixels; "
            "it needs two captions and 4 x 4 pixels at least"
        )
    generator = torch.Generator().manual_seed(seed)
    _, channels, height, width = images.shape
    net = _initialised(_meta(channels, height, width, len(classes)), generator)
    _fit(net, torch.tensor(images, dtype=torch.float32), _numbers(captions, classes), generator)
    return Classifier(classes, images.shape[1:], net.eval().requires_grad_(False))


def _numbers(captions: list[str], classes: tuple[str, ...]) -> Tensor:
    number = {name: index for index, name in enumerate(classes)}
    return torch.tensor([number[caption] for caption in captions])


def _meta(channels: int, height: int, width: int, classes: int) -> _Net:
    """A net without values, so that making it draws nothing from the global random state."""
    with torch.device("meta"):
        return _Net(channels, height, width, classes)


def _initialised(net: _Net, generator: torch.Generator) -> _Net:
    net.to_empty(device="cpu")
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
    return net


def _fit(net: _Net, images: Tensor, classes: Tensor, generator: torch.Generator) -> None:
    optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_LR, weight_decay=1e-2)
    batches = -(-len(images) // BATCH)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LR, EPOCHS * batches, pct_start=0.2)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            logits = net.labels(net.embed(shifted(images[batch], generator)))
            loss = F.cross_entropy(logits, classes[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rates.step()


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """About half the images, each moved by up to one pixel along each axis; the edge is repeated."""
    count, _, height, width = images.shape
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    moves = torch.randint(0, 3, (count, 2), generator=generator)
    rows = moves[:, 0, None] + torch.arange(height)
    columns = moves[:, 1, None] + torch.arange(width)
    moved = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    stay = torch.rand(count, generator=generator) < 0.5
    return torch.where(stay[:, None, None, None], images, moved.permute(0, 3, 1, 2))


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Training pairs, equal where their content is: the key under which a classifier is kept."""

    images: np.ndarray
    captions: list[str]
    digest: bytes

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pairs) and self.digest == other.digest


def classifier_of(images: np.ndarray, captions: list[str]) -> Classifier:
    """``train_classifier``, trained once a process for one set of pairs: all runs share one judge."""
    digest = hashlib.sha256(repr((images.shape, images.dtype.str, captions)).encode())
    digest.update(np.ascontiguousarray(images).tobytes())
    return _kept(_Pairs(images, captions, digest.digest()))


@lru_cache(maxsize=4)
def _kept(pairs: _Pairs) -> Classifier:
    return train_classifier(pairs.images, pairs.captions)
