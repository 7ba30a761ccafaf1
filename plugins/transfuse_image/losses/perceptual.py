"""Distance between images in the features of a network that learnt, on the same images, to tell them apart.

The distance is that of LPIPS (arXiv 1801.03924, equation 1) without learnt weights. Its network there is
VGG, which no package brings; here it is trained in seconds and thrown away. Its task needs no captions:
of two views of each image of a batch (moved, turned, scaled, tinted), find which belong together (SimCLR,
arXiv 2002.05709). To name an image among look-alikes it must see what sets them apart, a mouth or an eye,
which weighs little in a squared error; and it must not mind by how much a view was moved.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from transfuse.plugin import Settings

TEMPERATURE = 0.1
MOVE, TURN, SCALE, TINT = 0.1, 0.2, 0.15, 0.2
"""How far views go: share of the image, radians, share of the size, share of the brightness a channel."""


class FeatureSettings(Settings):
    """The network of the perceptual term."""

    width: int = Field(default=16, ge=1, le=1024)
    """Of its first layer."""
    steps: int = Field(default=300, ge=0, le=10_000_000)
    """Of its training."""
    batch: int = Field(default=64, ge=2, le=65_536)
    """Images a step."""
    lr: float = Field(default=5e-3, gt=0, le=1)
    """Its learning rate."""


class Features(nn.Module):
    """Activations at the image's size, a half and a quarter of it."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        sizes = (channels, width, 2 * width, 4 * width)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1), nn.ReLU(),
                          nn.Conv2d(after, after, 3, padding=1), nn.ReLU())
            for before, after, stride in zip(sizes, sizes[1:], (1, 2, 2), strict=False)
        )  # fmt: skip
        self.name = nn.Linear(sizes[-1], sizes[-1])

    def forward(self, x: Float[Tensor, "B c h w"]) -> list[Float[Tensor, "B d i j"]]:
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def names(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d"]:
        """What a view says its image is: equal for views of one image, different for others."""
        return F.normalize(self.name(self(x)[-1].mean(dim=(2, 3))), dim=1)


def distance(
    features: Features, a: Float[Tensor, "B c h w"], b: Float[Tensor, "B c h w"]
) -> Float[Tensor, ""]:
    """Channels made unit vectors, squared differences averaged over places, summed over layers; mean over B."""
    total = a.new_zeros(())
    with torch.no_grad():
        found = features(b)
    for one, two in zip(features(a), found, strict=True):
        total = total + (_unit(one.float()) - _unit(two.float())).square().sum(dim=1).mean()
    return total


def _unit(x: Float[Tensor, "B d i j"]) -> Float[Tensor, "B d i j"]:
    # The ε inside the root: at a place where nothing is active the slope of a norm has no bound.
    return x * (x.square().sum(dim=1, keepdim=True) + 1e-6).rsqrt()


def views(x: Float[Tensor, "B c h w"], generator: torch.Generator) -> Float[Tensor, "B c h w"]:
    """Each image moved, turned, scaled and tinted by its own draw."""
    n, channels = x.shape[:2]
    move, turn, scale, tint = (
        (torch.rand(n, k, generator=generator) * 2 - 1) * most
        for k, most in ((2, 2 * MOVE), (1, TURN), (1, SCALE), (channels, TINT))
    )
    cos, sin = ((1 + scale) * part(turn) for part in (torch.cos, torch.sin))
    rows = torch.stack([torch.cat([cos, -sin, move[:, :1]], 1), torch.cat([sin, cos, move[:, 1:]], 1)], 1)
    rows, tint = rows.to(x.device), tint.to(x.device)
    places = F.affine_grid(rows, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, places, padding_mode="border", align_corners=False)
    return moved * (1 + tint)[:, :, None, None]


def recognition(
    features: Features, x: Float[Tensor, "B c h w"], generator: torch.Generator
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Of two views of each image, find which belong together: the loss, and the share that were found."""
    one, two = (features.names(views(x, generator)) for _ in range(2))
    alike = one.float() @ two.float().mT / TEMPERATURE
    same = torch.arange(len(x), device=x.device)
    loss = (F.cross_entropy(alike, same) + F.cross_entropy(alike.mT, same)) / 2
    return loss, (alike.argmax(dim=1) == same).float().mean()
