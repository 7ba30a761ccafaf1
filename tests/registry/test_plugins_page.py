"""docs/hooks has a page for every hook, with its exact signature and an example that works as it stands."""

import inspect
import re
import types
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transfuse import masks
from transfuse.attention import attend
from transfuse.config.recipe import ModelSettings
from transfuse.documents import Item
from transfuse.masks import NONE
from transfuse.metrics import Evaluation, Task
from transfuse.model.backbone import RowContext
from transfuse.registry import Registry, hooks
from transfuse.registry.files import packaged_file
from transfuse.registry.hooks import HOOKS, PARTS_HOOKS
from transfuse.registry.plugins import Plugins
from transfuse.testing import DATASET, DataSetCase
from transfuse.training.tracker import Measured
from transfuse_image.patchers.patcher import Patcher

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {path.stem: path.read_text() for path in DOCS.glob("hooks/*.md")}


def example(hook: str) -> types.ModuleType:
    """The plugin module on the hook's page: all its Python."""
    source = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGES[hook], flags=re.MULTILINE | re.DOTALL))
    module = types.ModuleType(f"page_{hook}")
    exec(compile(source, f"docs/hooks/{hook}.md", "exec"), module.__dict__)
    return module


def built(hook: str, **context: Any) -> Any:
    """The part that the example provides, built with its default settings."""
    own = Plugins.load(only=["text"])
    plugins = Plugins([*own.loaded, *Plugins.of({"page": example(hook)}).loaded])
    ((kind, name),) = next(found.parts for found in plugins.loaded if found.plugin.name == "page")
    assert PARTS_HOOKS[kind] == hook
    assert plugins.part(kind, name).summary
    return plugins.choose(kind, name).build(**context)


