"""How an autoencoder is trained: batches drawn at random, one sum of named terms, one cosine of rates."""

from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transfuse.plugin import Key, Report

from transfuse_image.losses.patch_gan import Adversary, adversarial_loss, balance
from transfuse_image.losses.perceptual import Features, distance, train_features
from transfuse_image.losses.terms import PIXELS, Means

REPORTS = 5  # times that the terms are reported


class Trainable(Protocol):
    """An autoencoder as its training sees it."""

    settings: Any
    encoder: nn.Sequential
    decoder: nn.Sequential

    def bottleneck(self, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]: ...


def train_autoencoder(
    codec: Any, x: Float[Tensor, "N c h w"], key: Key, report: Report, steps: int
) -> dict[str, float]:
    """Train a `Trainable` module on images in [-1, 1]; each term's mean over the last steps reported.

    Equal keys give equal weights. The caller seeds torch's global state, from which layers are drawn.
    """
    if not steps:
        return {}
    s, weights = codec.settings, codec.settings.loss.model_dump()
    features = None
    if weights["perceptual"]:
        features = train_features(x, s.features, key, report, s.features.steps)
    adversary = Adversary(s.critic, (x.shape[1], x.shape[2], x.shape[3]), steps) if weights["gan"] else None
    optimizer = torch.optim.AdamW(codec.parameters(), lr=s.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, s.lr, total_steps=steps + 1, pct_start=0.1)
    generator, means, last = key.generator("codec batches"), Means(), {}
    codec.train()
    for step in range(steps):
        batch = x[torch.randint(len(x), (s.batch,), generator=generator)]
        latents, own = codec.bottleneck(codec.encoder(batch), generator)
        out = codec.decoder(latents)
        values = comparisons(out, batch, weights, features)
        compared = weighed(values, weights)
        loss = compared + weighed(own, weights) if own else compared
        values |= own
        if adversary is not None and step >= adversary.start:
            values["gan"] = adversarial_loss(adversary.critic(out))
            values["balance"] = balance(compared, values["gan"], last_weights(codec.decoder))
            loss = loss + weights["gan"] * values["balance"] * values["gan"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if adversary is not None and step >= adversary.start:
            values["critic"] = adversary.learn(batch, out)
        means.add({"loss": loss, **values})
        if (step + 1) % max(1, steps // REPORTS) == 0:
            last = means.take()
            report(f"autoencoder step {step + 1}/{steps}: {in_words(last)}")
    return last


def comparisons(
    out: Float[Tensor, "B c h w"],
    x: Float[Tensor, "B c h w"],
    weights: dict[str, float],
    features: Features | None,
) -> dict[str, Tensor]:
    """The terms, of those that weigh anything, that compare reconstructions with their images."""
    found = {name: compare(out, x) for name, compare in PIXELS.items() if weights[name]}
    if features is not None:
        found["perceptual"] = distance(features, out, x)
    return found


def weighed(values: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The sum of weight × value."""
    return torch.stack([weights[name] * value for name, value in values.items()]).sum()


def last_weights(decoder: nn.Sequential) -> Tensor:
    """Of the decoder's last layer, at which gradients are compared."""
    return [layer for layer in decoder if isinstance(layer, nn.Conv2d)][-1].weight


def in_words(values: dict[str, float]) -> str:
    """``loss 0.0812, l1 0.051, ...``"""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
