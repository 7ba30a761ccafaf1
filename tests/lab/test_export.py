"""`transfuse export --language-model`: the recipe that starts from what it leaves has the run's own logits of text."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from transfuse import checkpoints
from transfuse.config.recipe import Recipe
from transfuse.model.build import build_modalities, build_model
from transfuse.registry.plugins import Plugins

from tests.tiny.language_models import logits


def test_the_command(cli: Callable, trained: Callable, installed: Plugins, tmp_path: Path) -> None:
    """The recipe that starts from the folder has the logits of the run."""
    run, out = trained(), tmp_path / "lm"
    done = cli("export", run, "--out", out, "--language-model")
    assert done.exit_code == 0, done.output
    assert f"model.pretrained={out}" in done.stdout
    recipe, model = checkpoints.load(run, installed)
    dump = recipe.dump()
    dump["model"] = {"pretrained": str(out), "block": dump["model"]["block"]}
    dump["modalities"]["text"] |= {"tokenizer": str(out / "tokenizer.json"), "vocab": None}
    restarted = Recipe.from_dump(dump, installed)
    modalities = build_modalities(restarted)
    modalities["text"].fit([], 0, lambda line: None)
    modalities["image"].restore(model.modalities["image"].facts())
    again = build_model(restarted, modalities, installed).eval()
    ids = torch.arange(200) % again.vocabulary.range("text").size
    n = again.vocabulary.range("text").size
    assert torch.equal(logits(again, ids), logits(model, ids)[:, :n])
    config = json.loads((out / "config.json").read_text())
    assert config["max_position_embeddings"] == recipe.train.budget
    twice = cli("export", run, "--out", out, "--language-model")
    assert twice.exit_code == 2
    assert "holds something already" in twice.output
