"""A small plugin with parts of every kind, and distributions that look installed."""

import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field
from transfuse.config.parts import Chosen, Part, PartOf, Settings
from transfuse.registry import Registry
from transfuse.registry.hooks import PARTS_HOOKS, hookimpl
from transfuse.registry.plugins import Plugins

SMALL = Path(__file__).with_name("small.yaml")


class Plain(Settings):
    """No settings."""


class Codec(Settings):
    channels: int = Field(default=4, ge=1)


class Codes(Settings):
    codes: int = Field(default=256, ge=2)


class Patcher(Settings):
    patch: int = Field(default=1, ge=1)
    bias: bool = True


class Deep(Settings):
    depth: int = 2


class Diffusion(Settings):
    target: str = "eps"
    schedule: str = "cosine"


class Sampler(Settings):
    evaluations: int = 50


class Guidance(Settings):
    scale: float = 3.0


class Image(Settings):
    codec: Annotated[Chosen, PartOf("codec")] = Field(default="kl", validate_default=True)
    patcher: Annotated[Chosen, PartOf("patcher")] = Field(
        default={"name": "linear", "patch": 2, "bias": False}, validate_default=True
    )
    objective: Annotated[Chosen, PartOf("objective")] = Field(default="ddpm", validate_default=True)
    sampler: Annotated[Chosen | None, PartOf("sampler")] = None
    guidance: Guidance = Guidance()


class Text(Settings):
    vocab: int = Field(default=512, ge=2)
    objective: Annotated[Chosen, PartOf("objective")] = Field(default="next-token", validate_default=True)


class Vq(Settings):
    codec: Annotated[Chosen, PartOf("codec")] = Field(default="vq", validate_default=True)
    objective: Annotated[Chosen, PartOf("objective")] = Field(default="next-token", validate_default=True)


def built(settings: Settings, **context: Any) -> tuple[Settings, dict[str, Any]]:
    return settings, context


PARTS = (
    ("codec", Part("kl", Codec, built)),
    ("codec", Part("vq", Codes, built)),
    ("patcher", Part("linear", Patcher, built)),
    ("patcher", Part("unet", Deep, built)),
    ("objective", Part("ddpm", Diffusion, built)),
    ("objective", Part("next-token", Plain, built)),
    ("sampler", Part("ddim", Sampler, built)),
    ("modality", Part("image", Image, built)),
    ("modality", Part("text", Text, built)),
    ("modality", Part("vq", Vq, built)),
    ("attention", Part("fast", Plain, built)),
)


def module(
    *parts: tuple[str, Part], registry: Mapping[str, Any] | None = None, **functions: Any
) -> types.SimpleNamespace:
    """A plugin's module: hooks that provide the parts, and whatever else is given."""
    namespace = types.SimpleNamespace(**functions)
    for kind, hook in PARTS_HOOKS.items():
        provided = [part for of_kind, part in parts if of_kind == kind]
        if provided:
            setattr(namespace, hook, hookimpl(lambda provided=provided: provided))
    if registry is not None:
        namespace.transfuse_registry = hookimpl(lambda: registry)
    return namespace


@pytest.fixture
def plugins() -> Plugins:
    return Plugins.of({"small": module(*PARTS)})


@pytest.fixture
def small() -> Path:
    """The small registry's file."""
    return SMALL


@pytest.fixture
def registry(plugins: Plugins) -> Registry:
    """The small registry over the small plugin."""
    return Registry.load(plugins, [SMALL])


@pytest.fixture
def overlaid(plugins: Plugins, tmp_path: Path) -> Callable[[str], Registry]:
    """The small registry with a text merged over it as ``over.yaml``."""

    def load(text: str) -> Registry:
        path = tmp_path / "over.yaml"
        path.write_text(text)
        return Registry.load(plugins, [SMALL, path])

    return load


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``install("tf-video", "0.1", video="source of its plugin module")``: a distribution on the path."""
    before = set(sys.modules)

    def installed(distribution: str, version: str, **sources: str) -> None:
        root = tmp_path / distribution
        facts = root / f"{distribution.replace('-', '_')}-{version}.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = ["[transfuse.plugins]"]
        for name, source in sources.items():
            own = f"{distribution.replace('-', '_')}_{name}_{abs(hash(root)) % 10**8}"
            (root / f"{own}.py").write_text(source)
            lines.append(f"{name} = {own}")
        (facts / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(root)

    yield installed
    for name in set(sys.modules) - before:
        if name.startswith(("tf_", "other_")):
            del sys.modules[name]


HEALTHY = """
from transfuse.registry.hooks import hookimpl
from transfuse.config.parts import Part, Settings

class Plain(Settings):
    pass

@hookimpl
def transfuse_codecs():
    return [Part("NAME", Plain, lambda settings: "built")]
"""


@pytest.fixture
def healthy() -> Callable[[str], str]:
    """The source of a plugin module that provides one codec of a name."""
    return lambda name: HEALTHY.replace("NAME", name)


@pytest.fixture
def make_module() -> Callable[..., types.SimpleNamespace]:
    return module


@pytest.fixture
def part() -> Callable[[str, str], tuple[str, Part]]:
    """A part without settings, with its kind."""
    return lambda kind, name: (kind, Part(name, Plain, built))
