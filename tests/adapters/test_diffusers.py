"""diffusers' autoencoders as codecs: equal to diffusers' own, normalised, restored without their folder."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transfuse.errors import RawError, TransfuseError
from transfuse.registry.plugins import Plugins

KL = {"in_channels": 3, "out_channels": 3, "down_block_types": ("DownEncoderBlock2D",) * 2,
      "up_block_types": ("UpDecoderBlock2D",) * 2, "block_out_channels": (8, 8), "latent_channels": 4,
      "norm_num_groups": 4, "layers_per_block": 1}  # fmt: skip
VQ = {**KL, "latent_channels": 3, "num_vq_embeddings": 32, "vq_embed_dim": 5}
IMAGES = [np.random.default_rng(i).uniform(0, 1, (3, 8, 12)).astype(np.float32) for i in range(20)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny random models as diffusers saves them."""
    from diffusers import AutoencoderKL, VQModel

    made = {}
    torch.manual_seed(0)
    for name, model in {"kl": AutoencoderKL(**KL), "vq": VQModel(**VQ)}.items():
        made[name] = tmp_path_factory.mktemp(name)
        if name == "vq":
            torch.nn.init.normal_(model.quantize.embedding.weight)  # spread, so that images use several codes
        model.save_pretrained(made[name])
    return made


@pytest.fixture(scope="module")
def build(installed_all: Plugins) -> Callable:
    def built(path: object, **more: object):
        section = {"name": "diffusers", "path": str(path), **more}
        return installed_all.choose("codec", section, "image.codec").build()

    return built


@pytest.fixture(scope="module")
def installed_all() -> Plugins:
    return Plugins.load(only=("text", "image", "diffusion", "vq", "adapters"))


@pytest.fixture(scope="module")
def fitted(build: Callable, folders: dict[str, Path]) -> dict:
    codecs = {name: build(path) for name, path in folders.items()}
    for codec in codecs.values():
        codec.fit(IMAGES, 0, lambda line: None)
    return codecs


def test_an_index_that_names_other_files_is_refused(
    build: Callable, folders: dict[str, Path], tmp_path: Path
) -> None:
    """diffusers would load those, and their hash is nowhere."""
    folder = tmp_path / "kl"
    shutil.copytree(folders["kl"], folder)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": {}}))
    with pytest.raises(
        TransfuseError, match=r"index\.json names other files of weights: save the model in one file"
    ):
        build(folder).fit(IMAGES, 0, lambda line: None)


def test_latents_and_images_are_those_of_diffusers(fitted: dict, folders: dict[str, Path]) -> None:
    from diffusers import AutoencoderKL

    codec, model = fitted["kl"], AutoencoderKL.from_pretrained(folders["kl"], low_cpu_mem_usage=False).eval()
    with torch.no_grad():
        every = model.encode(torch.from_numpy(np.stack(IMAGES)) * 2 - 1).latent_dist.mean
        mean, std = every.mean(dim=(0, 2, 3)), every.std(dim=(0, 2, 3), correction=0)
        for image, own in zip(IMAGES[:4], every, strict=False):
            latents = codec.encode(image)
            expected = (own - mean[:, None, None]) / std[:, None, None]
            np.testing.assert_allclose(latents, expected.numpy(), atol=1e-5)
            back = (model.decode(own[None]).sample[0] + 1) / 2
            np.testing.assert_allclose(codec.decode(latents), back.clamp(0, 1).numpy(), atol=1e-5)
    assert (codec.codes, codec.channels, codec.grid((3, 8, 12)), latents.shape) == (0, 4, (4, 6), (4, 4, 6))
    assert latents.dtype == codec.decode(latents).dtype == np.float32


