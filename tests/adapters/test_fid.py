"""FID over torchmetrics: equal to the formula in the features of a given network; what the files must be."""

import hashlib
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transfuse.errors import TransfuseError
from transfuse.metrics import Evaluation
from transfuse_adapters.fid import Fid, FidSettings
from transfuse_lab.evaluation.frechet import frechet_distance

from tests.tiny.evaluations import drawn, pictures

pytest.importorskip("torchmetrics", reason="torchmetrics is not installed: pip install 'transfuse[metrics]'")
INCEPTION = "torch-fidelity is not installed: pip install 'transfuse[fidelity]'"


class Network(nn.Module):
    """Four features, asked for as StyleGAN's Inception is."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        resized = torch.nn.functional.interpolate(x.float(), size=(9, 9))
        return self.layer(resized / 128 - 1).relu().mean((2, 3))


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network()


@pytest.fixture(scope="module")
def script(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "network.pt"
    torch.jit.script(network).save(path)
    return path


def fid(path: Path, **more: Any) -> Fid:
    return Fid(FidSettings(weights=str(path), **more))


def test_it_is_the_formula_in_the_networks_features(script: Path, network: Network) -> None:
    made, real = pictures(0, 20), [picture**2 for picture in pictures(1, 20)]

    def features(images: list[np.ndarray]) -> np.ndarray:
        levels = np.stack([(image * 255).round() for image in images])
        with torch.no_grad():
            return network(torch.from_numpy(levels)).numpy()

    found = fid(script).compute(drawn(made, real))
    assert found == {
        "fid": pytest.approx(frechet_distance(features(made), features(real)), rel=1e-4),
        "fid_images": 20,
    }
    assert found["fid"] > 0.01


def test_of_a_set_and_itself_it_is_0_and_a_metric_can_be_asked_again(script: Path) -> None:
    metric, images = fid(script), pictures(0)
    other = metric.compute(drawn(images, pictures(1)))
    assert metric.compute(drawn(images, images))["fid"] == pytest.approx(0, abs=1e-6)
    assert metric.compute(drawn(images, pictures(1))) == other


def test_grey_pictures_are_coloured_ones_of_three_equal_channels(script: Path) -> None:
    grey, real = pictures(0, shape=(1, 8, 8)), pictures(1)
    colour = [np.repeat(image, 3, axis=0) for image in grey]
    assert fid(script).compute(drawn(grey, real)) == fid(script).compute(drawn(colour, real))


def test_pictures_of_several_sizes_and_any_batch(script: Path) -> None:
    mixed = [*pictures(0, 3), *pictures(1, 2, (3, 5, 7)), *pictures(2, 1)]
    together, single = (fid(script, batch=size).compute(drawn(mixed, pictures(3))) for size in (4, 1))
    assert together == {"fid": pytest.approx(single["fid"], rel=1e-4), "fid_images": 6}


def test_against_all_training_pictures(script: Path) -> None:
    made, train = pictures(0), pictures(1, 9)
    one = Evaluation(
        drawn(made, made).task, [()] * 6, made, made, examples=lambda split: iter([((), x) for x in train])
    )
    found = fid(script, against="train").compute(one)
    assert found == pytest.approx(fid(script).compute(drawn(made, train)), rel=1e-4)


def test_two_pictures_at_least(script: Path) -> None:
    with pytest.raises(TransfuseError, match="at least two images made and two real ones, not 1 and 6"):
        fid(script).compute(drawn(pictures(0, 1), pictures(1)))


def test_the_record_tells_which_weights(script: Path) -> None:
    facts = fid(script).facts()
    assert facts["weights_sha256"] == hashlib.sha256(script.read_bytes()).hexdigest()
    assert facts["versions"]["torchmetrics"]


class Trap:
    """What a pickle could do to whoever opens it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("sprung"),)


def write(path: Path, what: str) -> None:
    if what == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    elif what == "torch pickle":
        torch.save({"layer": Trap()}, path)
    elif what == "numbers":
        torch.save([1, 2], path)
    elif what == "another script":
        torch.jit.script(nn.Linear(2, 2)).save(path)
    elif what == "text":
        path.write_text("no weights")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", "weights .* are no file: name one that holds the Inception"),
        ("text", "weights .* are no state dict that torch reads"),
        ("pickle", "weights .* are no state dict that torch reads"),
        ("torch pickle", "weights .* are no state dict that torch reads"),
        ("numbers", "are no state dict: it holds list, not tensors by name"),
        ("another script", "this TorchScript gives no features of pictures"),
    ],
)
def test_files_that_are_no_inception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "weights", what)
    with pytest.raises(TransfuseError, match=message) as error:
        fid(tmp_path / "weights").compute(drawn(pictures(0), pictures(1)))
    assert "\n" not in str(error.value)
    assert not Path("sprung").exists()


def test_a_state_dict_wants_torch_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"layer": torch.zeros(2)}, tmp_path / "weights.pth")
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(TransfuseError, match=r"needs torch_fidelity.*pip install 'transfuse\[fidelity\]'"):
        fid(tmp_path / "weights.pth").compute(drawn(pictures(0), pictures(1)))


def test_a_state_dict_of_other_layers(tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity", reason=INCEPTION)
    torch.save({"layer": torch.zeros(2)}, tmp_path / "weights.pth")
    with pytest.raises(TransfuseError, match=r"do not fill the Inception of 2015: .*Conv2d_1a_3x3") as error:
        fid(tmp_path / "weights.pth").compute(drawn(pictures(0), pictures(1)))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_random_inception_as_torchmetrics_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = pytest.importorskip("torch_fidelity", reason=INCEPTION).FeatureExtractorInceptionV3
    from torchmetrics.image.fid import FrechetInceptionDistance

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: {})
        patch.setattr(extractor, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        made = extractor("inception", ["2048"], "nothing")
        for layer in made.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
    weights = tmp_path / "inception.pth"
    torch.save(made.state_dict(), weights)
    images, real = pictures(0, 4), [picture / 2 for picture in pictures(1, 4)]
    state = torch.get_rng_state()
    metric = fid(weights)
    found = metric.compute(drawn(images, real))["fid"]
    assert torch.equal(torch.get_rng_state(), state)
    own = FrechetInceptionDistance(feature_extractor_weights_path=str(weights), antialias=False)
    for raws, is_real in ((images, False), (real, True)):
        own.update(torch.from_numpy((np.stack(raws) * 255).round().astype(np.uint8)), real=is_real)
    assert found == pytest.approx(float(own.compute()), rel=1e-4)
    assert found > 1e-3
    assert metric.compute(drawn(real, real))["fid"] == pytest.approx(0, abs=1e-3 * found)
