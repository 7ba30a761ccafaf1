"""How an autoencoder is trained: batches drawn at random, one sum of named terms, one cycle of rates.

All that is drawn is keyed by the step, so that a state, which `AutoencoderTraining.state` gives after any of them,
goes on bit for bit.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transfuse.plugin import FitContext, Key, Report, TransfuseError, optimizer_tensors, restore_optimizer

from transfuse_image.losses.patch_gan import Critic, adversarial_loss, balance, critic_loss
from transfuse_image.losses.perceptual import Features, distance, recognition
from transfuse_image.losses.terms import PIXELS, Means

REPORTS = 5  # times that the terms are reported
WARM_UP = 0.1  # share of the steps
LEAST = 1 / 25, 1 / 250_000  # factors on the rate at the beginning and the end
MOMENTUM = 0.95, 0.85  # AdamW's first β, where the rate is lowest and where it is highest


class Trainable(Protocol):
    """An autoencoder as its training sees it."""

    settings: Any
    encoder: nn.Sequential
    decoder: nn.Sequential

    def bottleneck(self, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]: ...


class AutoencoderTraining:
    """The training of a `Trainable` module, and of the networks behind its loss, step by step.

    codec: with its layers made; it moves to the device. images: in [0, 1], on the CPU. steps: of the autoencoder,
    before which come those of the features. Equal keys give equal weights. The caller seeds torch's global state,
    from which layers are drawn.

    step: how many of ``steps``, the features' included, are done. terms: each one's mean over the last steps
    reported.
    """

    def __init__(
        self, codec: Any, images: Float[Tensor, "N c h w"], key: Key, steps: int, device: torch.device
    ) -> None:
        s = self.settings = codec.settings
        self.codec, self.images, self.key, self.device = codec, images, key, device
        self.weights: dict[str, float] = s.loss.model_dump()
        channels, height, width = images.shape[1:]
        self.parts = nn.ModuleDict({"codec": codec})
        self.features = Features(channels, s.features.width) if steps and self.weights["perceptual"] else None
        if self.features is not None:
            self.parts["features"] = self.features
        if steps and self.weights["gan"]:
            self.parts["critic"] = Critic(channels, s.critic.width, min(height, width))
        # On a CPU channels last are faster for convolutions in float32, and slower for norms in bfloat16.
        plain = device.type == "cpu" and s.dtype != "float32"
        self.layout = torch.contiguous_format if plain else torch.channels_last
        self.parts.to(device).to(memory_format=self.layout)  # type: ignore[reportCallIssue]
        self.optimizers = {name: self._optimizer(name) for name in self.parts}
        self.of_features = s.features.steps if self.features is not None else 0
        self.steps, self.step = self.of_features + steps, 0
        self.joins = round(s.critic.start * steps) if "critic" in self.parts else steps
        self.means, self.terms = Means(), dict[str, float]()

    def _optimizer(self, part: str) -> torch.optim.AdamW:
        chosen: dict[str, Any] = {
            "codec": {"lr": self.settings.lr, "weight_decay": 0.0},
            "features": {"lr": self.settings.features.lr},
            "critic": {"lr": self.settings.critic.lr, "betas": (0.5, 0.9)},
        }[part]
        fused = self.device.type in ("cpu", "cuda")
        return torch.optim.AdamW(self.parts[part].parameters(), fused=fused, **chosen)

    # -- its state

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Where it is. Raises TransfuseError where it diverged, from which nothing could go on."""
        tensors = {f"weights/{name}": value for name, value in self.parts.state_dict().items()}
        for part, optimizer in self.optimizers.items():
            found = optimizer_tensors(self.parts[part], optimizer)
            tensors |= {f"optimizer/{part}/{name}": value for name, value in found.items()}
        for name, value in tensors.items():
            if value.is_floating_point() and not value.isfinite().all():
                raise TransfuseError(
                    f"the autoencoder's training diverged before step {self.step} ({name} is not finite): lower "
                    f"codec.lr, or another of the learning rates beneath codec"
                )
        return tensors, {"step": self.step, "means": self.means.dump(), "terms": self.terms}

    def resume(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """The inverse."""
        beneath: Callable[[str], dict[str, Tensor]] = lambda prefix: {  # noqa: E731
            name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
        }
        self.parts.load_state_dict(beneath("weights/"))
        for part, optimizer in self.optimizers.items():
            restore_optimizer(self.parts[part], optimizer, beneath(f"optimizer/{part}/"))
        self.step, self.terms = facts["step"], facts["terms"]
        self.means.restore(facts["means"])

    # -- its steps

    def run(self, report: Report, context: FitContext) -> None:
        """All steps that are left, the state after each offered to the context. Leaves the global state of torch's
        generators, which parts drawn from libraries take their draws from, as it was."""
        if not self.steps:
            return
        if found := context.resume():
            self.resume(*found)
        self.codec.train()
        with torch.random.fork_rng(devices=[]):
            while self.step < self.steps:
                torch.default_generator.manual_seed(self.key.number("codec step", self.step))
                if self.step < self.of_features:
                    self._learn_features(report)
                else:
                    self._learn_codec(report)
                context.after_step(self.step, self.steps, self.state)

    def _learn_features(self, report: Report) -> None:
        features, optimizer, s = self.features, self.optimizers["features"], self.settings.features
        assert features is not None
        generator = self.key.generator("codec features", self.step)
        batch = min(s.batch, len(self.images))
        # No image twice: it is its own class.
        chosen = self._batch(torch.randperm(len(self.images), generator=generator)[:batch])
        with self._mixed():
            loss, right = recognition(features, chosen, generator)
        _set_rate(optimizer, s.lr * (1 - self.step / self.of_features))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.step += 1
        if self.step == self.of_features:
            report(
                f"perceptual features: {float(right):.0%} of the last batch of {batch} recognised in another view"
            )

    def _learn_codec(self, report: Report) -> None:
        codec, optimizer, s = self.codec, self.optimizers["codec"], self.settings
        done, steps = self.step - self.of_features, self.steps - self.of_features
        generator = self.key.generator("codec batches", done)
        batch = self._batch(torch.randint(len(self.images), (s.batch,), generator=generator))
        with self._mixed():
            moments = codec.encoder(batch)
        with _drawn_on_cpu(self.device):
            latents, own = codec.bottleneck(moments.float(), generator)
        with self._mixed():
            out = codec.decoder(latents)
        out = out.float()
        with self._mixed():
            values = comparisons(out, batch, self.weights, self.features)
        compared = weighed(values, self.weights)
        rest = weighed(own, self.weights) if own else None
        values = {"loss": compared if rest is None else compared + rest, **values, **own}
        (slope,) = torch.autograd.grad(compared, out)
        if done >= self.joins:
            slope = slope + self._heed_critic(batch, out, slope, values)
        rate, momentum = one_cycle(done / steps)
        _set_rate(optimizer, s.lr * rate, momentum)
        optimizer.zero_grad()
        torch.autograd.backward(
            [out] if rest is None else [out, rest], [slope] if rest is None else [slope, None]
        )
        optimizer.step()
        self.means.add(values)
        self.step += 1
        if (done + 1) % max(1, steps // REPORTS) == 0:
            self.terms = self.means.take()
            report(f"autoencoder step {done + 1}/{steps}: {in_words(self.terms)}")

    def _heed_critic(
        self, batch: Tensor, out: Tensor, slope: Tensor, values: dict[str, Tensor]
    ) -> Float[Tensor, "B c h w"]:
        """The slope of the adversarial term at the reconstructions, weighed; and the critic learns from the same
        verdicts. slope: that of the other comparisons. Adds to the values."""
        critic, optimizer = self.parts["critic"], self.optimizers["critic"]
        with self._mixed():
            made, real = critic(out).float(), critic(batch).float()
        term = adversarial_loss(made)
        (own,) = torch.autograd.grad(term, out, retain_graph=True)
        weight = balance(out, slope, own, last_weights(self.codec.decoder))
        loss = critic_loss(real, made)
        optimizer.zero_grad()
        for parameter, grad in zip(
            critic.parameters(), torch.autograd.grad(loss, [*critic.parameters()]), strict=True
        ):
            parameter.grad = grad
        optimizer.step()
        share = self.weights["gan"] * weight
        values |= {"gan": term, "balance": weight, "critic": loss}
        values["loss"] = values["loss"] + share * term
        return share * own

    def _batch(self, chosen: Tensor) -> Float[Tensor, "B c h w"]:
        """Images in [-1, 1] on the device."""
        batch = self.images[chosen].contiguous(memory_format=self.layout) * 2 - 1
        return batch.to(self.device, non_blocking=True)

    def _mixed(self) -> AbstractContextManager[Any]:
        """Convolutions in the settings' dtype; weights and losses stay in float32."""
        if self.settings.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


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


def one_cycle(share: float) -> tuple[float, float]:
    """The factor on the learning rate, and AdamW's first β, after a share of the steps (arXiv 1708.07120).

    Half a cosine up, and one down; β goes the other way.
    """
    slow, fast = MOMENTUM
    if share < WARM_UP:
        along, (start, end), (first, last) = share / WARM_UP, (LEAST[0], 1.0), (slow, fast)
    else:
        along, (start, end), (first, last) = (share - WARM_UP) / (1 - WARM_UP), (1.0, LEAST[1]), (fast, slow)
    left = 0.5 * (1 + math.cos(math.pi * along))
    return end + (start - end) * left, last + (first - last) * left


def _set_rate(optimizer: torch.optim.AdamW, rate: float, momentum: float | None = None) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
        if momentum is not None:
            group["betas"] = (momentum, group["betas"][1])


class _OnCPU(TorchFunctionMode):
    """What a library draws on a device from the global state is drawn on the CPU, and moved there."""

    DRAWS = (torch.rand, torch.randn, torch.randint, torch.randperm)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func not in self.DRAWS or "device" not in kwargs:
            return func(*args, **kwargs)
        device = kwargs.pop("device")
        return func(*args, **kwargs).to(device)


def _drawn_on_cpu(device: torch.device) -> AbstractContextManager[Any]:
    return nullcontext() if device.type == "cpu" else _OnCPU()
