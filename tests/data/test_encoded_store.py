"""A store of encoded documents trains as the data set does, for whatever modality; and under no other codec."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transfuse import TransfuseError
from transfuse.checkpoints import save_codecs
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.documents import Encoded
from transfuse.modalities.modality import Modality
from transfuse.model.build import build_modalities, fit_modalities
from transfuse.sequences.layout import Layout
from transfuse.sequences.vocabulary import vocabulary_for
from transfuse_adapters.store.encoding import Encoder, Keeps, StoredItem, codec_hash
from transfuse_adapters.store.reader import Store
from transfuse_adapters.store.tools import faults
from transfuse_adapters.store.writer import pack
from transfuse_lab.datasets.digits import Digits
from transfuse_lab.runs.stored import Decoded, decoded, stored_codecs


def fit(recipe: Recipe, data: DataSet, seed: int = 0) -> dict[str, Modality]:
    return dict(fit_modalities(build_modalities(recipe), data, seed, lambda line: None))


AUTOENCODER = ("transfusion", ("image.codec=kl", "image.codec.steps=3", "image.codec.width=8"))
RECIPES = {
    "latents": ("transfusion", ()),
    "autoencoder": AUTOENCODER,
    "codes": ("chameleon", ("image.codec.steps=3", "image.codec.width=8")),
}


@pytest.mark.parametrize("kind", RECIPES)
def test_it_lays_out_bit_for_bit_as_the_data_do(
    kind: str, small_recipe: Callable[..., Recipe], shapes: Callable[..., DataSet], tmp_path: Path
) -> None:
    name, overrides = RECIPES[kind]
    recipe, data = small_recipe(name, *overrides, pixels=kind == "latents"), shapes(train=12, test=3)
    modalities = fit(recipe, data)
    pack(data, tmp_path / "a.zarr", Encoder(modalities), parts=2)
    assert list(faults(tmp_path / "a.zarr")) == []
    store, layout = Store(tmp_path / "a.zarr"), Layout(modalities, vocabulary_for(modalities))
    for index in range(12):
        one, two = data.document("train", index), store.document("train", index)
        assert all(isinstance(item.data, Encoded) for item in two.items)
        for a, b in zip(layout.payloads(one), layout.payloads(two), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert np.array_equal(a, b)
        wanted, found = layout.sequence(one), layout.sequence(two)
        assert np.array_equal(wanted.tokens, found.tokens)
    for index in range(3):  # what is judged by stays raw
        one, two = data.document("test", index), store.document("test", index)
        assert one.items[0] == two.items[0]
        assert np.array_equal(one.items[1].data, two.items[1].data)


def test_ids_are_kept_in_the_smallest_type_and_latents_with_their_spread(
    small_recipe: Callable[..., Recipe], shapes: Callable[..., DataSet], tmp_path: Path
) -> None:
    recipe, data = small_recipe(AUTOENCODER[0], *AUTOENCODER[1], pixels=False), shapes(train=6, test=2)
    modalities = fit(recipe, data)
    pack(data, tmp_path / "a.zarr", Encoder(modalities))
    stored = {
        one.name: one for one in Store(tmp_path / "a.zarr")._parts[0].part.stored if one.kind == "encoded"
    }
    assert (stored["text"].dtype, stored["text"].payload) == ("uint16", "int64")
    item = Store(tmp_path / "a.zarr").document("train", 0).items[1].data
    codec: Any = modalities["image"].codec  # type: ignore[attr-defined]
    assert isinstance(codec, Keeps)
    assert isinstance(item, StoredItem)
    raw = data.document("train", 0).items[1].data
    mean, log_variance = np.split(item.stored, 2)
    assert np.array_equal(mean, codec.encode(raw))
    with torch.no_grad():
        moments = codec._moments(raw)
    found, spread = moments.chunk(2, dim=1)
    std = codec.std[:, None, None]
    drawn = (found + (0.5 * spread).exp() - codec.mean[:, None, None]) / std  # one deviation from the mean
    assert np.allclose(mean + np.exp(0.5 * log_variance), drawn[0].numpy(), atol=1e-5)


def test_another_codec_is_refused_by_both_hashes(
    small_recipe: Callable[..., Recipe], shapes: Callable[..., DataSet], tmp_path: Path
) -> None:
    recipe, data = small_recipe(AUTOENCODER[0], *AUTOENCODER[1], pixels=False), shapes(train=6, test=2)
    modalities, others = fit(recipe, data), fit(recipe, data, seed=1)
    pack(data, tmp_path / "a.zarr", Encoder(modalities))
    here, there = codec_hash(others["image"]), codec_hash(modalities["image"])
    assert here != there
    assert codec_hash(others["text"]) == codec_hash(modalities["text"])
    layout = Layout(others, vocabulary_for(others))
    with pytest.raises(
        TransfuseError, match=rf"hash {there[:12]}, and this recipe's has {here[:12]}: leave --codecs out"
    ):
        layout.payloads(Store(tmp_path / "a.zarr").document("train", 0))
    tokenizer = dict(modalities)
    tokenizer["text"] = fit(small_recipe(), Digits())["text"]
    assert codec_hash(tokenizer["text"]) != codec_hash(modalities["text"])
    with pytest.raises(TransfuseError, match="role 'text' was encoded by a codec of hash"):
        Layout(tokenizer, vocabulary_for(tokenizer)).payload(
            Store(tmp_path / "a.zarr").document("train", 0), 0
        )


def test_a_codec_that_does_not_keep_its_payload_is_refused(
    small_recipe: Callable[..., Recipe], shapes: Callable[..., DataSet], tmp_path: Path, monkeypatch: Any
) -> None:
    recipe, data = small_recipe(AUTOENCODER[0], *AUTOENCODER[1], pixels=False), shapes(train=6, test=2)
    modalities = fit(recipe, data)
    codec: Any = modalities["image"].codec  # type: ignore[attr-defined]
    monkeypatch.setattr(type(codec), "kept", lambda self, stored: stored[: self.channels] * 2)
    with pytest.raises(
        TransfuseError, match=r"item 1 \(image\): kept\(keep\(raw\)\) of its codec is not encode"
    ):
        pack(data, tmp_path / "a.zarr", Encoder(modalities))


def test_raw_data_of_training_come_back_from_the_codec(
    small_recipe: Callable[..., Recipe], shapes: Callable[..., DataSet], tmp_path: Path
) -> None:
    recipe, data = small_recipe("transfusion", "image.codec=pixel"), shapes(train=6, test=2)
    modalities = fit(recipe, data)
    pack(data, tmp_path / "a.zarr", Encoder(modalities))
    (tmp_path / "a.zarr/codecs").mkdir()
    save_codecs(tmp_path / "a.zarr/codecs", modalities)
    store = Store(tmp_path / "a.zarr")
    assert stored_codecs(store) == tmp_path / "a.zarr/codecs"
    raw = decoded(store, modalities)
    assert isinstance(raw, Decoded)
    for split in raw.splits:
        for index in range(raw.size(split)):
            one, two = data.document(split, index), raw.document(split, index)
            assert one.items[0] == two.items[0]
            assert np.allclose(one.items[1].data, two.items[1].data, atol=1e-6)
    assert stored_codecs(data) is None
    assert decoded(data, modalities) is data


def test_a_run_on_it_is_trained_sampled_and_evaluated(tmp_path: Path, cli: Callable[..., Any]) -> None:
    """From the command line: packed with codecs of its own, trained, gone on with."""

    def works(*arguments: object) -> str:
        done = cli(*arguments)
        assert done.exit_code == 0, done.output
        return done.output

    tiny = ("--set", "model.dim=32", "--set", "model.layers=1", "--device", "cpu")
    codec = ("--set", "image.codec=pixel", "--set", "image.patcher.patch=4")
    store, run = tmp_path / "a.zarr", tmp_path / "run"
    works("data", "pack", "digits", "--recipe", "transfusion", *codec, "--out", store, "--parts", "2")
    assert "codec of image" in works("data", "info", store)
    assert "image: float32 (1, 8, 8)" in works(
        "data", "show", store, "--n", "2", "--out", tmp_path / "shown.svg"
    )
    assert "everything is as it was written" in works("data", "verify", store)
    for steps in (2, 4):
        works(
            "train",
            "transfusion",
            "--data",
            store,
            *codec,
            *tiny,
            "--set",
            f"train.steps={steps}",
            "--out",
            run,
        )
    assert (run / "metrics.jsonl").read_text().count("loss_image") == 4
    works("train", "transfusion", "--data", store, *codec, *tiny, "--dry-run")
    works("sample", run, "--prompt", "seven", "--out", tmp_path / "s.png", "--device", "cpu")
    assert "heldout_loss_image" in works("eval", run, "--prompts", "2", "--device", "cpu")
    done = cli(
        "train", "chameleon", "--data", store, *tiny, "--set", "train.steps=2", "--out", tmp_path / "other"
    )
    assert done.exit_code == 2
    assert "holds codecs fit otherwise" in done.output
    done = cli(
        "train-codec", "transfusion", "--data", store, *codec, "--out", tmp_path / "codecs", "--device", "cpu"
    )
    assert done.exit_code == 2
    assert "is encoded already, and here codecs would be fit to it: give the raw data" in done.output


def test_what_lies_there_keeps_its_codecs(tmp_path: Path, cli: Callable[..., Any]) -> None:
    codec = ("--recipe", "transfusion", "--set", "image.codec=pixel")
    store = tmp_path / "a.zarr"
    assert cli("data", "pack", "digits", "--out", store, "--parts", "2").exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    for more in ((), ("--codecs", tmp_path / "codecs")):
        cli("train-codec", *codec[1:], "--data", "digits", "--out", tmp_path / "codecs", "--device", "cpu")
        done = cli("data", "pack", "digits", *codec, *more, "--out", store, "--device", "cpu")
        assert done.exit_code == 2
        assert "another store is there" in done.output
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_parts_with_codecs_of_a_folder_or_a_run(tmp_path: Path, cli: Callable[..., Any]) -> None:
    """Two writers, one with codecs that were fit apart and one with those of a run on them, make one store."""

    def works(*arguments: object) -> str:
        done = cli(*arguments)
        assert done.exit_code == 0, done.output
        return done.output

    recipe = ("transfusion", "--set", "image.codec=pixel", "--set", "image.patcher.patch=4")
    tiny = ("--set", "model.dim=32", "--set", "model.layers=1", "--set", "train.steps=1", "--device", "cpu")
    codecs, run, store = tmp_path / "codecs", tmp_path / "run", tmp_path / "a.zarr"
    works("train-codec", *recipe, "--data", "digits", "--out", codecs, "--device", "cpu")
    works("train", *recipe, "--data", "digits", *tiny, "--codecs", codecs, "--out", run)
    part = ("data", "pack", "digits", "--recipe", *recipe, "--out", store, "--device", "cpu")
    assert "others are left" in works(*part, "--codecs", codecs, "--part", "1/2")
    works(*part, "--codecs", run, "--part", "2/2")
    assert "everything is as it was written" in works("data", "verify", store)
    works("train", *recipe, "--data", store, *tiny, "--out", tmp_path / "on-the-store")
    logs = [(folder / "metrics.jsonl").read_text() for folder in (run, tmp_path / "on-the-store")]
    assert logs[0] == logs[1]  # the same bits as from raw data