def test_every_hook_has_a_page_that_the_list_leads_to_and_there_is_no_other() -> None:
    assert sorted(PAGES) == sorted(HOOKS)
    assert all(text.startswith(f"# {hook}\n") for hook, text in PAGES.items())
    listed = re.findall(r"^\| \[(\w+)\]\(hooks/(\w+)\.md\)", (DOCS / "plugins.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted((hook, hook) for hook in HOOKS)


def test_every_hook_of_the_module_is_listed() -> None:
    specs = [name for name, function in vars(hooks).items() if hasattr(function, "transfuse_spec")]
    assert tuple(specs) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_the_signature_is_exact(hook: str) -> None:
    signature = str(inspect.signature(getattr(hooks, hook)))
    spelt = signature.replace("transfuse.config.parts.", "").replace("typing.", "")
    assert f"`{hook}{spelt}`" in PAGES[hook]
    assert "\n**Called:** " in PAGES[hook]


@pytest.mark.parametrize("hook", HOOKS)
def test_the_build_context_is_the_hooks_own(hook: str) -> None:
    calls = re.findall(r"build\(settings.*?\)(?= ->|`| )", str(getattr(hooks, hook).__doc__))
    for call in calls:
        assert f"`{call}`" in PAGES[hook]
    assert bool(calls) == (hook != "transfuse_registry")


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_is_a_plugin(hook: str) -> None:
    plugins = Plugins.of({"page": example(hook)})
    (row,) = plugins.listing()
    assert bool(row.provides) == (hook != "transfuse_registry")


def test_the_codec_goes_there_and_back() -> None:
    codec = built("transfuse_codecs")
    image = np.full((3, 8, 8), 0.25, np.float32)
    codec.fit([image], 0, print)
    assert codec.encode(image).shape == (codec.channels, *codec.grid(image.shape)) == (3, 4, 4)
    np.testing.assert_allclose(codec.decode(codec.encode(image)), image)


def test_the_patcher_goes_there_and_back() -> None:
    patcher = built("transfuse_patchers", shape=(3, 4, 5), dim=16)
    latents, t = torch.randn(2, 3, 4, 5), torch.zeros(2)
    vectors, state = patcher.down(latents, t)
    assert vectors.shape == (2, 4, 16)
    assert patcher.up(vectors, state, t).shape == latents.shape
    assert isinstance(patcher, Patcher)
    assert patcher.flops(4) == 2 * 4 * (15 * 16 + 15 * 16)


def test_the_objective_scores() -> None:
    loss = built("transfuse_objectives").score(torch.zeros(5, 7), torch.arange(5))
    assert loss.count == 5
    assert float(loss.sum) == pytest.approx(5 * np.log(7))


def test_the_sampler_samples() -> None:
    own = Plugins.load(only=["diffusion"])
    ddpm = own.choose("objective", "ddpm").build()
    noise = torch.randn(2, 1, 4, 4)
    sample = built("transfuse_samplers").sample(lambda x, t: torch.zeros_like(x), ddpm, noise, [], 1.0)
    assert sample.shape == noise.shape
    assert float(sample.abs().max()) <= 1


def test_the_modality_reads_and_writes() -> None:
    modality = built("transfuse_modalities", name="genes")
    assert modality.name == "genes"
    assert modality.decode(modality.encode("GATTACA")) == "GATTACA"
    with pytest.raises(ValueError, match="letters of ACGT"):
        modality.encode("GATTAXA")
    assert modality.objective(torch.zeros(7, 9), torch.arange(7)).count == 7


def test_the_block_sees_what_attention_shows_it_and_learns() -> None:
    model = ModelSettings(dim=16, layers=2, heads=2)
    backbone = built("transfuse_blocks", model=model, modalities=("text",), marker_modality="text")
    columns = {"doc": np.zeros(5, np.int64), "idx": np.arange(5)}
    row = RowContext(columns, torch.arange(5)[:, None], np.zeros(5, np.int64), torch.full((5,), NONE))
    x = torch.randn(5, 16)

    def run(x: torch.Tensor) -> torch.Tensor:
        here = partial(attend, mask=masks.parse("same(doc) & le(idx)"), columns=columns)
        return backbone(x, backbone.prepare(row), torch.zeros(0), [here] * model.layers)

    changed = run(torch.cat([x[:3], -x[3:]]))
    assert torch.equal(changed[:3], run(x)[:3])
    assert not torch.allclose(changed[3:], run(x)[3:])
    run(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for _, p in backbone.weights("text"))
    assert backbone.flops("text") == 2 * sum(p.numel() for p in backbone.parameters() if p.dim() == 2)


def test_the_backend_equals_the_oracle() -> None:
    backend = built("transfuse_attention_backends")
    columns = {"doc": [0, 0, 0, 1, 1, -1], "idx": [0, 1, 2, 3, 4, 5]}
    mask = masks.parse("same(doc) & le(idx)")
    q, k, v = torch.randn(3, 2, 6, 8)
    ours = attend(q, k, v, mask=mask, columns=columns, backend="plain", backends={"plain": backend})
    torch.testing.assert_close(ours, attend(q, k, v, mask=mask, columns=columns, backend="dense"))


def test_the_data_set_has_documents() -> None:
    data = built("transfuse_datasets")
    ids = {data.document(split, i).id for split in ("train", "heldout") for i in range(data.size(split))}
    assert len(ids) == 80
    assert set(data.raw("train", "text")) == {"across", "down"}
    case = DataSetCase(data, built("transfuse_datasets"))
    assert [o.text for o in DATASET.run(case) if o.status == "fails"] == []


def test_the_metric_measures() -> None:
    images = np.zeros((2, 1, 4, 4), np.float32)
    prompts = [(Item("text", word),) for word in ("a", "b")]
    evaluation = Evaluation(Task("image", ("text",)), prompts, list(images), list(images + 0.5))
    metric = built("transfuse_metrics")
    assert metric.compute(evaluation) == {metric.figures[0].name: 0.5}


def test_the_chance_of_a_metric_is_that_of_other_prompts() -> None:
    metric = example("transfuse_metrics").BrightAsAsked()
    prompts = [(Item("text", word),) for word in ("light one", "light two", "dark")]
    real = [np.full((1, 4, 4), value) for value in (0.9, 0.9, 0.1)]
    found = metric.compute(Evaluation(Task("image", ("text",)), prompts, real, real))
    assert found == {"bright_as_asked": 1, "bright_as_asked_chance": pytest.approx(1 / 3)}
    assert [figure.name for figure in metric.figures] == list(found)


def test_the_tracker_is_told(tmp_path: Path) -> None:
    tracker = built("transfuse_trackers", run=tmp_path)
    tracker.log(2, {"loss_text": Measured(1.5, "nats a token")})
    tracker.close()
    assert (tmp_path / "table.tsv").read_text() == "2\tloss_text\t1.5\tnats a token\n"


def test_the_registry_entries_resolve() -> None:
    own = Plugins.load(only=["text", "image", "diffusion", "vq"])
    plugins = Plugins([*own.loaded, *Plugins.of({"page": example("transfuse_registry")}).loaded])
    registry = Registry.load(plugins, [packaged_file()])
    assert registry.recipe("captions-only").mask == registry.mask("windowed")
