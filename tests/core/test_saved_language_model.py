"""The language-model half, saved: transformers opens it, and reading it gives the same logits to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transfuse import masks
from transfuse.errors import TransfuseError
from transfuse.model.model import Model
from transfuse_llama import saved

from tests.tiny.language_models import IDS_GIVEN, KINDS, language_model, logits, recipe_of, started
from tests.tiny.models import WORDS, Kit


def moved(model: Model) -> Model:
    """As after some training: no weight is what was read."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", ["llama", "per-modality"])
def test_it_is_opened_again_with_the_same_logits(kind: str, block: str, kit: Kit, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    language_model(kind, tmp_path / "first")
    model = moved(started(recipe_of(tmp_path / "first", block=block), kit))
    model.backbone.save_pretrained(model, tmp_path / "saved", 64)
    again = started(recipe_of(tmp_path / "saved", block=block), kit)
    assert torch.equal(logits(again, IDS_GIVEN), logits(model, IDS_GIVEN))
    assert model.modalities["text"].facts() == again.modalities["text"].facts()
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    assert type(theirs).__name__ == f"{KINDS[kind][0]}ForCausalLM"
    with torch.no_grad():
        wanted = theirs(IDS_GIVEN[None]).logits[0]
    ours = logits(model, IDS_GIVEN)
    assert (wanted[:, : ours.shape[1]] - ours).abs().max() < 1e-4
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in WORDS:
        assert tokenizer(text).input_ids == model.modalities["text"].encode(text).tolist()


def test_the_marks_of_a_document_begin_and_end_a_text(kit: Kit, tmp_path: Path) -> None:
    """Whoever generates with transformers begins as every document does that the model has read."""
    from transformers import AutoModelForCausalLM

    language_model("llama", tmp_path / "first")
    model = moved(started(recipe_of(tmp_path / "first"), kit))
    model.backbone.save_pretrained(model, tmp_path / "saved", 64)
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    weight, marks = theirs.get_input_embeddings().weight, model.vocabulary.range("document")
    for id, label in (
        (theirs.config.bos_token_id, "<document>"),
        (theirs.config.eos_token_id, "</document>"),
    ):
        assert torch.equal(weight[id], model.tokens.weight[model.vocabulary.marker(label)])
    assert len(weight) == model.vocabulary.range("text").size + marks.size


def test_many_weights_go_into_several_files(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "SHARD", 20_000)
    language_model("qwen3", tmp_path / "first")
    model = moved(started(recipe_of(tmp_path / "first"), kit))
    model.backbone.save_pretrained(model, tmp_path / "saved", 64)
    assert len(list((tmp_path / "saved").glob("model-*-of-*.safetensors"))) > 2
    assert torch.equal(
        logits(started(recipe_of(tmp_path / "saved"), kit), IDS_GIVEN), logits(model, IDS_GIVEN)
    )


@pytest.mark.parametrize(
    ("settings", "mask", "message"),
    [
        (
            {"post_norm": True},
            None,
            r"model\.post_norm=true: no config\.json of LlamaForCausalLM, .* can say so",
        ),
        ({"qk_norm": True, "qkv_bias": True}, None, r"model\.qk_norm=true with model\.qkv_bias=true: "),
        ({"rope": ("pos", "mod")}, None, r"model\.rope=\[pos, mod\]: .* one axis"),
        ({"block": "timed"}, None, r"these blocks are no language model"),
        ({}, "same(doc)", r"mask same\(doc\): text does not see just what came before it"),
    ],
)
def test_what_those_architectures_have_not_is_refused(
    settings: dict[str, Any], mask: str | None, message: str, kit: Kit, tmp_path: Path
) -> None:
    given = {} if mask is None else {"mask": masks.parse(mask)}
    model = kit.model(**given, **settings)
    with pytest.raises(TransfuseError, match=message):
        model.backbone.save_pretrained(model, tmp_path / "saved", 64)
    assert not (tmp_path / "saved").exists()


def test_without_text_there_is_none(kit: Kit, tmp_path: Path) -> None:
    model = kit.model("image")
    with pytest.raises(TransfuseError, match="no role of the recipe has a tokenizer"):
        model.backbone.save_pretrained(model, tmp_path / "saved", 64)
