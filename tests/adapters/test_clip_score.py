"""CLIP score over torchmetrics: equal to transformers' own embeddings, for pictures and texts of any length."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transfuse.errors import TransfuseError
from transfuse_adapters.clip_score import ClipScore, ClipScoreSettings
from transfuse_adapters.references import sha256_of

from tests.tiny.evaluations import WORDS, drawn, pictures

pytest.importorskip("torchmetrics", reason="torchmetrics is not installed: pip install 'transfuse[metrics]'")
SIDE, LONGEST = 16, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP of one token a letter, as transformers saves it."""
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**layers, "vocab_size": len(tokens), "max_position_embeddings": LONGEST, "bos_token_id": 0,
            "eos_token_id": 1, "pad_token_id": 1}  # fmt: skip
    vision = {**layers, "image_size": SIDE, "patch_size": 8}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    made = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(made)
    images = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    tokenizer = CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])
    CLIPProcessor(images, tokenizer).save_pretrained(made)
    return made


def score(folder: Path, **more: int) -> ClipScore:
    return ClipScore(ClipScoreSettings.model_validate({"weights": str(folder), **more}))


def cosines(folder: Path, images: list[np.ndarray], texts: tuple[str, ...]) -> np.ndarray:
    """Of each picture and its text, by transformers alone, one pair at a time."""
    from transformers import CLIPModel, CLIPProcessor

    model, processor = (kind.from_pretrained(folder) for kind in (CLIPModel, CLIPProcessor))
    found = []
    for image, text in zip(images, texts, strict=True):
        ids = processor.tokenizer(text)["input_ids"]
        ids = ids if len(ids) <= LONGEST else [*ids[: LONGEST - 1], ids[-1]]
        pixels = processor.image_processor([(image * 255).round().astype(np.uint8)], return_tensors="pt")
        with torch.no_grad():
            out = model(input_ids=torch.tensor([ids]), pixel_values=pixels["pixel_values"].float())
        found.append(float(out.image_embeds[0] @ out.text_embeds[0]))
    return np.array(found)


def test_it_is_the_mean_cosine_of_embeddings(folder: Path) -> None:
    """Some of the texts are longer than this CLIP takes: their end token, where it looks, is kept."""
    assert max(map(len, WORDS)) > LONGEST > min(map(len, WORDS))
    made, real = pictures(0), pictures(1, shape=(3, 9, 12))
    found = score(folder).compute(drawn(made, real))
    expected = {"clip_score": cosines(folder, made, WORDS), "clip_score_real": cosines(folder, real, WORDS)}
    assert min(each.mean() for each in expected.values()) > 0.01
    assert found == {name: pytest.approx(100 * each.mean(), abs=1e-3) for name, each in expected.items()}


def test_each_picture_has_its_own_text_whatever_the_batch(folder: Path) -> None:
    made = [*pictures(0, 3), *pictures(1, 3, (1, 10, 7))]
    one = drawn(made, made)
    found = score(folder).compute(one)
    assert score(folder, batch=2).compute(one) == pytest.approx(found, abs=1e-3)
    assert found["clip_score"] == found["clip_score_real"]
    turned = drawn([*made[1:], made[0]], made)
    assert abs(score(folder).compute(turned)["clip_score"] - found["clip_score"]) > 1e-3


def test_the_record_tells_which_weights(folder: Path) -> None:
    facts = score(folder).facts()
    assert facts["weights_sha256"] == sha256_of(folder)
    assert set(facts["versions"]) == {"torchmetrics", "transformers"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("config.json", "hold no config.json: name the folder of a CLIP that transformers saved"),
        ("model.safetensors", r"are no CLIP that loads: .*model\.safetensors"),
        ("tokenizer.json", "hold no tokenizer.json or vocab.json: save CLIP's processor there too"),
        ("processor_config.json", "are no CLIP that loads"),
    ],
)
def test_folders_that_are_no_clip(folder: Path, tmp_path: Path, damage: str, message: str) -> None:
    for file in folder.iterdir():
        if file.name != damage:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(TransfuseError, match=message) as error:
        score(tmp_path).compute(drawn(pictures(0), pictures(1)))
    assert "\n" not in str(error.value)


def test_weights_that_fill_half_a_clip(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(TransfuseError, match=r"are no whole CLIP: visual_projection\.weight is missing"):
        score(tmp_path).compute(drawn(pictures(0), pictures(1)))