def test_latents_are_normalised_and_within_their_bound(fitted: dict) -> None:
    latents = np.stack([fitted["kl"].encode(image) for image in IMAGES])
    np.testing.assert_allclose(latents.mean(axis=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(latents.std(axis=(0, 2, 3)), 1, atol=1e-3)
    assert np.quantile(np.abs(latents), 0.999) == pytest.approx(fitted["kl"].bound, rel=1e-3)


def test_codes_and_images_are_those_of_diffusers(fitted: dict, folders: dict[str, Path]) -> None:
    from diffusers import VQModel

    codec, model = fitted["vq"], VQModel.from_pretrained(folders["vq"], low_cpu_mem_usage=False).eval()
    seen = set()
    with torch.no_grad():
        for image in IMAGES[:4]:
            x = torch.from_numpy(image)[None] * 2 - 1
            h = model.encode(x).latents
            indices = model.quantize(h)[2][2].reshape(4, 6).numpy()
            codes = codec.encode(image)
            np.testing.assert_array_equal(codes, indices)
            expected = ((model.decode(h).sample[0] + 1) / 2).clamp(0, 1)
            np.testing.assert_allclose(codec.decode(codes), expected.numpy(), atol=1e-5)
            seen |= set(codes.flatten().tolist())
    assert len(seen) > 2
    assert (codec.codes, codes.dtype) == (32, np.int64)


@pytest.mark.parametrize("name", ["kl", "vq"])
def test_it_is_rebuilt_without_its_folder(
    installed_all: Plugins, folders: dict[str, Path], fitted: dict, name: str, tmp_path: Path
) -> None:
    """What a run keeps is enough: the recipe's section, facts and weights."""
    chosen = installed_all.choose("codec", {"name": "diffusers", "path": str(folders[name])}, "codec")
    section = json.loads(json.dumps(chosen.dump())) | {"path": str(tmp_path / "gone")}
    again = installed_all.choose("codec", section, "codec").build()
    again.restore(json.loads(json.dumps(fitted[name].facts())))
    again.load_state_dict(fitted[name].state_dict())
    payload = fitted[name].encode(IMAGES[0])
    np.testing.assert_array_equal(again.encode(IMAGES[0]), payload)
    np.testing.assert_array_equal(again.decode(payload), fitted[name].decode(payload))
    assert again.facts() == fitted[name].facts()
    assert not any(p.requires_grad for p in again.parameters())
    again.train()
    assert not any(module.training for module in again.modules())


@pytest.mark.parametrize(("kind", "name"), [("image", "kl"), ("vq", "vq")])
def test_modalities_take_it(installed_all: Plugins, folders: dict[str, Path], kind: str, name: str) -> None:
    section = {"kind": kind, "codec": {"name": "diffusers", "path": str(folders[name])}}
    modality = installed_all.choose("modality", section, "image").build(name="image")
    modality.fit(IMAGES, 0, lambda line: None)
    assert modality.sizes == [(4, 6)]
    assert modality.decode(modality.encode(IMAGES[0])).shape == (3, 8, 12)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"config\.json is missing: .* holds no model that diffusers"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json is damaged .*: save the model again"),
        (lambda f: (f / "config.json").write_text("[]"), "should hold a mapping"),
        (lambda f: (f / "config.json").write_text('{"_class_name": "UNet"}'), "'UNet'; this codec takes AutoencoderKL"),
        (lambda f: (f / "diffusion_pytorch_model.safetensors").rename(f / "diffusion_pytorch_model.bin"),
         r"safetensors is missing: only safetensors are read, never pickles"),
    ],
)  # fmt: skip
def test_folders_that_are_none(
    build: Callable, folders: dict[str, Path], tmp_path: Path, damage: Callable, message: str
) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(folders["kl"], folder)
    damage(folder)
    with pytest.raises(TransfuseError, match=message):
        build(folder)


def test_weights_that_are_damaged_or_of_another_model(
    build: Callable, folders: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(folders["kl"], folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    codec = build(folder)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(TransfuseError, match="changed since the recipe was read"):
        codec.fit(IMAGES, 0, lambda line: None)
    with pytest.raises(TransfuseError, match="does not load"):
        build(folder).fit(IMAGES, 0, lambda line: None)
    shutil.copy(folders["vq"] / weights.name, weights)
    with pytest.raises(TransfuseError, match=r"do not match its config\.json|does not load"):
        build(folder).fit(IMAGES, 0, lambda line: None)


def test_images_that_do_not_fit(build: Callable, folders: dict[str, Path]) -> None:
    grey, odd = np.zeros((1, 8, 8), np.float32), np.zeros((3, 9, 8), np.float32)
    with pytest.raises(
        RawError, match=r"the image has 1 channels, and the autoencoder of .* takes 3"
    ) as error:
        build(folders["kl"]).fit([IMAGES[0], grey], 0, lambda line: None)
    assert error.value.number == 1
    with pytest.raises(RawError, match="9x8 does not divide by the 2 pixels"):
        build(folders["kl"]).fit([odd], 0, lambda line: None)


def test_it_is_imported_on_use_and_needs_no_torchvision(folders: dict[str, Path]) -> None:
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from transfuse.registry.plugins import Plugins\n"
        "plugins = Plugins.load(only=('adapters',))\n"
        f"codec = plugins.choose('codec', {{'name': 'diffusers', 'path': {str(folders['kl'])!r}}}, 'c').build()\n"
        "assert 'diffusers' not in sys.modules\n"
        "from transfuse_adapters.diffusers import model_classes\n"
        "assert set(model_classes()) == {'AutoencoderKL', 'VQModel'}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_diffusers_the_cure_is_said(
    build: Callable, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "diffusers"] or ["diffusers"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        TransfuseError, match=r"codec 'diffusers' needs diffusers .*pip install 'transfuse\[diff"
    ):
        build(folders["kl"]).fit(IMAGES, 0, lambda line: None)
