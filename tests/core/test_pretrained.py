"""Pretrained language models: transformers' own logits are the oracle, and no damaged folder gets through."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transfuse import checkpoints
from transfuse.config.merge import SETTLES
from transfuse.config.recipe import Recipe
from transfuse.errors import TransfuseError
from transfuse.model.build import build_modalities
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.training.saving import write_checkpoint

from tests.tiny.language_models import (
    IDS,
    IDS_GIVEN,
    KINDS,
    language_model,
    logits,
    recipe_of,
    started,
    tokenizer,
)
from tests.tiny.models import WORDS, Kit, plugins


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", ["llama", "per-modality", "timed"])
def test_logits_are_transformers_own(kind: str, block: str, kit: Kit, tmp_path: Path) -> None:
    theirs = language_model(kind, tmp_path)
    ours = started(recipe_of(tmp_path, block=block), kit)
    with torch.no_grad():
        wanted = theirs(IDS_GIVEN[None]).logits[0, :, :IDS]
    assert wanted.std() > 0.05
    assert (logits(ours, IDS_GIVEN) - wanted).abs().max() < 1e-5


def test_shards_and_half_precision(kit: Kit, tmp_path: Path) -> None:
    theirs = language_model("qwen2", tmp_path / "whole")
    theirs.to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer(tmp_path / "tokenizer.json")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ours = started(recipe_of(tmp_path), kit)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    with torch.no_grad():
        again = type(theirs).from_pretrained(tmp_path, dtype=torch.float32).eval()
        wanted = again(IDS_GIVEN[None]).logits[0, :, :IDS]
    assert (logits(ours, IDS_GIVEN) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("start", ["copied", "fresh"])
def test_the_image_side_starts_copied_or_fresh(start: str, kit: Kit, tmp_path: Path) -> None:
    language_model("llama", tmp_path)
    backbone = started(recipe_of(tmp_path, block={"name": "per-modality", "start": start}), kit).backbone
    text, image = dict(backbone.weights("text")), dict(backbone.weights("image"))
    assert text.keys() == image.keys()
    same = {name for name in text if torch.equal(text[name], image[name])}
    assert same == (set(text) if start == "copied" else set())


def test_markers_and_other_ids_are_fresh_and_the_rest_is_the_folders(kit: Kit, tmp_path: Path) -> None:
    theirs = language_model("llama", tmp_path)
    ours = started(recipe_of(tmp_path), kit)
    r = ours.vocabulary.range("text")
    assert r.size == IDS
    assert torch.equal(ours.tokens.weight[r.start : r.stop], theirs.model.embed_tokens.weight[:IDS])
    plain = ours.tokens.weight.new_ones(len(ours.tokens.weight), dtype=torch.bool)
    plain[r.start : r.stop] = False
    drawn = Model(
        ours.settings, build_and_restore(recipe_of(tmp_path), kit), ours.vocabulary, ours.mask
    ).tokens.weight
    assert torch.equal(ours.tokens.weight[plain], drawn[plain])


def build_and_restore(recipe: Recipe, kit: Kit) -> dict:
    modalities = build_modalities(recipe)
    modalities["text"].fit([], 0, lambda line: None)
    modalities["image"].restore(kit.modality("image").facts())
    return modalities


def test_a_run_is_opened_again_without_the_folder(kit: Kit, tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    language_model("llama-3.2", folder)
    recipe = recipe_of(folder, block={"name": "per-modality", "start": "copied"})
    model = started(recipe, kit)
    run = checkpoints.RunFolder(tmp_path)
    run.write_description(recipe, model)
    write_checkpoint(run, 0, model)
    stored = load_file(tmp_path / "checkpoints/0/model.safetensors")
    assert "unembed.weight" not in stored  # tied: stored once
    folder.rename(tmp_path / "gone")
    again, loaded = checkpoints.load(tmp_path, plugins())
    assert again == recipe
    assert loaded.unembed.weight is loaded.tokens.weight
    assert torch.equal(logits(loaded, IDS_GIVEN), logits(model, IDS_GIVEN))


# -- what the recipe says of the model


def test_the_folder_decides_what_a_recipe_below_said_and_contradicts_what_is_said_beside_it(
    tmp_path: Path,
) -> None:
    language_model("qwen3", tmp_path)
    registry = Registry.open()
    ours = registry.recipe("chameleon", [f"model.pretrained={tmp_path}"]).model
    assert (ours.dim, ours.layers, ours.heads, ours.kv_heads, ours.head_width) == (32, 2, 4, 2, 12)
    assert (ours.hidden, ours.qk_norm, ours.qkv_bias, ours.norm_eps) == (48, True, False, 1e-6)
    for order in (1, -1):
        sets = [f"model.pretrained={tmp_path}", "model.dim=64"][::order]
        with pytest.raises(
            TransfuseError, match=r"--set model\.dim: is 64, and the folder .* says 32: leave"
        ):
            registry.recipe("transfusion", sets)
    agreeing = registry.recipe("transfusion", ["model.dim=32", f"model.pretrained={tmp_path}"])
    assert agreeing.model.dim == 32
    assert set(agreeing.dump()["model"]) >= SETTLES["pretrained"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["MistralForCausalLM"]}, "architectures = 'MistralForCausalLM' does not load"),
        ({"architectures": None}, "architectures = None does not load: LlamaForCausalLM"),
        ({"attention_bias": True}, "attention_bias = true does not load: the backbone has a bias"),
        ({"mlp_bias": True}, "mlp_bias = true does not load"),
        ({"use_sliding_window": True}, "use_sliding_window = true does not load: .* is the recipe's mask"),
        ({"layer_types": ["sliding_attention"]}, "use_sliding_window = true does not load"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' does not load: the backbone's is silu"),
        ({"quantization_config": {"bits": 4}}, "quantization_config = 'given' does not load"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_scaling = 'yarn' does not load"),
        (
            {"rope_parameters": None, "rope_scaling": {"type": "linear"}},
            "rope_scaling = 'linear' does not load",
        ),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor = 0.5 does not load"),
        ({"hidden_size": "wide"}, r"model\.dim: should be an integer"),
        ({"num_hidden_layers": 10**9}, r"model\.layers: "),
    ],
)
def test_what_the_backbone_does_not_do_is_refused_by_key(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    language_model("llama", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(TransfuseError, match=message):
        recipe_of(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "3", "[" * 100_000])
def test_a_damaged_or_missing_config_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match=r"config\.json is missing: .* holds no language model"):
        recipe_of(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(TransfuseError, match=r"model\.pretrained: .*config\.json"):
        recipe_of(tmp_path)


def test_old_configs_of_transformers_4_say_the_same(tmp_path: Path) -> None:
    language_model("llama-3.2", tmp_path)
    new = recipe_of(tmp_path).model
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    path.write_text(json.dumps({**config, "rope_scaling": rope}))
    assert recipe_of(tmp_path).model == new
    assert new.rope_theta == 500
    assert new.rope_scaling is not None


# -- damaged weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.norm.weight"), "the weights 'model.norm.weight' are missing"),
        (lambda w: w.update(more=torch.zeros(2)), "the weights 'more' have no place in the backbone"),
        (
            lambda w: w.update({"model.layers.1.mlp.up_proj.weight": torch.zeros(47, 32)}),
            r"mlp\.up_proj\.weight are \(48, 32\) \+ \(47, 32\), and config\.json asks for \(96, 32\)",
        ),
        (
            lambda w: w.update({"model.embed_tokens.weight": torch.zeros(IDS - 1, 32)}),
            r"embed_tokens\.weight are \(299, 32\), and the recipe's vocabulary asks for \(300, 32\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(change: Any, message: str, kit: Kit, tmp_path: Path) -> None:
    language_model("llama", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(TransfuseError, match=message):
        started(recipe_of(tmp_path), kit)


@pytest.mark.parametrize("name", ["../out.safetensors", "/etc/passwd", "pytorch_model.bin", 3])
def test_an_index_that_points_elsewhere_is_refused(name: Any, kit: Kit, tmp_path: Path) -> None:
    language_model("llama", tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(TransfuseError, match=r"only \.safetensors beside it are read"):
        started(recipe_of(tmp_path), kit)


def test_files_that_are_damaged_or_missing_are_named(kit: Kit, tmp_path: Path) -> None:
    language_model("llama", tmp_path)
    recipe = recipe_of(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(TransfuseError, match=r"model\.safetensors cannot be read as safetensors"):
        started(recipe, kit)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(TransfuseError, match=r"holds neither model\.safetensors nor its index"):
        started(recipe, kit)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(TransfuseError, match=r"index\.json is damaged"):
        started(recipe, kit)


# -- the folder's tokenizer


def text_of(folder: Path, **settings: Any) -> Any:
    section = {"kind": "text", "tokenizer": str(folder / "tokenizer.json"), **settings}
    made = plugins().choose("modality", section, "text").build(name="text")
    made.fit([], 0, lambda line: None)
    return made


@pytest.mark.parametrize("text", [*WORDS, "<|3|>", " two  spaces\n", "çöé 漢字 🐈", "\x00"])
def test_its_ids_are_the_texts_ids_and_spell_it_again(text: str, tmp_path: Path) -> None:
    theirs = tokenizer(tmp_path / "tokenizer.json")
    theirs.enable_truncation(3)
    theirs.enable_padding(length=8)
    theirs.save(str(tmp_path / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    ours = text_of(tmp_path, vocab=IDS)
    assert ours.codes == IDS
    assert ours.encode(text).tolist() == theirs.encode(text).ids
    assert ours.decode(ours.encode(text)) == text
    assert len(ours.encode("<|3|>")) == 1
    again = plugins().choose("modality", {"kind": "text", "tokenizer": "gone"}, "text").build(name="text")
    again.restore(ours.facts())
    assert (again.encode(text) == ours.encode(text)).all()
    assert again.codes == IDS


def test_a_tokenizer_that_is_missing_damaged_or_of_another_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match=r"tokenizer\.json is not there .*: name a tokenizer\.json"):
        text_of(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TransfuseError, match=r"'text': tokenizer .*is no tokenizer\.json: "):
        text_of(tmp_path)
    tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(TransfuseError, match=r"has ids up to 299, and vocab is 512"):
        text_of(tmp_path, vocab=512)
